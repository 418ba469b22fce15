#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.nixos_keys; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_keys
short_description: Send a NixOS machine its keys
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Sends C(deployment.keys) of a network to a machine. The contents are never in the Nix store.
  - The machine compares what it has with salted hashes of the contents, and only what differs is sent and replaced.
    A file is complete, with its owner, group and mode, when it gets its name. A key that did not change is not touched.
  - Keys that the same deployment has sent and that left the network stay, since what runs may need them.
    M(nix.ops.nixos_activate) removes them once the system without them runs.
  - The units C(NAME-key.service) of keys that changed are restarted if they are active, and so is what requires them,
    once and after all keys are in place.
  - The contents travel on standard input. They are in no command line, log, result or temporary file.
extends_documentation_fragment: [nix.ops.attributes, nix.ops.waits]
options:
  definitions:
    description:
      - The keys, by name. By default those of the variable C(nix_deployment_keys) of the inventory.
      - Each has C(path), and may have C(user), C(group), C(permissions), C(after) for a key that a deploy sends after
        the acknowledgement, C(file) for the file on the controller, and C(source), the option of the network that gives
        the content (C(text), C(keyFile) or C(keyCommand)).
    type: dict
  contents:
    description:
      - The contents by name. They win over those of the network.
      - A content is a text, or a dictionary with the one entry C(base64) for other bytes.
    type: dict
    default: {}
  network:
    description: The source of the network. It is evaluated if keys have a C(text) or a C(keyCommand).
    type: path
  machine:
    description: The machine's name in the network; the host's name by default.
    type: str
  deployment:
    description: UUID of the deployment. The machine remembers under it which keys were sent.
    type: str
    required: true
  commands:
    description: Whether the network may run commands on the controller (C(keyCommand)).
    type: bool
    default: true
  files:
    description:
      - With V(project), contents may come from files in the Git work tree of the network alone, or in its directory
        without one. That holds for C(keyFile) and for what the evaluation of C(text) and C(keyCommand) reads.
    type: str
    choices: [anywhere, project]
    default: anywhere
  compared:
    description: C(compared_keys) of the result of M(nix.ops.deployment_prepare).
    type: dict
    default: {}
  keep_old:
    description: Whether the keys that are replaced or removed are kept for a deploy that may take them back.
    type: bool
    default: false
  old:
    description:
      - Sends nothing. With V(back) the keys that O(keep_old) has kept are put back. With V(forget) they are removed.
      - In check mode this does nothing.
    type: str
    choices: [back, forget]
  names:
    description: Send these keys only. By default all.
    type: list
    elements: str
  expected:
    description: The result of M(nix.ops.deployment_prepare). Another machine that answers at the address gets nothing.
    type: dict
    default: {}
notes:
  - The user has to be root on the machine, or become root.
  - In check mode no command of a key is run, so it is not known whether these keys would change.
seealso:
  - module: nix.ops.nixos_activate
"""

EXAMPLES = r"""
- name: Send the keys of the network
  nix.ops.nixos_keys:
    contents: "{{ nix_keys | default({}) }}"
    network: "{{ nix_network }}"
    machine: "{{ nix_machine }}"
    deployment: "{{ nix_deployment_uuid }}"

- name: Send a key that no network defines
  nix.ops.nixos_keys:
    definitions:
      certificate:
        path: /var/lib/secrets/certificate.p12
        permissions: "0400"
    contents:
      certificate:
        base64: "{{ lookup('ansible.builtin.file', 'certificate.p12.b64') }}"
    deployment: 9e8652aa-e64a-11f1-b7ab-02fc00000001
"""

RETURN = r"""
added:
  description: The keys that were missing.
  type: list
  elements: str
  returned: success
  sample: [db-password]
replaced:
  description: The keys that were replaced.
  type: list
  elements: str
  returned: success
  sample: [certificate]
removed:
  description: Empty; only M(nix.ops.nixos_activate) removes keys.
  type: list
  elements: str
  returned: success
  sample: []
left:
  description: The keys that left the network and are still there, since what runs may need them.
  type: list
  elements: str
  returned: success
  sample: []
restarted:
  description: The units that were restarted. What requires them was restarted too.
  type: list
  elements: str
  returned: success
  sample: [certificate-key.service]
unknown:
  description: In check mode the keys whose command was not run.
  type: list
  elements: str
  returned: success
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_KEYS


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **NIXOS_KEYS)
    module.fail_json(msg="nixos_keys runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
