#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.nixos_unlock; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_unlock
short_description: Tell which activation is at work on a machine, and end it safely
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - The lock of a machine is its activation, and ends with it. This tells who has begun the activation, when, and
    where it stands. With O(end) it ends an activation that is stuck.
  - Half a switch is never left. A machine whose new system was not acknowledged goes back to what ran before. An
    activation that was acknowledged goes on by itself, and is followed to its end.
  - An activation with O(nix.ops.nixos_activate#module:rollback=never) can't be ended while it switches, since the
    machine would not go back.
  - Fails if an activation is at work and was not ended.
extends_documentation_fragment: [nix.ops.attributes, nix.ops.waits]
options:
  end:
    description: Whether to end the activation.
    type: bool
    default: false
  reconnect_timeout:
    description: Seconds in a row that the machine may be out of reach while it goes back.
    type: int
    default: 300
notes:
  - The run that follows the activation is told who has ended it.
seealso:
  - module: nix.ops.nixos_activate
"""

EXAMPLES = r"""
- name: Fail if an activation is at work
  nix.ops.nixos_unlock:

- name: End an activation that is stuck
  nix.ops.nixos_unlock:
    end: true
"""

RETURN = r"""
activation:
  description: The activation that was ended, or would be; V(null) if none was at work.
  type: dict
  returned: success
  contains:
    holder:
      description: What it is, and who began it.
      type: str
      sample: nix.ops switch of /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target by me@laptop
    action:
      description: Its action; V(null) if that is not known.
      type: str
      sample: switch
    toplevel:
      description: Its toplevel; V(null) if that is not known.
      type: str
      sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
    step:
      description: Its step, such as V(activate), V(acknowledge), V(check), V(rollback), V(profile) or V(boot);
        V(null) before the first.
      type: str
      sample: activate
    since:
      description: When it began, in seconds since 1970, by the machine's clock; V(null) if that is not known.
      type: int
      sample: 1767225600
    seconds:
      description: For how long it had been at work; V(null) if that is not known.
      type: int
      sample: 720
    goes_back:
      description: Whether the machine goes back by itself.
      type: bool
      sample: true
running:
  description: The toplevel that runs now.
  type: str
  returned: when an activation was ended
  sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
boot_default:
  description: The toplevel that boots next; V(null) if that is not known.
  type: str
  returned: when an activation was ended
  sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_UNLOCK


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **NIXOS_UNLOCK)
    module.fail_json(msg="nixos_unlock runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
