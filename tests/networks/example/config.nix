# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# What they are.
{
  defaults.deployment.owners = [ "ops@example.org" ];

  web =
    { nodes, ... }:
    {
      environment.etc.peers.text = toString (builtins.attrNames nodes);
    };

  db = { };
}
