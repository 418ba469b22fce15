# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Guards the first boot of a new system. What sets the boot entry and reboots leaves a trial; where
# there is none, this does nothing.
{ config, lib, ... }:

{
  # A container has no boot entry of its own.
  systemd.services.nix-ops-boot-guard = lib.mkIf (!config.boot.isContainer) {
    description = "Return to the system before where nobody gets in after a reboot";
    # The latter too, since a boot that is of no use may get no further.
    wantedBy = [
      "sysinit.target"
      "emergency.target"
    ];
    conflicts = [ "shutdown.target" ];
    before = [ "shutdown.target" ];
    unitConfig = {
      # It depends on nothing that could fail, and outlives what is stopped for an emergency.
      DefaultDependencies = false;
      IgnoreOnIsolate = true;
      # Not where the boot entries are: a file system of theirs that is missing would keep the guard from starting.
      RequiresMountsFor = "/nix/store /var/lib/nix-ops";
      ConditionPathExists = "/var/lib/nix-ops/trial";
      X-StopOnRemoval = false;
    };
    restartIfChanged = false;
    # Nothing ever waits for it.
    serviceConfig.Type = "simple";
    script = builtins.readFile ../sh/boot_guard.sh;
  };
}
