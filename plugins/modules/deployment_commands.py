#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_commands; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_commands
short_description: Report how a command has ended on each machine
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Shows the exit codes that M(nix.ops.nixos_command) has returned for several machines, as a table, and fails if a
    command has failed.
  - Runs once for all hosts, on the controller.
extends_documentation_fragment: [nix.ops.attributes]
options:
  found:
    description: The result of M(nix.ops.nixos_command) for each host.
    type: dict
    default: {}
  pattern:
    description: The pattern of hosts, or a list of them. A name that no host and no group has fails the task.
    type: raw
  format:
    description: How the report is shown.
    type: str
    choices: [table, json]
    default: table
  file:
    description: A file to write the report to as JSON.
    type: path
seealso:
  - module: nix.ops.nixos_command
"""

EXAMPLES = r"""
- name: Show the failed units
  nix.ops.nixos_command:
    command: systemctl --failed
  register: ran
  ignore_errors: true

- name: Report how the command has ended
  nix.ops.deployment_commands:
    found: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars, 'ran'))) }}"
    file: commands.json
  run_once: true
"""

RETURN = r"""
status:
  description: The largest exit code, as C(nixops ssh-for-each) ends with.
  type: int
  returned: always
  sample: 0
machines:
  description: How the command has ended on each machine.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: The host.
      type: str
      sample: target
    exit_code:
      description: The exit code; V(null) if there is none.
      type: int
      sample: 0
    output:
      description: The output.
      type: str
      sample: 0 loaded units listed.
    problem:
      description: Why it has failed; V(null) if it has not.
      type: str
      sample: null
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_COMMANDS


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_COMMANDS)
    module.fail_json(msg="deployment_commands runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
