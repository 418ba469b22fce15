# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Where the machines are.
{
  network.description = "two machines";
  network.enableRollback = true;
  network.storage.legacy.databasefile = "~/.nixops/deployments.nixops";
  network.lock.noop = { };

  web = {
    deployment.targetHost = "10.0.0.1";
    deployment.targetPort = 2222;
    deployment.targetUser = "deploy";
    deployment.sshOptions = [
      "-o"
      "ServerAliveInterval=5"
    ];
    deployment.tags = [ "front-end" ];
    networking.publicIPv4 = "198.51.100.1";
    networking.privateIPv4 = "10.0.0.1";
  };

  db.services.openssh.ports = [ 2200 ];
}
