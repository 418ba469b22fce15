#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_export; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_export
short_description: Export deployments for NixOps
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Writes the deployments of the inventory into a file that C(nixops import) of NixOps 1.7 and 2 reads, and
    M(nix.ops.deployment_import) as well. It has UUID, name, network files, Nix path, arguments, and for each machine
    where it is, its state version, its public key and what was last deployed to it.
  - Works only on the controller, whatever the task's host. It connects to no machine.
  - Only the owner can read the file, since it has the values of arguments, and private keys if O(keys) is V(true).
extends_documentation_fragment: [nix.ops.attributes]
attributes:
  diff_mode:
    support: none
  platform:
    platforms: posix
options:
  file:
    description: The file to write. It must not exist.
    type: path
    required: true
  keys:
    description:
      - Whether to write the private SSH keys as well. Without them, NixOps logs in with keys of yours, and leaves the
        public keys on the machines.
    type: bool
    default: false
notes:
  - The machines are those of the network. What is remembered of them comes from the fact cache.
  - Pins of nixpkgs and settings of Nix can't go along. RV(deployments[].left) names them.
seealso:
  - module: nix.ops.deployment_import
"""

EXAMPLES = r"""
- name: Export all deployments of the inventory, with their keys
  nix.ops.deployment_export:
    file: deployments.json
    keys: true
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
file:
  description: The file that was written, or would be.
  type: str
  returned: success
  sample: /home/me/deployments.json
deployments:
  description: The deployments that were exported, sorted by their sources.
  type: list
  elements: dict
  returned: success
  contains:
    uuid:
      description: The deployment's UUID.
      type: str
      sample: 9e8652aa-e64a-11f1-b7ab-02fc00000001
    name:
      description: Its name.
      type: str
      sample: shop
    left:
      description: What can't go along, line by line.
      type: list
      elements: str
      sample: ["settings of Nix: cores"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_EXPORT


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_EXPORT)
    module.fail_json(msg="deployment_export runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
