# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Becomes root by any command."""

from __future__ import annotations

DOCUMENTATION = r"""
name: command
short_description: Become root by any command
description:
  - Puts a command of your choice before every command that runs as root. No shell reads its words.
  - The inventory plugin P(nix.ops.network#inventory) sets it up for machines whose
    C(deployment.privilegeEscalationCommand) is not a plain C(sudo).
author:
  - nix.ops contributors (@nix-ops)
version_added: 0.1.0
options:
  command:
    description:
      - The command and its arguments.
      - It gets C(/bin/sh -c SCRIPT) as further arguments. End it with C(--) if the program supports that.
    type: list
    elements: str
    required: true
    vars:
      - name: nix_privilege_escalation_command
  become_user:
    description: The user to become. Only V(root) is accepted, since the command decides the user.
    type: str
    default: root
    ini:
      - section: privilege_escalation
        key: become_user
    vars:
      - name: ansible_become_user
    env:
      - name: ANSIBLE_BECOME_USER
    keyword:
      - name: become_user
notes:
  - A command that asks for a password can't be answered. Allow it without one, or use C(sudo).
"""

EXAMPLES = r"""
- name: Become root by doas
  hosts: nixos
  become: true
  become_method: nix.ops.command
  vars:
    nix_privilege_escalation_command: [doas, -n, --]
  tasks:
    - name: Show the user
      ansible.builtin.raw: id
      changed_when: false
"""

import shlex
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.become import BecomeBase


class BecomeModule(BecomeBase):
    """Becomes root by a command."""

    name = "nix.ops.command"

    def build_become_command(self, cmd: str, shell: Any) -> str:
        """Return the command line that runs a command as root."""
        super().build_become_command(cmd, shell)
        if not cmd:
            return cmd
        user = self.get_option("become_user")
        if user not in (None, "", "root"):
            raise AnsibleError(f"become_user is {user!r}, but the privilege escalation command becomes root")
        words = [str(word) for word in self.get_option("command")]
        return f"{shlex.join(words)} {self._build_success_command(cmd, shell)}"
