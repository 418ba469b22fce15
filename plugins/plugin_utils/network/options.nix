# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# NixOps 2's options deployment.* and networking.* for machines that exist already, with the same types, defaults and
# priorities; and our own deployment.healthChecks and deployment.sshHostKeys.
{
  config,
  lib,
  ...
}:

let
  inherit (lib) mkOption types;

  key =
    { name, config, ... }:
    {
      options = {
        name = mkOption {
          type = types.str;
          default = name;
          description = "Name of the key's file.";
        };
        text = mkOption {
          type = types.nullOr types.str;
          default = null;
          description = "Content of the key.";
        };
        keyCommand = mkOption {
          type = types.nullOr (types.listOf types.str);
          default = null;
          description = "Command on the controller that prints the content of the key.";
        };
        keyFile = mkOption {
          type = types.nullOr types.path;
          default = null;
          # As text: as a path, it would be copied into the store.
          apply = file: if file == null then null else toString file;
          description = "File on the controller with the content of the key.";
        };
        destDir = mkOption {
          type = types.path;
          default = "/run/keys";
          description = "Directory of the key on the machine.";
        };
        path = mkOption {
          type = types.path;
          default = "${config.destDir}/${config.name}";
          internal = true;
          description = "Path of the key on the machine.";
        };
        user = mkOption {
          type = types.str;
          default = "root";
          description = "Owner of the key's file.";
        };
        group = mkOption {
          type = types.str;
          default = "root";
          description = "Group of the key's file.";
        };
        permissions = mkOption {
          type = types.str;
          default = "0600";
          description = "Mode of the key's file, as chmod takes it.";
        };
        uploadAt = mkOption {
          type = types.enum [
            "pre-activation"
            "post-activation"
          ];
          default = "pre-activation";
          description = "Whether a deploy sends the key before the switch or after its acknowledgement.";
        };
      };
    };

  unitTypes = [
    "service"
    "socket"
    "target"
    "timer"
    "path"
    "mount"
    "automount"
    "swap"
    "slice"
    "scope"
    "device"
  ];
  hasType = name: builtins.any (type: lib.hasSuffix ".${type}" name) unitTypes;

  httpCheck.options = {
    url = mkOption {
      type = types.strMatching "https?://[^[:space:]]+";
      description = "URL that the controller requests.";
    };
    status = mkOption {
      type = types.nonEmptyListOf (types.ints.between 100 599);
      default = [ 200 ];
      description = "Status codes that pass.";
    };
    contains = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Text that the answer has to contain.";
    };
    headers = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Headers of the request. They become a variable of the host, so don't use a secret.";
    };
    validateCerts = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the server's certificate has to be valid.";
    };
  };
in
{
  # Users may import another copy of this file (nixos-module.nix). Modules with the same key are loaded once.
  key = "nix.ops.options";

  options.deployment = {
    declaredBy = mkOption {
      type = types.str;
      default = "nix.ops";
      internal = true;
      readOnly = true;
      description = "Tells these options from another tool's.";
    };
    name = mkOption {
      type = types.str;
      description = "Name of the deployment, set by the deployment.";
    };
    uuid = mkOption {
      type = types.str;
      description = "UUID of the deployment, set by the deployment.";
    };
    arguments = mkOption {
      description = "Arguments of the network, set by the deployment.";
    };
    targetEnv = mkOption {
      type = types.str;
      default = "none";
      description = "Kind of environment of the machine; none means that it exists already.";
    };
    targetHost = mkOption {
      type = types.str;
      description = "Host name or address by which the controller reaches the machine.";
    };
    targetPort = mkOption {
      type = types.int;
      description = "Port of the machine's SSH server.";
    };
    targetUser = mkOption {
      type = types.str;
      default = "root";
      description = "User of the SSH connection.";
    };
    sshOptions = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Further arguments of the SSH client, given to it verbatim.";
    };
    sshHostKeys = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP0t" ];
      description = "Public host keys of the machine's SSH server, as in ssh_host_ed25519_key.pub.";
    };
    privilegeEscalationCommand = mkOption {
      type = types.listOf types.str;
      default = [
        "sudo"
        "-H"
        "--"
      ];
      description = "Command that becomes root if the SSH user is not root, run verbatim.";
    };
    provisionSSHKey = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the machine gets an SSH key of the deployment.";
    };
    alwaysActivate = mkOption {
      type = types.bool;
      default = true;
      description = "Whether to activate even if the machine runs the system already.";
    };
    owners = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "E-mail addresses of the machine's owners.";
    };
    hasFastConnection = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to copy everything as it is, instead of letting the machine substitute and compressing.";
    };
    buildOnTarget = mkOption {
      type = types.bool;
      default = false;
      description = "Whether the machine builds its own system.";
    };
    tags = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Tags of the machine; each becomes an inventory group tag_NAME.";
    };
    keys = mkOption {
      # In old NixOps networks the text is a plain string.
      type = types.attrsOf (
        types.coercedTo types.str (text: { inherit text; }) (types.submodule key)
      );
      default = { };
      description = "Keys to send to the machine.";
    };
    # Of NixOps 1.7. Other values than these defaults are refused.
    encryptedLinksTo = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Not supported.";
    };
    storeKeysOnMachine = mkOption {
      type = types.bool;
      default = false;
      description = "Not supported.";
    };
    autoLuks = mkOption {
      type = types.attrs;
      default = { };
      description = "Not supported.";
    };
    autoRaid0 = mkOption {
      type = types.attrs;
      default = { };
      description = "Not supported.";
    };
    healthChecks = {
      units = mkOption {
        type = types.listOf (types.strMatching "[a-zA-Z0-9:_.\\@][a-zA-Z0-9:_.\\@-]*");
        default = [ ];
        example = [ "nginx" ];
        # systemctl does the same.
        apply = map (name: if hasType name then name else "${name}.service");
        description = "Units that must be active; a name without a suffix means .service.";
      };
      commands = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Lines for /bin/sh on the machine, run as root, that must exit with 0.";
      };
      tcp = mkOption {
        type = types.listOf (types.ints.between 1 65535);
        default = [ ];
        example = [ 443 ];
        description = "Ports of the machine to which the controller must be able to connect.";
      };
      http = mkOption {
        type = types.listOf (types.coercedTo types.str (url: { inherit url; }) (types.submodule httpCheck));
        default = [ ];
        example = [ "https://www.example.org/" ];
        description = "HTTP requests of the controller that must succeed; a plain string is a URL.";
      };
      stable = mkOption {
        type = types.ints.unsigned;
        default = 3;
        description = "Seconds for which a unit must stay active without being restarted.";
      };
      successes = mkOption {
        type = types.ints.positive;
        default = 1;
        description = "Number of rounds of all checks that must pass in a row.";
      };
      interval = mkOption {
        type = types.ints.positive;
        default = 1;
        description = "Seconds between two rounds.";
      };
      deadline = mkOption {
        type = types.ints.positive;
        default = 60;
        description = "Seconds within which the checks must pass.";
      };
    };
  };

  options.networking = {
    privateIPv4 = mkOption {
      type = types.str;
      example = "10.1.2.3";
      description = "Address of the machine within the network.";
    };
    publicIPv4 = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "198.51.100.123";
      description = "Publicly routable address of the machine.";
    };
    vpnPublicKey = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Public key of the machine in a VPN.";
    };
  };

  config.deployment = {
    targetHost = lib.mkDefault config.networking.hostName;
    targetPort = lib.mkDefault (lib.head config.services.openssh.ports);
  };
}
