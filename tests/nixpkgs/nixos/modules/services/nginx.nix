# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# A web server under the options that people know; what answers is busybox's httpd, on one port, for one host.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.nginx;
  inherit (lib) mkOption types;
  hosts = lib.attrValues cfg.virtualHosts;
  host = lib.findFirst (h: h.default) (lib.head hosts) hosts;
  virtualHost = types.submodule {
    options = {
      default = mkOption { type = types.bool; default = false; description = "Whether this host answers for all others."; };
      root = mkOption { type = types.path; description = "The directory that is served."; };
      port = mkOption { type = types.port; default = 80; description = "The port that is listened on."; };
    };
  };
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
      serviceConfig.ExecStart = "${pkgs.busybox}/bin/httpd -f -p ${toString host.port} -h ${host.root}";
      serviceConfig.Restart = "always";
    };
  };
}
