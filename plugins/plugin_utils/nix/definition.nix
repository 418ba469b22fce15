# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What the entrance and the stages ask about one machine, whatever format it came from.
{ config, options, ... }:

let
  deployment = config.deployment or { };
  system = config.system;

  # Whether the network itself says so; the priority is that of an option's own default otherwise.
  isSet = option: (option.highestPrio or 1500) < 1500;
in
{
  targetEnv = deployment.targetEnv or "none";
  targetHost = deployment.targetHost or config.networking.hostName;
  targetPort = deployment.targetPort or (builtins.head config.services.openssh.ports);
  targetUser = if isSet (options.deployment.targetUser or { }) then deployment.targetUser else null;
  sshOptions = deployment.sshOptions or [ ];
  privilegeEscalationCommand = deployment.privilegeEscalationCommand or [
    "sudo"
    "-H"
    "--"
  ];
  provisionSSHKey = deployment.provisionSSHKey or true;
  alwaysActivate =
    isSet (options.deployment.alwaysActivate or { }) && deployment.alwaysActivate;
  owners = deployment.owners or [ ];
  tags = deployment.tags or [ ];
  keys = builtins.attrNames (deployment.keys or { });
  nixosRelease = system.nixos.release or system.nixosRelease;
}
