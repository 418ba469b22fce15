#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.nix_copy_closure; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nix_copy_closure
short_description: Copy closures to or from a machine's Nix store
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Copies store paths with everything they reference to the host's Nix store, or from there to the controller's.
  - Only paths that the receiving store lacks are copied. If it has all of them, this takes one round trip.
  - Over C(ssh), Nix's own commands copy, with exactly the options of the host's Ansible connection. Over any other
    connection, and if become needs a password, the paths are sent as one file.
extends_documentation_fragment:
  [nix.ops.attributes, nix.ops.expected, nix.ops.variables, nix.ops.waits, nix.ops.waits.copy]
options:
  paths:
    description: The store paths whose closures are copied.
    type: list
    elements: path
    required: true
    aliases: [path]
  direction:
    description: Whether the paths go V(to) the host or come V(from) it.
    type: str
    choices: [to, from]
    default: to
  substitutes:
    description:
      - Let the receiving store fetch what it can from its own caches first.
      - With a machine that can't reach its caches, each copy takes some seconds longer.
    type: bool
    default: false
  compress:
    description: Compress the data on the connection. Has no effect if the paths are sent as a file.
    type: bool
    default: false
  sign_key_file:
    description:
      - A file on the controller with a secret key; the closures are signed with it in the controller's store before
        they are copied.
      - Needed if the Nix daemon on the receiving side does not trust the user.
    type: path
  gc_root:
    description:
      - A link on the host, below C(/nix/var/nix/gcroots), that makes the first of O(paths) a GC root from its arrival
        on.
      - Only with O(direction=to).
    type: path
  source:
    description:
      - Another host of the inventory, such as a build host, whose store has O(paths). They go from there to the task's
        host, through the controller but not into its store.
      - Its own variables say how it is reached, and whether commands become root there.
      - If become needs a password on one of the hosts, or its connection is not ssh, they go through the controller's
        store.
      - Only with O(direction=to).
    type: str
  derivations:
    description:
      - Derivations of O(paths) in the controller's store. They are copied instead, and the host builds what it lacks of
        O(paths).
      - Only with O(direction=to).
    type: list
    elements: path
    default: []
  via:
    description:
      - A host of the inventory near the task's host. O(paths) are copied there first, unless it has them, and the
        task's host takes from its store what it lacks. What it has taken is compared with the controller's store.
      - The host logs in there with its own SSH host key, so become has to be root. Nothing of the controller's is
        needed there. The relay has to let it read its store, as C(nix.sshServe) of NixOS does.
      - Its own variables say how the controller reaches it, and whether commands become root there.
      - If it is the task's own host, O(paths) are copied as without it.
      - Only with O(direction=to). Has no effect with O(source) or O(derivations).
    type: str
  via_store:
    description:
      - The store of O(via) as the task's host reaches it, like V(ssh://nix-ssh@10.0.0.5:22).
      - By default the user V(nix-ssh) at the address that the controller uses.
    type: str
  require_signatures:
    description:
      - Whether the controller accepts only paths with a signature of one of its C(trusted-public-keys), and paths whose
        name is the hash of their content. V(false) trusts the host with what the controller runs and deploys.
      - Only with O(direction=from). The host that gets paths checks them by its own settings.
      - A host whose become needs a password sends the paths as one file, which has no signatures, so it needs V(false).
    type: bool
    default: true
notes:
  - Of a host, the controller accepts the closures of O(paths) and nothing else.
  - In check mode the host is asked which paths it lacks, and nothing is written there.
seealso:
  - module: nix.ops.nix_build
  - module: nix.ops.nixos_activate
"""

EXAMPLES = r"""
- name: Copy a system to the machine
  nix.ops.nix_copy_closure:
    paths: ["{{ toplevel }}"]

- name: Copy a system to a machine with a slow line and a cache nearby
  nix.ops.nix_copy_closure:
    paths: ["{{ toplevel }}"]
    substitutes: true
    compress: true

- name: Copy what the build host has built to the machine
  nix.ops.nix_copy_closure:
    paths: ["{{ toplevel }}"]
    source: builder

- name: Copy a system once to a machine at the site, from which the others there take it
  nix.ops.nix_copy_closure:
    paths: ["{{ toplevel }}"]
    via: gateway
    via_store: ssh://nix-ssh@10.0.0.1

- name: Copy a result of the build host to the controller
  nix.ops.nix_copy_closure:
    paths: ["{{ toplevel }}"]
    direction: from
    require_signatures: false
  delegate_to: builder
"""

RETURN = r"""
paths:
  description: The store paths that the receiving side lacked.
  type: list
  elements: str
  returned: success
  sample: [/nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05]
bytes:
  description:
    - Their size in bytes, unpacked.
    - V(0) if the size is not known, as in check mode with O(direction=from), and with O(source) or O(derivations).
  type: int
  returned: success
  sample: 48213
exit_code:
  description: The exit code of Nix's command that failed.
  type: int
  returned: failure
  sample: 1
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIX_COPY_CLOSURE


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **NIX_COPY_CLOSURE)
    module.fail_json(msg="nix_copy_closure runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
