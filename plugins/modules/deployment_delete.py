#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_delete; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_delete
short_description: Delete a deployment
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Removes the source of a deployment and what the controller keeps of it, as C(nixops delete) does. The files of its
    network stay, and so do its machines.
  - Refuses while machines exist, that is while the fact cache knows one that was deployed.
    M(nix.ops.deployment_forget) forgets a machine.
  - An C(ansible.cfg) is removed too if M(nix.ops.deployment_create) wrote it for this deployment alone and nobody has
    edited it.
  - Works only on the controller, whatever the task's host.
extends_documentation_fragment: [nix.ops.attributes]
attributes:
  platform:
    platforms: posix
options:
  deployment:
    description:
      - The deployment's name or UUID. By default the only one of the inventory, or else the only one whose source
        lies in O(directory).
    type: str
  directory:
    description: Where to look for sources, beside the inventory. By default where Ansible was started.
    type: path
  force:
    description:
      - Whether to delete a deployment whose machines exist, or of which it is not known.
      - The private keys of machines that exist stay, since such a machine may accept no other key.
    type: bool
    default: false
seealso:
  - module: nix.ops.deployment_forget
  - module: nix.ops.deployment_create
"""

EXAMPLES = r"""
- name: Delete a deployment
  nix.ops.deployment_delete:
    deployment: staging
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
uuid:
  description: The deployment's UUID.
  type: str
  returned: success
  sample: 9e8652aa-e64a-11f1-b7ab-02fc00000001
name:
  description: Its name.
  type: str
  returned: success
  sample: target
removed:
  description: The files and directories that were removed, or would be.
  type: list
  elements: str
  returned: success
  sample: [/home/me/target.network.yml, /home/me/.local/state/nix.ops/toplevels/9e8652aa-e64a-11f1-b7ab-02fc00000001]
machines:
  description: The hosts of the machines that existed; with O(force) only.
  type: list
  elements: str
  returned: success
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_DELETE


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_DELETE)
    module.fail_json(msg="deployment_delete runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
