# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Guards the first boot of a new system. An activation that sets the boot entry and reboots writes a trial; without a
# trial this does nothing.
{ config, lib, ... }:

let
  places = builtins.readFile ../machine/places.sh;
  place =
    name:
    lib.removePrefix "${name}=" (
      lib.head (lib.filter (lib.hasPrefix "${name}=") (lib.splitString "\n" places))
    );
in
{
  # A container has no boot entry of its own.
  systemd.services.nix-ops-boot-guard = lib.mkIf (!config.boot.isContainer) {
    description = "Return to the previous system if nobody gets in after a reboot";
    # The emergency target too: a broken system may get no further.
    wantedBy = [
      "sysinit.target"
      "emergency.target"
    ];
    conflicts = [ "shutdown.target" ];
    before = [ "shutdown.target" ];
    unitConfig = {
      # It depends on nothing that could fail, and goes on when systemd stops units for an emergency.
      DefaultDependencies = false;
      IgnoreOnIsolate = true;
      # Not the boot entries' file systems: if one is missing, the guard would not start.
      RequiresMountsFor = "/nix/store ${place "nix_ops_kept"}";
      ConditionPathExists = place "nix_ops_trial";
      X-StopOnRemoval = false;
    };
    restartIfChanged = false;
    # No unit waits for it.
    serviceConfig.Type = "simple";
    script = places + builtins.readFile ../activation/shared.sh + builtins.readFile ../activation/boot_guard.sh;
  };
}
