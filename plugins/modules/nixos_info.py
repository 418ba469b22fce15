#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.nixos_info; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_info
short_description: Tell what a NixOS machine runs and boots
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Asks a NixOS machine, in one round trip, what it runs, what it boots, which generations it has kept,
    which units have failed, and whether it needs a reboot.
  - Nothing on the machine is changed.
extends_documentation_fragment: [nix.ops.attributes, nix.ops.waits]
options:
  profile:
    description: The profile whose generations are listed.
    type: path
    default: /nix/var/nix/profiles/system
notes:
  - The boot menu of C(systemd-boot), GRUB or extlinux can be read, often by root alone.
seealso:
  - module: nix.ops.nixos_activate
"""

EXAMPLES = r"""
- name: Ask a machine what it runs
  nix.ops.nixos_info:
  register: machine

- name: Show whether the machine needs a reboot
  ansible.builtin.debug:
    msg: "{{ machine.running }} runs; reboot needed: {{ machine.reboot_needed }} {{ machine.reboot_parts }}"
"""

RETURN = r"""
running:
  description: The toplevel that runs; V(null) if the host is not a NixOS machine.
  type: str
  returned: success
  sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
booted:
  description: The toplevel that was booted.
  type: str
  returned: success
  sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
profile:
  description: The toplevel that the profile names.
  type: str
  returned: success
  sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
generation:
  description: The number that the profile stands at.
  type: int
  returned: success
  sample: 12
boot_default:
  description: The toplevel that the boot menu starts by itself; V(null) if the menu can't be read.
  type: str
  returned: success
  sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
boot_unfinished:
  description:
    - Whether the profile was set and its boot entry was not written since, because the boot loader failed or the
      machine went down in between.
  type: bool
  returned: success
  sample: false
failed_units:
  description: Units in the state C(failed).
  type: list
  elements: str
  returned: success
  sample: [backup.service]
nixos_version:
  description: The version of NixOS that runs.
  type: str
  returned: success
  sample: "24.05"
system_state:
  description: What C(systemctl is-system-running) says.
  type: str
  returned: success
  sample: running
boot_id:
  description: The kernel's identifier of this boot.
  type: str
  returned: success
  sample: 2e7bd76b-6b5c-4b0b-8ff7-0ad38ac39e5b
machine_id:
  description: An id that tells the machine from others, also after a reboot. The machine gets the id with its first
    activation. V(null) before that, and if the user is not root there.
  type: str
  returned: success
  sample: 1e9d3a62-56f5-4b6e-a5f5-5a3c8f3a1b6d
has_nix:
  description: Whether C(nix-store) is on the PATH.
  type: bool
  returned: success
  sample: true
generations:
  description: The generations that are kept.
  type: list
  elements: dict
  returned: success
  contains:
    number:
      description: The generation's number.
      type: int
      sample: 12
    toplevel:
      description: Its toplevel.
      type: str
      sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
    created:
      description: When it was made, in seconds since 1970.
      type: int
      sample: 1767225600
    nixos_version:
      description: The version of NixOS; V(null) if it is missing, and for all but the newest 200.
      type: str
      sample: "24.05"
    kernel:
      description: The version of the kernel; V(null) in the same way, and in a container, which has none.
      type: str
      sample: 6.6.32
    reboot_parts:
      description: The parts that differ from the booted ones and need a reboot; V(null) if that is not known.
      type: list
      elements: str
      sample: [kernel, initrd]
activating:
  description: Whether an activation of this collection is at work.
  type: bool
  returned: success
  sample: false
sent_keys:
  description:
    - The keys of the deployment that are on the machine, by M(nix.ops.nixos_keys).
    - Only the record of a deployment tells, so M(nix.ops.nixos_info) returns none.
  type: list
  elements: str
  returned: success
  sample: [db-password]
missing_keys:
  description: The keys that were sent and are not there any more, as after a reboot.
  type: list
  elements: str
  returned: success
  sample: []
owners:
  description:
    - The UUIDs of the deployments that the machine belongs to, because they have a record on it.
    - Only root can read records; for other users the list is empty.
  type: list
  elements: str
  returned: success
  sample: [9e8652aa-e64a-11f1-b7ab-02fc00000001]
trial:
  description: A system that boots next or was booted, and boots back unless it is reached; V(null) for none.
  type: str
  returned: success
  sample: null
reboot_needed:
  description: Whether the profile has another kernel, initrd, set of kernel modules or systemd than what was booted.
  type: bool
  returned: success
  sample: false
reboot_parts:
  description: Which of these parts differ.
  type: list
  elements: str
  returned: success
  sample: [kernel, initrd]
booted_parts:
  description: The store path of each of these parts that was booted.
  type: dict
  returned: success
  sample:
    kernel: /nix/store/1v8ydj4qd9a0ahhslzbf6ycj7s2f5dcj-linux-6.6.32/bzImage
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_INFO


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **NIXOS_INFO)
    module.fail_json(msg="nixos_info runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
