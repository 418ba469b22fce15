# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The definition of one machine, the same for networks and flakes.
{ config, options, ... }:

let
  deployment = config.deployment or { };

  # Another tool may declare an option without a default, or with null for what is not set.
  said =
    option: default:
    let
      isDefined = options.deployment.${option}.isDefined or true;
      value = if isDefined then deployment.${option} or null else null;
    in
    if value == null then default else value;

  system = config.system;

  # Whether the network itself sets the option: its own default has priority 1500.
  isSet = option: (option.highestPrio or 1500) < 1500;

  # Our own module sets the port by mkDefault, so that machines can read each other's.
  isPortSet = (options.deployment.targetPort.highestPrio or 1500) < 1000;

  # Without context: the machine's closure has what a command refers to, this answer must not.
  text = builtins.unsafeDiscardStringContext;

  # Options of NixOps 1.7, and their defaults.
  unsupported = {
    encryptedLinksTo = [ ];
    storeKeysOnMachine = false;
    autoLuks = { };
    autoRaid0 = { };
  };

  checks = said "healthChecks" { };
  kinds = [
    "units"
    "commands"
    "tcp"
    "http"
  ];
  # Another tool may have an option of the same name with other checks.
  isOurs = builtins.isAttrs checks && builtins.all (kind: checks ? ${kind}) kinds;
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

  # Everything but the contents: these are secret, and this answer is remembered.
  sources = [
    "text"
    "keyFile"
    "keyCommand"
  ];
  withoutContents = key: {
    path = text (toString key.path);
    user = text key.user;
    group = text key.group;
    permissions = text key.permissions;
    uploadAt = key.uploadAt or "pre-activation";
    # As text: as a path, it would be copied into the store.
    keyFile = if (key.keyFile or null) == null then null else text (toString key.keyFile);
    sources = builtins.filter (source: (key.${source} or null) != null) sources;
  };
  declared = said "keys" { };
  areKeys =
    builtins.isAttrs declared
    && builtins.all (key: builtins.isAttrs key && key ? path) (builtins.attrValues declared);
  keys = if areKeys then builtins.mapAttrs (_: withoutContents) declared else null;
in
{
  targetEnv = said "targetEnv" "none";
  targetHost = said "targetHost" config.networking.hostName;
  # The default of an option that the network leaves alone would hide the port of ssh's own configuration.
  targetPort =
    if isPortSet || isSet (options.services.openssh.ports or { }) then
      said "targetPort" (builtins.head config.services.openssh.ports)
    else
      null;
  targetUser =
    if isSet (options.deployment.targetUser or { }) then said "targetUser" null else null;
  sshOptions = said "sshOptions" [ ];
  sshHostKeys = said "sshHostKeys" [ ];
  privilegeEscalationCommand = said "privilegeEscalationCommand" [
    "sudo"
    "-H"
    "--"
  ];
  provisionSSHKey = said "provisionSSHKey" true;
  alwaysActivate =
    if isSet (options.deployment.alwaysActivate or { }) then said "alwaysActivate" false else false;
  # Like those of alwaysActivate, its own default does not count.
  hasFastConnection =
    if isSet (options.deployment.hasFastConnection or { }) then
      said "hasFastConnection" null
    else
      null;
  buildOnTarget = said "buildOnTarget" false;
  owners = said "owners" [ ];
  tags = said "tags" [ ];
  inherit keys;
  unsupported = builtins.filter (option: said option unsupported.${option} != unsupported.${option}) (
    builtins.attrNames unsupported
  );
  inherit healthChecks;
  nixosRelease = system.nixos.release or system.nixosRelease;
}
