# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# What every machine shall be.
{ config, pkgs, ... }:
let
  given = import ./given.nix;
in
{
  services.openssh.enable = true;
  environment.systemPackages = [ pkgs.hello ];
  environment.etc."first-deploy".text = given.first;
  environment.etc."option".text = given.options.${config.networking.hostName} or "";

  systemd.services.greeter = {
    wantedBy = [ "multi-user.target" ];
    script = ''
      while true; do
        echo "${given.changed}"
        sleep 60
      done
    '';
  };
}
