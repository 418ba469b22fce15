# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# A system that is one derivation: what it takes to build and to activate is not what the simulation is about.
{ lib, pkgs, name, ... }:
let
  given = import ./given.nix;
in
{
  system.build.toplevel = lib.mkForce (
    pkgs.runCommand "nixos-system-${name}" {
      inherit (given) changed;
      inherit (pkgs) runtimeShell;
      switch = ./switch-to-configuration.sh;
    } (builtins.readFile ./toplevel.sh)
  );
}
