# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What NixOps adds to a machine with deployment.keys: a unit for each key, and right owners after the users were made.
{ config, lib, ... }:

let
  inherit (config.deployment) keys;

  # /run is mounted before every unit.
  isInRun = key: lib.hasPrefix "/run/" "${toString key.path}";

  waiting = path: builtins.readFile ../keys/wait.sh + "wait_for ${lib.escapeShellArg path}\n";

  unitOf = name: key: {
    name = "${name}-key";
    value = {
      description = "Wait for the key ${name}";
      # A restart would restart the services that require the key.
      restartIfChanged = false;
      unitConfig = lib.mkIf (!isInRun key) { RequiresMountsFor = toString key.path; };
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        TimeoutStartSec = "infinity";
      };
      script = waiting (toString key.path);
    };
  };

  ownerOf =
    key:
    "set_key_owner ${
      lib.escapeShellArgs [
        (toString key.path)
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
        builtins.readFile ../keys/owners.sh + lib.concatMapStrings ownerOf (lib.attrValues keys);
    };

    systemd.services = lib.mapAttrs' unitOf keys // {
      nixops-keys = {
        # As send.sh, which makes the file.
        enable = lib.any (key: lib.hasPrefix "/run/keys/" (toString key.path)) (lib.attrValues keys);
        description = "Wait for the keys in /run/keys";
        wantedBy = [ "keys.target" ];
        before = [ "keys.target" ];
        restartIfChanged = false;
        unitConfig.DefaultDependencies = false;
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          TimeoutStartSec = "infinity";
        };
        script = waiting "/run/keys/done";
      };
    };
  };
}
