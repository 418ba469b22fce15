#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_ssh_config; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_ssh_config
short_description: Write a configuration of OpenSSH for the machines of deployments
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Writes a file for each deployment of the inventory, so that plain C(ssh MACHINE), C(scp), C(rsync), C(mosh),
    C(sshfs) and editors reach its machines as Ansible does.
  - It has the address where a machine was last reached, its port, user, keys, jump hosts and host keys. They come from
    the network, and from variables such as C(ansible_ssh_common_args).
  - The files are in C(~/.local/state/nix.ops/ssh_config), named by the deployments' UUIDs, for their owner alone. Once
    a file is there, each deploy keeps it up to date. To stop that, remove it.
  - Connects to no machine.
extends_documentation_fragment: [nix.ops.attributes]
attributes:
  diff_mode:
    support: full
options: {}
notes:
  - With C(ssh -F) ssh does not read your own configuration. With C(Include) in C(~/.ssh/config) it does.
  - A key that C(ansible-vault) has encrypted can't be named in such a file.
seealso:
  - plugin: nix.ops.network
    plugin_type: inventory
    description: Machines of a NixOps network.
"""

EXAMPLES = r"""
- name: Write the configuration of ssh
  nix.ops.deployment_ssh_config:
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
files:
  description: The files that were written, or are there already.
  type: list
  elements: dict
  returned: success
  contains:
    deployment:
      description: The deployment's name.
      type: str
      sample: example
    uuid:
      description: The deployment's UUID.
      type: str
      sample: 9e8652aa-e64a-11f1-b7ab-02fc00000001
    path:
      description: The file.
      type: str
      sample: /home/me/.local/state/nix.ops/ssh_config/9e8652aa-e64a-11f1-b7ab-02fc00000001
    machines:
      description: The hosts that it has.
      type: list
      elements: str
      sample: [target]
    changed:
      description: Whether it was written.
      type: bool
      sample: true
    notes:
      description: What it could not say, a sentence each.
      type: list
      elements: str
      sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_SSH_CONFIG


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_SSH_CONFIG)
    module.fail_json(msg="deployment_ssh_config runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
