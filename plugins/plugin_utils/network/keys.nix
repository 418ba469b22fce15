# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What NixOps adds to a machine with deployment.keys: a unit for each key, and right owners after the users were made.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (config.deployment) keys;

  pathOf = key: toString key.path;

  # /run is mounted before every unit.
  isInRun = key: lib.hasPrefix "/run/" (pathOf key);

  wait = pkgs.writeScript "wait-for-key" (
    "#!${pkgs.runtimeShell}\n"
    + lib.replaceStrings [ "@sleep@" ] [ "${pkgs.coreutils}/bin/sleep" ] (
      builtins.readFile ../keys/wait.sh
    )
  );

  waiting = path: ''"${wait}" "${lib.replaceStrings [ "$" ] [ "$$" ] path}"'';

  # A machine may have hundreds of keys. A file is evaluated and built in a fraction of the time of a service, which nixpkgs
  # gives a script of its own. What the network says of systemd.services."NAME-key" is added to it.
  unitOf =
    name: key:
    let
      unit = "${name}-key.service";
    in
    pkgs.writeTextFile {
      name = "unit-${lib.replaceStrings [ ":" ] [ "-" ] unit}";
      destination = "/lib/systemd/system/${unit}";
      # A restart would restart the services that require the key.
      text =
        "[Unit]\nDescription=Wait for the key ${name}\n"
        + lib.optionalString (!isInRun key) "RequiresMountsFor=${pathOf key}\n"
        + "\n[Service]\nType=oneshot\nRemainAfterExit=true\nTimeoutStartSec=infinity\nX-RestartIfChanged=false\n"
        + "ExecStart=${waiting (pathOf key)}\n";
    };

  ownerOf =
    key:
    "set_key_owner ${
      lib.escapeShellArgs [
        (pathOf key)
        key.user
        key.group
        key.permissions
      ]
    }\n";
in
{
  config = lib.mkIf (keys != { }) {
    users.groups.keys = { };

    # A key may be sent before the activation that makes its user.
    system.activationScripts.nixops-keys = {
      deps = [
        "users"
        "groups"
      ];
      text =
        builtins.readFile ../keys/owners.sh
        + "described=$(describe_keys ${lib.escapeShellArgs (map pathOf (lib.attrValues keys))})\n"
        + lib.concatMapStrings ownerOf (lib.attrValues keys);
    };

    systemd.packages = lib.mapAttrsToList unitOf keys;

    systemd.services.nixops-keys = {
      # As send.sh, which makes the file.
      enable = lib.any (key: lib.hasPrefix "/run/keys/" (pathOf key)) (lib.attrValues keys);
      description = "Wait for the keys in /run/keys";
      wantedBy = [ "keys.target" ];
      before = [ "keys.target" ];
      restartIfChanged = false;
      unitConfig.DefaultDependencies = false;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        TimeoutStartSec = "infinity";
        ExecStart = waiting "/run/keys/done";
      };
    };
  };
}
