# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The options of deployment.* and networking.* that NixOps 2 has for machines that exist
# already, with its types, defaults and priorities; and deployment.healthChecks, which is our own.
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
          description = "What the key contains.";
        };
        keyCommand = mkOption {
          type = types.nullOr (types.listOf types.str);
          default = null;
          description = "A command on the controller that prints what the key contains.";
        };
        keyFile = mkOption {
          type = types.nullOr types.path;
          default = null;
          # As text, or answering as JSON would copy the secret to the store.
          apply = file: if file == null then null else toString file;
          description = "A file on the controller that holds what the key contains.";
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
      description = "What the controller asks for.";
    };
    status = mkOption {
      type = types.nonEmptyListOf (types.ints.between 100 599);
      default = [ 200 ];
      description = "Status codes of which the answer must have one.";
    };
    contains = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "Text that must be in the answer.";
    };
    headers = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Headers of the request. They are a variable of the host, so no secret belongs here.";
    };
    validateCerts = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the server must prove by a certificate who it is.";
    };
  };
in
{
  options.deployment = {
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
      description = "Kind of environment the machine lives in; none means that it exists already.";
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
    privilegeEscalationCommand = mkOption {
      type = types.listOf types.str;
      default = [
        "sudo"
        "-H"
        "--"
      ];
      description = "Command that becomes root where the SSH user is another, run verbatim.";
    };
    provisionSSHKey = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the machine gets an SSH key of the deployment.";
    };
    alwaysActivate = mkOption {
      type = types.bool;
      default = true;
      description = "Whether to activate also where the machine runs the system already.";
    };
    owners = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "E-mail addresses of the machine's owners.";
    };
    hasFastConnection = mkOption {
      type = types.bool;
      default = false;
      description = "Whether copying everything beats substituting on the machine.";
    };
    tags = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Tags of the machine; each becomes an inventory group tag_NAME.";
    };
    keys = mkOption {
      # A bare string is NixOps' old way to give the text.
      type = types.attrsOf (
        types.coercedTo types.str (text: { inherit text; }) (types.submodule key)
      );
      default = { };
      description = "Keys to bring to the machine.";
    };
    healthChecks = {
      units = mkOption {
        type = types.listOf (types.strMatching "[a-zA-Z0-9:_.\\@][a-zA-Z0-9:_.\\@-]*");
        default = [ ];
        example = [ "nginx" ];
        # As systemctl reads it.
        apply = map (name: if hasType name then name else "${name}.service");
        description = "Units that must be active; a name without a suffix means .service.";
      };
      commands = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Lines for /bin/sh that, run as root on the machine, must exit with 0.";
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
        description = "What the controller must be able to get by HTTP; a bare string is a URL.";
      };
      stable = mkOption {
        type = types.ints.unsigned;
        default = 3;
        description = "For how many seconds a unit must stay active without being restarted.";
      };
      successes = mkOption {
        type = types.ints.positive;
        default = 1;
        description = "How many rounds of all checks must pass, one after the other.";
      };
      interval = mkOption {
        type = types.ints.positive;
        default = 1;
        description = "Seconds between two rounds.";
      };
      deadline = mkOption {
        type = types.ints.positive;
        default = 60;
        description = "Seconds within which all of it must have passed.";
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
