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

  wait = pkgs.writeScript "wait-for-key" (
    "#!${pkgs.runtimeShell}\n"
    + lib.replaceStrings [ "@sleep@" ] [ "${pkgs.coreutils}/bin/sleep" ] (
      builtins.readFile ../keys/wait.sh
    )
  );

  # systemd replaces variables.
  wordOf = path: lib.replaceStrings [ "$" ] [ "$$" ] path;

  # One derivation for all keys, since a machine may have hundreds: nixpkgs evaluates hundreds of options for a service, and
  # builds two derivations. What the network says of systemd.services."NAME-key" is added to the unit.
  units =
    pkgs.runCommand "key-units"
      {
        inherit wait;
        keys = lib.concatStrings (
          lib.mapAttrsToList (name: key: "${name} ${pathOf key} ${wordOf (pathOf key)}\n") keys
        );
        passAsFile = [ "keys" ];
        preferLocalBuild = true;
        allowSubstitutes = false;
      }
      (builtins.readFile ../keys/units.sh);

  # As stat tells what is right.
  ownerOf =
    key:
    lib.concatStringsSep " " [
      "regular file"
      (lib.removePrefix "0" key.permissions)
      key.user
      key.group
      (pathOf key)
    ];

  owners = pkgs.writeText "key-owners" (
    lib.concatMapStrings (key: ownerOf key + "\n") (lib.attrValues keys)
  );
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
      text = ''
        [ -d /run/keys ] || mkdir -m 0750 /run/keys
        chown root:keys /run/keys || :
      ''
      + builtins.readFile ../keys/owners.sh
      + "set_key_owners ${owners}\n";
    };

    systemd.packages = [ units ];

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
        ExecStart = "${wait} /run/keys/done";
      };
    };
  };
}
