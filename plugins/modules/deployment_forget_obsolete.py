#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_forget_obsolete; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_forget_obsolete
short_description: Forget the machines that have left a network
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Forgets the machines that were deployed and are no longer in their network, as C(nixops deploy --kill-obsolete)
    does with machines that existed before. The machines themselves stay as they are, and are not connected to.
  - Removes what the controller keeps of them. That is the private SSH key, the accepted host key, the link to the
    system, and the state in the fact cache.
  - The playbook C(nix.ops.deploy) does this with C(deploy_kill_obsolete).
extends_documentation_fragment: [nix.ops.attributes]
options:
  networks:
    description: The sources of the deployments, C(nix_network) of their hosts.
    type: list
    elements: path
    required: true
notes:
  - The network is evaluated, unless that is remembered. A network that does not evaluate is an error, and nothing is
    forgotten.
  - A machine's own record of the deployment stays on it.
  - A private key in the directory that the source names with C(ssh_keys) is yours, and stays.
seealso:
  - module: nix.ops.deployment_forget
  - module: nix.ops.deployment_info
"""

EXAMPLES = r"""
- name: Forget the machines that have left the network
  nix.ops.deployment_forget_obsolete:
    networks: ["{{ nix_network }}"]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
forgotten:
  description: The machines that were forgotten, or would be, as lists of their names by the UUID of the deployment.
  type: dict
  returned: success
  sample:
    9e8652aa-e64a-11f1-b7ab-02fc00000001: [old]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_FORGET_OBSOLETE


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_FORGET_OBSOLETE)
    module.fail_json(msg="deployment_forget_obsolete runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
