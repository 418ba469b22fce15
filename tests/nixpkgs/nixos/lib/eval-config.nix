# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# From a machine's modules to its configuration, with the arguments and the answer of nixpkgs' own.
{ system ? builtins.currentSystem or null
, pkgs ? null
, lib ? import ../../lib
, modules
, specialArgs ? { }
, extraArgs ? { }
, baseModules ? import ../modules/module-list.nix
, extraModules ? [ ]
, modulesLocation ? null
, check ? true
, prefix ? [ ]
}:
let
  systemModule = {
    _file = ./eval-config.nix;
    config = {
      nixpkgs.system = lib.mkIf (system != null) (lib.mkDefault system);
      _module.args.pkgs = lib.mkIf (pkgs != null) (lib.mkForce pkgs);
    };
  };
  located = if modulesLocation == null then modules else map (lib.setDefaultModuleLocation modulesLocation) modules;
  evaluated = lib.evalModules {
    inherit prefix check;
    class = "nixos";
    args = extraArgs;
    specialArgs = { modulesPath = toString ../modules; } // specialArgs;
    modules = baseModules ++ extraModules ++ [ systemModule { _module.args = { inherit baseModules extraModules modules; }; } ] ++ located;
  };
in
{
  inherit (evaluated) config options _module type class;
  inherit (evaluated._module.args) pkgs;
  inherit lib;
  extraArgs = extraArgs // { inherit baseModules extraModules modules; };
  extendModules = more: evaluated.extendModules more;
}
