#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_clone; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_clone
short_description: Copy a deployment
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Makes a second deployment of the same network, as C(nixops clone) does, by copying its source with all comments.
    Only name and UUID differ.
  - The deployment state is not copied. The copy has no machine until it is deployed.
  - The machines of the copy are those of the network. A deploy refuses a machine that belongs to the first
    deployment, so give the copy other machines, for example by its arguments.
  - Works only on the controller, whatever the task's host.
extends_documentation_fragment: [nix.ops.attributes]
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
    description: The name of the copy. Its source is C(NAME.network.yml) beside the first one.
    type: str
    required: true
  uuid:
    description: The UUID of the copy. By default a new one.
    type: str
notes:
  - An existing file is never overwritten. An existing deployment of this name is left as it is.
seealso:
  - module: nix.ops.deployment_create
  - module: nix.ops.deployment_modify
"""

EXAMPLES = r"""
- name: Make a second deployment of the same network
  nix.ops.deployment_clone:
    deployment: production
    name: staging
  delegate_to: localhost
  run_once: true

- name: Give it another argument
  nix.ops.deployment_modify:
    deployment: staging
    arguments:
      domain: staging.example.org
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
uuid:
  description: The copy's UUID.
  type: str
  returned: success
  sample: 9e8652aa-e64a-11f1-b7ab-02fc00000001
name:
  description: Its name.
  type: str
  returned: success
  sample: staging
path:
  description: Its source.
  type: str
  returned: success
  sample: /home/me/staging.network.yml
hints:
  description: What is left to do, line by line.
  type: list
  elements: str
  returned: success
  sample: [choose it with -i staging.network.yml, or add staging.network.yml to 'inventory' in /home/me/ansible.cfg]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_CLONE


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_CLONE)
    module.fail_json(msg="deployment_clone runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
