#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_modify; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_modify
short_description: Change a deployment
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Changes the name, the files, the search path, the settings of Nix or the arguments of a deployment, as C(nixops
    modify), C(nixops rename) and C(nixops set-args) do, by editing its source C(NAME.network.yml).
  - Only the lines of what changes are edited. Comments, order, quotes and encrypted values of everything else stay
    byte for byte. What can't be edited safely is refused, such as a value that another one refers to by an alias of
    YAML.
  - The network is evaluated with the change first. If that fails, nothing is written.
  - Works only on the controller, whatever the task's host. Relative paths start where Ansible was started.
extends_documentation_fragment: [nix.ops.attributes, nix.ops.settings]
attributes:
  diff_mode:
    support: full
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
  name:
    description:
      - The deployment's new name. Its UUID, and so its state, stays. Its source keeps the name of the file, which
        C(ansible.cfg) and AWX know.
    type: str
  networks:
    description: The files of the network, instead of those that it has. At most one of this and O(flake).
    type: list
    elements: path
  flake:
    description: A reference to a flake that is the network, instead of what it has.
    type: str
  nix_path:
    description: Entries of Nix's search path, instead of those that the source has.
    type: list
    elements: str
  arguments:
    description:
      - Values for network files that are functions. Other arguments stay.
      - They are written into the source as they are, and only its owner can read the file then. Encrypt secret ones
        there with C(ansible-vault encrypt_string) before you commit it.
    type: dict
    default: {}
  unset:
    description: Names of arguments to remove.
    type: list
    elements: str
    default: []
  options:
    description: Settings of Nix for this network. Other settings stay. V(null) removes one.
notes:
  - The source is replaced as a whole or not at all, and not if it was changed meanwhile.
  - C(--diff) shows the names of O(arguments), not their values.
seealso:
  - module: nix.ops.deployment_create
  - module: nix.ops.deployment_clone
"""

EXAMPLES = r"""
- name: Add a file to a network
  nix.ops.deployment_modify:
    deployment: target
    networks: [target.nix, config.nix, monitoring.nix]
  delegate_to: localhost
  run_once: true

- name: Rename a deployment
  nix.ops.deployment_modify:
    deployment: target
    name: shop
  delegate_to: localhost
  run_once: true

- name: Set an argument, and remove another one
  nix.ops.deployment_modify:
    deployment: production
    arguments:
      domain: example.org
    unset: [debug]
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
path:
  description: Its source.
  type: str
  returned: success
  sample: /home/me/target.network.yml
edited:
  description: The options of the source that were edited, or would be.
  type: list
  elements: str
  returned: success
  sample: [files]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_MODIFY


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_MODIFY)
    module.fail_json(msg="deployment_modify runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
