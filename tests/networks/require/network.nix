# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{
  require = [ ./part.nix ];

  machine =
    {
      name,
      nodes,
      uuid,
      resources,
      deploymentName,
      ...
    }:
    {
      deployment.tags = [
        name
        uuid
        deploymentName
      ]
      ++ builtins.attrNames nodes
      ++ builtins.attrNames resources.machines;
    };
}
