# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, pkgs, ... }:
let
  inherit (config.system.switch) inhibitors;
in
{
  options.system.switch.enable = lib.mkOption {
    type = lib.types.bool;
    default = true;
    description = "Whether the system has the program that switches to it.";
  };

  options.system.switch.inhibitors = lib.mkOption {
    type = lib.types.attrsOf lib.types.str;
    default = { };
    description = "Strings that keep a system from being switched to where they differ from those of the running one.";
  };

  config.system = {
    # The lines are for the check, which can read no JSON.
    systemBuilderCommands = ''
      ln -s ${pkgs.writeText "switch-inhibitors" (builtins.toJSON inhibitors)} $out/switch-inhibitors
      ln -s ${pkgs.writeText "switch-inhibitors-lines" (lib.concatStrings (lib.mapAttrsToList (name: value: "${name} ${value}\n") inhibitors))} $out/switch-inhibitors-lines
    '';
    preSwitchChecks.switchInhibitors = ''
      ${pkgs.runtimeShell} ${./switch-inhibitors.sh} "$@"
    '';
  };
}
