#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.nixos_check; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_check
short_description: Check whether a NixOS machine is up and well
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Asks a NixOS machine, in one round trip, for its load, disks, failed units, clock, missing keys, whether an
    activation is at work, whether it needs a reboot, and whether it still runs what was deployed last.
  - Nothing on the machine is changed, and nothing is evaluated.
  - A machine with problems does not fail the task; a machine that can't be reached makes it unreachable.
extends_documentation_fragment: [nix.ops.attributes, nix.ops.waits]
options:
  uuid:
    description: UUID of the deployment that the machine belongs to. Without it, what was deployed and which keys were
      sent is not known.
    type: str
  deployment:
    description: Name of the deployment.
    type: str
  machine:
    description: The machine's name in the network.
    type: str
  disk_fill:
    description: The percentage of a disk's space, or of its inodes, above which the disk counts as full.
    type: int
    default: 90
  clock_tolerance:
    description: The seconds by which the machine's clock may differ from the controller's.
    type: int
    default: 5
seealso:
  - module: nix.ops.deployment_check
  - module: nix.ops.nixos_info
"""

EXAMPLES = r"""
- name: Check a machine of a network
  nix.ops.nixos_check:
    uuid: "{{ nix_deployment_uuid }}"
    deployment: "{{ nix_deployment }}"
    machine: "{{ nix_machine }}"
  register: machine

- name: Check any NixOS host
  nix.ops.nixos_check:
    disk_fill: 80
"""

RETURN = r"""
exists:
  description: Whether the machine answers or was deployed once; V(null) if that is not known.
  type: bool
  returned: always
  sample: true
up:
  description: Whether its SSH server answers.
  type: bool
  returned: always
  sample: true
reachable:
  description: Whether commands run there.
  type: bool
  returned: always
  sample: true
disks_ok:
  description: Whether all disks are below the limit; V(null) if it was not reached.
  type: bool
  returned: always
  sample: true
status:
  description:
    - The bits of C(nixops check). 1 is missing, 2 down, 4 unreachable, 8 disks, 16 failed units.
  type: int
  returned: always
  sample: 0
problems:
  description:
    - What is wrong, out of V(missing), V(down), V(unreachable), V(disks), V(units), V(activating), V(drift), V(keys),
      V(reboot), V(clock) and V(host_key).
  type: list
  elements: str
  returned: always
  sample: [reboot]
notes:
  description: What is wrong, in words.
  type: list
  elements: str
  returned: always
  sample: ["needs a reboot for kernel"]
host_key:
  description:
    - V(known), or V(unchecked) if ssh accepts any key. If ssh refuses it, V(unknown), V(changed) or V(revoked).
      V(null) for a connection without host keys.
  type: str
  returned: always
  sample: known
running:
  description: The toplevel that runs.
  type: str
  returned: if the machine was reached
  sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
boots:
  description: The toplevel that boots; V(null) if that is not known.
  type: str
  returned: if the machine was reached
  sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
deployed:
  description: The toplevel that was deployed last; V(null) if none was.
  type: str
  returned: if the machine was reached
  sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
drifted:
  description:
    - Whether the machine runs or boots something else than what was deployed last; V(null) if it was never deployed.
  type: bool
  returned: if the machine was reached
  sample: false
failed_units:
  description: The units that have failed.
  type: list
  elements: str
  returned: if the machine was reached
  sample: []
starting_units:
  description: The units that are starting or wait to be started again.
  type: list
  elements: str
  returned: if the machine was reached
  sample: []
missing_keys:
  description: The keys that a deployment has sent and that are not there any more.
  type: list
  elements: str
  returned: if the machine was reached
  sample: []
activating:
  description: Whether an activation is at work.
  type: bool
  returned: if the machine was reached
  sample: false
reboot_needed:
  description: Whether only a reboot brings the machine to its system.
  type: bool
  returned: if the machine was reached
  sample: true
reboot_parts:
  description: The parts that only a reboot replaces and that differ.
  type: list
  elements: str
  returned: if the machine was reached
  sample: [kernel]
clock_off:
  description: By how many seconds its clock is ahead of the controller's; less than 0 if it is behind.
  type: int
  returned: if the machine was reached
  sample: 0
load:
  description: The load averages over 1, 5 and 15 minutes.
  type: list
  elements: float
  returned: if the machine was reached
  sample: [0.08, 0.03, 0.01]
processors:
  description: How many processors it has.
  type: int
  returned: if the machine was reached
  sample: 2
uptime:
  description: The seconds since its boot.
  type: int
  returned: if the machine was reached
  sample: 86400
disks:
  description: Its local file systems, without those of services in C(/run).
  type: list
  elements: dict
  returned: if the machine was reached
  contains:
    mount:
      description: Where it is mounted.
      type: str
      sample: /
    size:
      description: Its size in KiB.
      type: int
      sample: 20511312
    available:
      description: What can still be written, in KiB.
      type: int
      sample: 9021344
    fill:
      description: How full it is, in percent.
      type: int
      sample: 55
    inode_fill:
      description: How many of its inodes are used, in percent; V(null) if it has no fixed number of them.
      type: int
      sample: 12
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_CHECK


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **NIXOS_CHECK)
    module.fail_json(msg="nixos_check runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
