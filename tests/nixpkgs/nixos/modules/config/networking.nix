# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, pkgs, ... }:
let
  cfg = config.networking;
  inherit (lib) mkOption types;
  address = types.submodule {
    options.address = mkOption { type = types.str; description = "The address."; };
    options.prefixLength = mkOption { type = types.ints.between 0 128; description = "Bits of the network's part."; };
  };
  interface = types.submodule ({ name, ... }: {
    options = {
      name = mkOption { type = types.str; default = name; description = "The interface's name."; };
      useDHCP = mkOption { type = types.nullOr types.bool; default = null; description = "Accepted, without effect."; };
      ipv4.addresses = mkOption { type = types.listOf address; default = [ ]; description = "Addresses of the interface."; };
      ipv6.addresses = mkOption { type = types.listOf address; default = [ ]; description = "Addresses of the interface."; };
    };
  });
  addressesOf = i: map (a: "${a.address}/${toString a.prefixLength}") (i.ipv4.addresses ++ i.ipv6.addresses);
  addressed = lib.filter (i: addressesOf i != [ ]) (lib.attrValues cfg.interfaces);
  # By its path, as busybox' shell prefers its own `ip` to what is in PATH.
  ip = "${pkgs.iproute2}/bin/ip";
  gateway = mkOption {
    type = types.nullOr (types.either types.str (types.attrsOf types.anything));
    default = null;
    description = "The default route's gateway.";
  };
in
{
  options.networking = {
    hostName = mkOption {
      type = types.strMatching "|[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?";
      default = "nixos";
      description = "The machine's name.";
    };
    fqdn = mkOption {
      type = types.str;
      default = cfg.hostName + lib.optionalString (cfg.domain != null) ".${cfg.domain}";
      description = "The machine's full name.";
    };
    hosts = mkOption { type = types.attrsOf (types.listOf types.str); default = { }; description = "Names by address."; };
    extraHosts = mkOption { type = types.lines; default = ""; description = "Lines of `/etc/hosts`."; };
    interfaces = mkOption { type = types.attrsOf interface; default = { }; description = "Network interfaces."; };
    defaultGateway = gateway;
    defaultGateway6 = gateway;
  };

  config = {
    environment.etc.hostname.text = cfg.hostName + "\n";
    environment.etc.hosts.text = ''
      127.0.0.1 localhost
      ::1 localhost
      127.0.0.2 ${cfg.hostName}
      ${lib.concatStrings (lib.mapAttrsToList (ip: names: "${ip} ${toString names}\n") cfg.hosts)}${cfg.extraHosts}
    '';
    system.activationScripts.hostname = "hostname ${lib.escapeShellArg cfg.hostName}";

    systemd.services = lib.listToAttrs (map
      (i: lib.nameValuePair "network-addresses-${i.name}" {
        description = "Address configuration of ${i.name}";
        wantedBy = [ "multi-user.target" "network.target" ];
        before = [ "network-setup.service" "network.target" ];
        stopIfChanged = false;
        serviceConfig.Type = "oneshot";
        serviceConfig.RemainAfterExit = true;
        script = ''
          state=/run/nixos/network/addresses/${i.name}
          mkdir -p "''${state%/*}"
          ${ip} link set ${lib.escapeShellArg i.name} up
          for cidr in ${lib.escapeShellArgs (addressesOf i)}; do
            echo "$cidr" >>"$state"
            echo "adding address $cidr..."
            ${ip} addr replace "$cidr" dev ${lib.escapeShellArg i.name}
          done
        '';
        preStop = ''
          state=/run/nixos/network/addresses/${i.name}
          if [ -e "$state" ]; then
            while read -r cidr; do
              echo "deleting address $cidr..."
              ${ip} addr del "$cidr" dev ${lib.escapeShellArg i.name} || :
            done <"$state"
            rm -f "$state"
          fi
        '';
      })
      addressed) // lib.optionalAttrs (cfg.defaultGateway != null && addressed != [ ]) {
      network-setup = {
        description = "Networking Setup";
        after = map (i: "network-addresses-${i.name}.service") addressed;
        # A route goes with the address that it was set by.
        partOf = map (i: "network-addresses-${i.name}.service") addressed;
        before = [ "network.target" ];
        wantedBy = [ "network.target" "multi-user.target" ];
        serviceConfig.Type = "oneshot";
        serviceConfig.RemainAfterExit = true;
        script = "${ip} route replace default via ${lib.escapeShellArg (cfg.defaultGateway.address or cfg.defaultGateway)}";
      };
    };
  };
}
