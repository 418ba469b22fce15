# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, ... }:
let
  cfg = config.nixpkgs;
  inherit (lib) mkOption types;
in
{
  options.nixpkgs = {
    pkgs = mkOption { type = types.raw; description = "The package set to use."; };
    config = mkOption { type = types.attrs; default = { }; description = "Configuration of the package set."; };
    overlays = mkOption { type = types.listOf types.raw; default = [ ]; description = "Overlays of the package set."; };
    system = mkOption { type = types.str; default = "x86_64-linux"; description = "What the system is built for."; };
    initialSystem = mkOption { type = types.nullOr types.str; default = null; internal = true; };
    hostPlatform = mkOption { type = types.nullOr (types.either types.str types.attrs); default = null; description = "What the system runs on."; };
    localSystem = mkOption { type = types.attrs; default = { inherit (cfg) system; }; description = "What the system runs on."; };
  };

  config = {
    nixpkgs.pkgs = lib.mkOptionDefault (import ../../.. {
      inherit (cfg) config overlays;
      system =
        if cfg.hostPlatform == null then cfg.system else cfg.hostPlatform.system or cfg.hostPlatform;
    });
    _module.args.pkgs = lib.mkOptionDefault cfg.pkgs;
    _module.args.utils = {
      toShellPath = shell: if lib.isDerivation shell then "${shell}${shell.shellPath or "/bin/sh"}" else toString shell;
      escapeSystemdPath = path: lib.replaceStrings [ "/" ] [ "-" ] (lib.removePrefix "/" path);
    };
  };
}
