#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.nixos_gc; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_gc
short_description: Delete old generations of a NixOS machine and collect garbage
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Deletes generations of a profile that neither O(keep) nor O(older_than) keeps, writes the boot menu without them,
    and collects what nothing on the machine needs any more.
  - Never deletes what runs, what boots, what was booted, what is on trial, or what C(rollback_to=previous) of the
    playbook C(nix.ops.rollback) goes back to. While an activation is at work it fails.
  - The collection runs detached on the machine. A lost connection does not end it.
extends_documentation_fragment: [nix.ops.attributes, nix.ops.waits]
options:
  keep:
    description: How many generations to keep, the newest ones.
    type: int
  older_than:
    description:
      - Keep generations that are younger. A number of hours (V(h)), days (V(d)) or weeks (V(w)).
      - If O(keep) is set too, only generations are deleted that neither of them keeps. Without both, none is deleted.
    type: str
  profile:
    description: The profile whose generations are deleted.
    type: path
    default: /nix/var/nix/profiles/system
  deployment:
    description: The UUID of the deployment, whose record tells what the machine booted before.
    type: str
  timeout:
    description:
      - Maximum time in seconds to wait for the collection. After that the task fails, and the collection continues on
        the machine.
    type: int
    default: 21600
  reconnect_timeout:
    description: Seconds in a row for which the machine may be unreachable meanwhile.
    type: int
    default: 300
notes:
  - Needs root on the machine.
seealso:
  - module: nix.ops.nixos_info
"""

EXAMPLES = r"""
- name: Keep the ten newest generations, and those of the last 30 days
  nix.ops.nixos_gc:
    keep: 10
    older_than: 30d

- name: Collect garbage, without deleting a generation
  nix.ops.nixos_gc:
"""

RETURN = r"""
generations:
  description: The generations that were deleted, or would be in check mode.
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
paths:
  description: How many store paths were deleted; V(null) if Nix did not tell, and in check mode.
  type: int
  returned: success
  sample: 532
bytes:
  description: What was freed, in bytes, in the same way.
  type: int
  returned: success
  sample: 1288490188
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_GC


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **NIXOS_GC)
    module.fail_json(msg="nixos_gc runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
