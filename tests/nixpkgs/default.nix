# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The package set: what a small system is made of, on nothing but the computer's static busybox.
{ system ? builtins.currentSystem or "x86_64-linux"
, localSystem ? { inherit system; }
, crossSystem ? null
, config ? { }
, overlays ? [ ]
, ...
}@args:
let
  lib = import ./lib;
  base = final: import ./pkgs {
    inherit lib config;
    pkgs = final;
    system = args.system or localSystem.system or system;
  };
in
lib.fix (lib.extends (lib.composeManyExtensions overlays) (final: base final // { inherit overlays; }))
