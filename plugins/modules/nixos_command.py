#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.nixos_command; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_command
short_description: Run a command on a machine, live
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Runs a line of shell on a host without Python, and shows each line of its output at once, prefixed with the host's
    name.
  - The command is detached from the connection. If the connection is lost, it goes on, and is followed over a new one.
    If the task ends first, the command is ended.
  - It runs as the user of the connection, or as root with become. It has no terminal and no standard input.
extends_documentation_fragment: [nix.ops.attributes, nix.ops.waits]
options:
  command:
    description: The line of shell. C(/bin/sh) reads it, so quote values of others with the filter C(quote).
    type: str
    required: true
  timeout:
    description: Seconds until a command that still runs is ended, with what it has started.
    type: int
    default: 86400
  reconnect_timeout:
    description: Seconds in a row for which the host may be unreachable while the command runs.
    type: int
    default: 300
notes:
  - The task fails if the command ends with another exit code than 0, and always changes something.
  - In check mode the command is not run.
seealso:
  - module: ansible.builtin.raw
"""

EXAMPLES = r"""
- name: Show the failed units
  nix.ops.nixos_command:
    command: systemctl --failed

- name: Look for a file of a name that others may choose
  nix.ops.nixos_command:
    command: "test -e /srv/{{ name | quote }}"
  vars:
    name: it's here
  register: there
  failed_when: there.exit_code not in [0, 1]
"""

RETURN = r"""
command:
  description: The command.
  type: str
  returned: always
  sample: systemctl --failed
exit_code:
  description: Its exit code; V(null) if it was killed.
  type: int
  returned: not in check mode
  sample: 0
output:
  description: What it wrote to standard output and standard error. Of a long output the last 256 KiB.
  type: str
  returned: not in check mode
  sample: 0 loaded units listed.
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_COMMAND


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **NIXOS_COMMAND)
    module.fail_json(msg="nixos_command runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
