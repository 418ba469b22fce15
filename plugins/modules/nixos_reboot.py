#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.nixos_reboot; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_reboot
short_description: Reboot a NixOS machine
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Reboots a machine into the system that its boot menu names, and tells what it has booted.
  - The machine counts as rebooted once another boot id answers. Then it gets its keys, its health is checked, and it is
    reached once more over a new connection.
  - A machine on which an activation is at work is refused, and no activation can begin while the machine goes down.
  - To reboot into a new system, use M(nix.ops.nixos_activate) with its option O(nix.ops.nixos_activate#module:reboot).
    A system that it boots for the first time goes back by itself.
extends_documentation_fragment: [nix.ops.attributes, nix.ops.waits]
options:
  hard:
    description:
      - Whether to reboot at once, without ending any service and without unmounting, for a machine that does not go
        down otherwise. What programs have not written yet is lost.
    type: bool
    default: false
  reboot_timeout:
    description: Seconds to wait for the machine, and again to reach it once more after its boot.
    type: int
    default: 600
  health_checks:
    description:
      - Checks of the machine's health after the boot. The task fails if they fail.
      - A round runs all checks. Rounds are repeated until one passes or the deadline is over.
    type: dict
    suboptions:
      units:
        description: Units that have to be active. A name without a suffix is that of a service.
        type: list
        elements: str
        default: []
      commands:
        description: Lines for C(/bin/sh) on the machine that have to succeed, as root. A line that fails is shown.
        type: list
        elements: str
        default: []
      tcp:
        description: Ports of the machine that the controller has to reach, at the address of its connection.
        type: list
        elements: int
        default: []
      http:
        description: URLs that have to answer to the controller.
        type: list
        elements: dict
        default: []
        suboptions:
          url:
            description: The URL. It is shown if it fails, so it must not have a secret.
            type: str
            required: true
          status:
            description: The status codes that are good. Redirects are followed unless one of these is 3xx.
            type: list
            elements: int
            default: [200]
          contains:
            description: A text that the first MiB of the answer has to contain.
            type: str
          headers:
            description: Headers of the request.
            type: dict
            default: {}
          validate_certs:
            description: Whether the certificate has to be valid.
            type: bool
            default: true
      stable:
        description: Seconds that a unit has to stay active without a restart.
        type: int
        default: 3
      successes:
        description: How many rounds in a row have to pass, for checks that flap.
        type: int
        default: 1
      interval:
        description: Seconds between two rounds.
        type: int
        default: 1
      deadline:
        description: Seconds before the checks fail.
        type: int
        default: 60
  keys:
    description: The machine's keys, as M(nix.ops.nixos_keys) takes them. They are sent after the boot.
    type: dict
    suboptions:
      definitions:
        description: The keys, by name. By default those of the variable C(nix_deployment_keys) of the inventory.
        type: dict
      contents:
        description: The contents by name. They win over those of the network.
        type: dict
        default: {}
      network:
        description: The source of the network.
        type: path
      machine:
        description: The machine's name in the network; the host's name by default.
        type: str
      deployment:
        description: UUID of the deployment.
        type: str
        required: true
      commands:
        description: Whether the network may run commands on the controller.
        type: bool
        default: true
      files:
        description: With V(project), contents may come from files in the project of the network alone.
        type: str
        choices: [anywhere, project]
        default: anywhere
      compared:
        description: C(compared_keys) of the result of M(nix.ops.deployment_prepare).
        type: dict
        default: {}
      keep_old:
        description: Not used here.
        type: bool
        default: false
notes:
  - The user has to be root on the machine, or become root.
  - In check mode the machine is asked what it boots, and nothing else.
seealso:
  - module: nix.ops.nixos_activate
  - module: nix.ops.nixos_keys
"""

EXAMPLES = r"""
- name: Reboot a machine
  nix.ops.nixos_reboot:
  register: machine

- name: Reboot it, and check that it serves again
  nix.ops.nixos_reboot:
    reboot_timeout: 300
    health_checks:
      units: [sshd]
      tcp: [22]
"""

RETURN = r"""
boots:
  description: The toplevel that the machine boots next, asked before the reboot; V(null) if it is not known.
  type: str
  returned: success
  sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
boot_id_before:
  description: The id of the boot before.
  type: str
  returned: success
  sample: 00a6c5b5-3b5e-4ab5-8d4f-df1e5ae46b2a
booted:
  description: The toplevel that runs now, asked from the machine.
  type: str
  returned: not in check mode
  sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
boot_id:
  description: The id of this boot.
  type: str
  returned: not in check mode
  sample: 3f0c1c7d-5f5f-4b8b-8c0f-3a9d6a2c8f1e
seconds:
  description: How long the machine was away.
  type: int
  returned: not in check mode
  sample: 34
failed_units:
  description: The units that have failed since the boot.
  type: list
  elements: str
  returned: not in check mode
  sample: []
key_changes:
  description: The keys that were sent, as M(nix.ops.nixos_keys) returns them. Empty without O(keys).
  type: dict
  returned: not in check mode
  sample: {}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_REBOOT


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **NIXOS_REBOOT)
    module.fail_json(msg="nixos_reboot runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
