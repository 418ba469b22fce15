#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_forget; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_forget
short_description: Forget a machine of a deployment
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Forgets a machine, as C(nixops destroy) does with a machine that existed before. The machine itself stays as it
    is, with what runs on it.
  - Removes the machine's own record of the deployment, the list of its keys and the root of what was copied last.
    Then removes what the controller keeps of it. That is its private SSH key, its accepted host key, the link to its
    system, and its state in the fact cache.
  - The next deploy takes the machine for a new one, with a new SSH key.
extends_documentation_fragment: [nix.ops.attributes, nix.ops.waits]
options:
  deployment:
    description: The deployment's name, C(nix_deployment) of the host.
    type: str
    required: true
  uuid:
    description: The deployment's UUID, C(nix_deployment_uuid) of the host.
    type: str
    required: true
  machine:
    description: The machine's name in the network, C(nix_machine) of the host.
    type: str
    required: true
  network:
    description: The deployment's source, C(nix_network) of the host.
    type: path
    required: true
  ask:
    description: Whether to ask on the terminal before. Without a terminal, nothing is forgotten, and the task fails.
    type: bool
    default: false
  offline:
    description: Whether to forget the machine without connecting to it, for a machine that is gone. Its own record
      stays.
    type: bool
    default: false
notes:
  - A private key in the directory that the source names with C(ssh_keys) is yours, and stays.
  - The system of the machine still accepts the public half of the key, until another system is deployed. Make sure
    that it accepts another key of yours as well.
  - A machine with an activation at work is refused.
seealso:
  - module: nix.ops.deployment_delete
"""

EXAMPLES = r"""
- name: Forget a machine
  nix.ops.deployment_forget:
    deployment: "{{ nix_deployment }}"
    uuid: "{{ nix_deployment_uuid }}"
    machine: "{{ nix_machine }}"
    network: "{{ nix_network }}"
"""

RETURN = r"""
removed:
  description: What was removed from the controller, or would be.
  type: list
  elements: str
  returned: success
  sample: [/home/me/.local/state/nix.ops/keys/9e8652aa-e64a-11f1-b7ab-02fc00000001/target]
recorded:
  description: Whether the machine had a record, which was removed, or would be.
  type: bool
  returned: success
  sample: true
ansible_facts:
  description: The deployment state of the host without this deployment.
  type: dict
  returned: not in check mode, if the fact cache had its state
  sample:
    nix_ops: {}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_FORGET


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_FORGET)
    module.fail_json(msg="deployment_forget runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
