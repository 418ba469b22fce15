# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, pkgs, ... }:
let
  cfg = config.services.openssh;
  inherit (lib) mkOption mkRenamedOptionModule types;
  old = name: new: mkRenamedOptionModule [ "services" "openssh" name ] [ "services" "openssh" "settings" new ];
  shown = value: if value == true then "yes" else if value == false then "no" else toString value;
  knownHost = types.submodule ({ name, ... }: {
    options = {
      hostNames = mkOption { type = types.listOf types.str; default = [ name ]; description = "Names of the host."; };
      extraHostNames = mkOption { type = types.listOf types.str; default = [ ]; description = "More names of the host."; };
      publicKey = mkOption { type = types.str; description = "The host's public key."; };
    };
  });
in
{
  imports = [
    (old "permitRootLogin" "PermitRootLogin")
    (old "passwordAuthentication" "PasswordAuthentication")
    (old "challengeResponseAuthentication" "KbdInteractiveAuthentication")
    (old "kbdInteractiveAuthentication" "KbdInteractiveAuthentication")
  ];

  options.services.openssh = {
    enable = mkOption { type = types.bool; default = false; description = "Whether the machine can be reached by ssh."; };
    ports = mkOption { type = types.listOf types.port; default = [ 22 ]; description = "Ports of sshd."; };
    openFirewall = mkOption { type = types.bool; default = true; description = "Accepted, as there is no firewall."; };
    startWhenNeeded = mkOption { type = types.enum [ false ]; default = false; description = "Only false is supported."; };
    listenAddresses = mkOption {
      type = types.listOf (types.submodule {
        options.addr = mkOption { type = types.str; description = "An address."; };
        options.port = mkOption { type = types.nullOr types.port; default = null; description = "A port."; };
      });
      default = [ ];
      description = "Addresses of sshd.";
    };
    authorizedKeysFiles = mkOption {
      type = types.listOf types.str;
      default = [ "%h/.ssh/authorized_keys" "/etc/ssh/authorized_keys.d/%u" ];
      description = "Files of public keys that may log in.";
    };
    settings = mkOption {
      type = types.submodule {
        freeformType = types.attrsOf (types.oneOf [ types.str types.int types.bool ]);
        options.PermitRootLogin = mkOption {
          type = types.enum [ "yes" "without-password" "prohibit-password" "forced-commands-only" "no" ];
          default = "prohibit-password";
          description = "Whether root can log in.";
        };
        options.PasswordAuthentication = mkOption { type = types.bool; default = true; description = "Whether a password is enough."; };
      };
      default = { };
      description = "Settings of `sshd_config`.";
    };
    extraConfig = mkOption { type = types.lines; default = ""; description = "More lines of `sshd_config`."; };
  };
  options.programs.ssh.knownHosts = mkOption { type = types.attrsOf knownHost; default = { }; description = "Hosts whose keys are known."; };

  config = lib.mkMerge [
    {
      environment.etc."ssh/ssh_known_hosts" = lib.mkIf (config.programs.ssh.knownHosts != { }) {
        text = lib.concatMapStrings
          (h: "${lib.concatStringsSep "," (h.hostNames ++ h.extraHostNames)} ${h.publicKey}\n")
          (lib.attrValues config.programs.ssh.knownHosts);
      };
    }
    (lib.mkIf cfg.enable {
      users.users.sshd = { isSystemUser = true; group = "nogroup"; home = "/run/sshd"; };
      environment.etc."ssh/sshd_config".text = ''
        ${lib.concatMapStrings (port: "Port ${toString port}\n") cfg.ports}
        ${lib.concatMapStrings (a: "ListenAddress ${a.addr}${lib.optionalString (a.port != null) ":${toString a.port}"}\n") cfg.listenAddresses}
        HostKey /etc/ssh/ssh_host_ed25519_key
        AuthorizedKeysFile ${toString cfg.authorizedKeysFiles}
        UsePAM yes
        UseDNS no
        PrintMotd no
        SetEnv PATH=${config.environment.searchPath}
        Subsystem sftp /usr/lib/openssh/sftp-server
        ${lib.concatStrings (lib.mapAttrsToList (name: value: "${name} ${shown value}\n") cfg.settings)}
        ${cfg.extraConfig}
      '';
      systemd.services.sshd = {
        description = "SSH Daemon";
        wantedBy = [ "multi-user.target" ];
        after = [ "network.target" ];
        stopIfChanged = false;
        path = [ pkgs.openssh ];
        restartTriggers = [ config.environment.etc."ssh/sshd_config".source ];
        preStart = ''
          if ! [ -s /etc/ssh/ssh_host_ed25519_key ]; then
            rm -f /etc/ssh/ssh_host_ed25519_key
            ssh-keygen -q -t ed25519 -N "" -C "" -f /etc/ssh/ssh_host_ed25519_key
          fi
        '';
        serviceConfig = {
          Type = "notify";
          ExecStart = "/usr/sbin/sshd -D -e -f /etc/ssh/sshd_config";
          KillMode = "process";
          Restart = "always";
          RuntimeDirectory = "sshd";
          RuntimeDirectoryPreserve = true;
          RuntimeDirectoryMode = "0755";
        };
      };
    })
  ];
}
