# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# A web server under the options that people know; what answers is busybox's httpd, on one port, for one host.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.nginx;
  inherit (lib) mkOption types;
  root = mkOption { type = types.nullOr types.path; default = null; description = "The directory that is served."; };
  virtualHost = types.submodule {
    options = {
      inherit root;
      default = mkOption { type = types.bool; default = false; description = "Whether this host answers for all others."; };
      listen = mkOption {
        type = types.listOf (types.submodule {
          options.addr = mkOption { type = types.str; default = "0.0.0.0"; description = "The address that is listened on."; };
          options.port = mkOption { type = types.port; default = 80; description = "The port that is listened on."; };
        });
        default = [{ }];
        description = "Where the host is served; the first place counts.";
      };
      locations = mkOption {
        type = types.attrsOf (types.submodule { options = { inherit root; }; });
        default = { };
        description = "Parts of the host; only `/` counts.";
      };
    };
  };
  hosts = lib.attrValues cfg.virtualHosts;
  host = lib.findFirst (h: h.default) (lib.head hosts) hosts;
  listen = lib.head host.listen;
  directory = if host.root != null then host.root else host.locations."/".root;
in
{
  options.services.nginx = {
    enable = mkOption { type = types.bool; default = false; description = "Whether the web server runs."; };
    virtualHosts = mkOption { type = types.attrsOf virtualHost; default = { }; description = "The host that is served."; };
  };

  config = lib.mkIf cfg.enable {
    assertions = [{ assertion = hosts != [ ]; message = "services.nginx needs a host in virtualHosts."; }];
    systemd.services.nginx = {
      description = "Nginx Web Server";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      serviceConfig.ExecStart = "${pkgs.busybox}/bin/httpd -f -p ${listen.addr}:${toString listen.port} -h ${directory}";
      serviceConfig.Restart = "always";
    };
  };
}
