# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# A system that is built as one small derivation.
{ config, lib, pkgs, name, ... }:
let
  given = import ./given.nix;
in
{
  system.build.toplevel = lib.mkForce (
    pkgs.runCommand "nixos-system-${name}" {
      inherit (given) changed;
      # Evaluates what a system consists of, without building it.
      evaluated = lib.optionals given.evaluates (
        map (one: builtins.unsafeDiscardStringContext one.drvPath) [
          config.system.build.etc
          config.system.path
        ]
      );
      inherit (pkgs) runtimeShell;
      switch = ./switch-to-configuration.sh;
    } (builtins.readFile ./toplevel.sh)
  );
}
