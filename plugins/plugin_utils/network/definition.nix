# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The definition of one machine, the same for networks and flakes.
{ config, options, ... }:

let
  deployment = config.deployment or { };
  system = config.system;

  # Whether the network itself sets the option: its own default has priority 1500.
  isSet = option: (option.highestPrio or 1500) < 1500;

  # Without context: the machine's closure has what a command refers to, this answer must not.
  text = builtins.unsafeDiscardStringContext;

  checks = deployment.healthChecks or { };
  kinds = [
    "units"
    "commands"
    "tcp"
    "http"
  ];
  # Another tool may have an option of the same name with other checks.
  isOurs = builtins.all (kind: checks ? ${kind}) kinds;
  healthChecks =
    if !isOurs || builtins.all (kind: checks.${kind} == [ ]) kinds then
      null
    else
      {
        units = map text checks.units;
        commands = map text checks.commands;
        http = map (check: {
          url = text check.url;
          contains = if check.contains == null then null else text check.contains;
          headers = builtins.mapAttrs (_: text) check.headers;
          inherit (check) status validateCerts;
        }) checks.http;
        inherit (checks)
          tcp
          stable
          successes
          interval
          deadline
          ;
      };
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
  inherit healthChecks;
  nixosRelease = system.nixos.release or system.nixosRelease;
}
