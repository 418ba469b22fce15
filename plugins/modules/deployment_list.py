#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_list; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_list
short_description: List the deployments
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Lists the deployments of the inventory and those whose C(*.network.yml) lies in a directory, as C(nixops list) does.
  - Works only on the controller, whatever the task's host. It connects to no machine.
  - A network that does not evaluate is listed too, and a warning has Nix's whole message.
extends_documentation_fragment: [nix.ops.attributes]
attributes:
  platform:
    platforms: posix
options:
  directory:
    description: Where to look for sources. By default where Ansible was started.
    type: path
  format:
    description: How the list is shown.
    type: str
    choices: [table, json]
    default: table
  file:
    description: A file to write the deployments to as JSON, in check mode too.
    type: path
notes:
  - With a fact cache that forgets, deployed machines are not counted, and a warning says so.
seealso:
  - module: nix.ops.deployment_create
  - module: nix.ops.deployment_info
"""

EXAMPLES = r"""
- name: List the deployments
  nix.ops.deployment_list:
  delegate_to: localhost
  run_once: true
  register: there

- name: Show the deployments without a deployed machine
  ansible.builtin.debug:
    msg: "{{ there.deployments | selectattr('machines', 'eq', 0) | map(attribute='name') }}"

- name: Write them to a file
  nix.ops.deployment_list:
    format: json
    file: deployments.json
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
deployments:
  description: The deployments, sorted by name.
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
      sample: target
    description:
      description: C(network.description).
      type: str
      sample: A first network
    machines:
      description: How many machines were deployed, among them those that have left the network since.
      type: int
      sample: 1
    type:
      description:
        - The kind of its machines, V(none), as NixOps calls those that exist already; empty if none was deployed.
      type: str
      sample: none
    path:
      description: Its source.
      type: str
      sample: /home/me/target.network.yml
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_LIST


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_LIST)
    module.fail_json(msg="deployment_list runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
