#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_check; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_check
short_description: Report which machines are up and well
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Shows what M(nix.ops.nixos_check) has found of several machines, as a table like that of C(nixops check).
  - Runs once for all hosts, on the controller.
extends_documentation_fragment: [nix.ops.attributes]
options:
  found:
    description: The result of M(nix.ops.nixos_check) for each host. A host without a result fails the task.
    type: dict
    default: {}
  pattern:
    description: The pattern of hosts, or a list of them. A name that no host and no group has fails the task.
    type: raw
  fail_on:
    description: Fail if a machine has one of these problems.
    type: list
    elements: str
    choices: [any, missing, down, unreachable, disks, units, activating, drift, keys, reboot, clock, host_key]
    default: []
  format:
    description: How the report is shown.
    type: str
    choices: [table, json]
    default: table
  file:
    description: A file to write the report to as JSON.
    type: path
seealso:
  - module: nix.ops.nixos_check
"""

EXAMPLES = r"""
- name: Check the machines
  nix.ops.nixos_check:
  register: checked
  ignore_unreachable: true

- name: Report which machines are well
  nix.ops.deployment_check:
    found: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars, 'checked'))) }}"
    fail_on: [down, unreachable, disks]
    file: check.json
  run_once: true
"""

RETURN = r"""
status:
  description: The bits of C(nixops check) of all machines together.
  type: int
  returned: success
  sample: 8
machines:
  description: The machines, each with its C(name) and what M(nix.ops.nixos_check) returns for it.
  type: list
  elements: dict
  returned: success
  sample: [{name: target, exists: true, up: true, reachable: true, disks_ok: true, status: 0, problems: [], notes: []}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_CHECK


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_CHECK)
    module.fail_json(msg="deployment_check runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
