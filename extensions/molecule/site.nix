# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{
  network.description = "Two machines, reached by the names that the fleet's ssh_config gives them";

  defaults =
    { name, pkgs, ... }:
    {
      deployment.targetHost = name;
      system.stateVersion = "24.05";
      services.openssh.enable = true;
      systemd.services.clock = {
        description = "Tells the time once a minute";
        wantedBy = [ "multi-user.target" ];
        script = ''
          while true; do
            date
            sleep 60
          done
        '';
      };
    };

  web.environment.etc.role.text = "web";
  db.environment.etc.role.text = "db";
}
