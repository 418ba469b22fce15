#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_create; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_create
short_description: Create a deployment
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Gives a network a name and a UUID, as C(nixops create) does, by writing C(NAME.network.yml), which is the inventory
    of the deployment and is made to be committed.
  - Works only on the controller, whatever the task's host. Relative paths start where Ansible was started.
  - Fails if Nix is missing or older than 2.8, if Nix's build users have no group, or if no nixpkgs is found.
  - The network is evaluated first, also the systems of its machines if there are at most ten. If that fails, nothing is
    written.
  - If no configuration file of Ansible is in use, an C(ansible.cfg) is written too, with the new source as inventory
    and a fact cache that keeps the deployment state. An existing one is never changed; RV(hints) tells what it lacks.
  - The fact cache is C($XDG_STATE_HOME/nix.ops/facts/UUID), by default C(~/.local/state/nix.ops/facts/UUID). The
    directory is made for its owner alone.
  - An existing deployment of this name in the directory is left as it is.
extends_documentation_fragment: [nix.ops.attributes, nix.ops.settings]
attributes:
  diff_mode:
    support: full
  platform:
    platforms: posix
options:
  deployment:
    description: The deployment's name.
    type: str
    required: true
  networks:
    description: The files of the network, merged as NixOps merges them. Exactly one of this and O(flake) is needed.
    type: list
    elements: path
  flake:
    description: A reference to a flake whose C(nixosConfigurations) are the machines, such as V(.).
    type: str
  uuid:
    description: The deployment's UUID. By default a new one.
    type: str
  arguments:
    description:
      - Values for network files that are functions.
      - They are written into the source as they are, and only its owner can read the file then. Encrypt secret ones
        there with C(ansible-vault encrypt_string) before you commit it.
    type: dict
    default: {}
  nix_path:
    description:
      - Entries of Nix's search path that come before C(NIX_PATH), such as V(nixpkgs=./nixpkgs).
      - V(FILE#PIN) is a pinned source, such as V(nixpkgs=npins/sources.json#nixpkgs).
        P(nix.ops.network#inventory) tells more.
      - If no entry is for nixpkgs, and the network is files, a nixpkgs is searched for and written into the source.
        The first of these is taken. The pin C(nixpkgs) of C(npins/sources.json), of C(nix/sources.json) (niv) or of
        C(flake.lock) in the source's directory. Then what Nix itself finds, by E(NIX_PATH) or as a channel. Then the
        flake registry of the user or of the system.
    type: list
    elements: str
    default: []
  directory:
    description: The directory of the source. By default where Ansible was started.
    type: path
  ask:
    description:
      - Whether to ask on the terminal for a nixpkgs, if several or none are found. Without a terminal nothing is asked.
    type: bool
    default: false
notes:
  - Files are written whole or not at all, and never over existing ones.
  - In check mode nothing is written, and the UUID that is returned is not used later, unless O(uuid) is given.
  - C(--diff) shows the names of O(arguments), not their values.
seealso:
  - module: nix.ops.deployment_list
  - plugin: nix.ops.network
    plugin_type: inventory
    description: Makes hosts of the deployment's machines.
"""

EXAMPLES = r"""
- name: Create a deployment of two files
  nix.ops.deployment_create:
    deployment: target
    networks: [target.nix, config.nix]
  delegate_to: localhost
  run_once: true
  register: created

- name: Show its UUID
  ansible.builtin.debug:
    var: created.uuid

- name: Create another one, of a function and with a nixpkgs of its own
  nix.ops.deployment_create:
    deployment: production
    uuid: 9e8652aa-e64a-11f1-b7ab-02fc00000001
    networks: [production.nix]
    arguments:
      domain: example.org
    nix_path: [nixpkgs=./nixpkgs]
    options:
      cores: 4
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
uuid:
  description: The deployment's UUID.
  type: str
  returned: success
  sample: 9e8652aa-e64a-11f1-b7ab-02fc00000001
name:
  description: Its name.
  type: str
  returned: success
  sample: target
path:
  description: Its source.
  type: str
  returned: success
  sample: /home/me/target.network.yml
files:
  description: The files of its network.
  type: list
  elements: str
  returned: success
  sample: [/home/me/target.nix, /home/me/config.nix]
flake:
  description: The flake that is its network; V(null) if its network is files.
  type: str
  returned: success
  sample: null
description:
  description: C(network.description).
  type: str
  returned: success
  sample: A first network
machines:
  description: The names of its machines.
  type: list
  elements: str
  returned: success
  sample: [target]
nixpkgs:
  description: The nixpkgs that was found and written into the source; V(null) if none was searched for.
  type: str
  returned: success
  sample: nixpkgs=npins/sources.json#nixpkgs
written:
  description: The files that were written, or would be.
  type: list
  elements: str
  returned: success
  sample: [/home/me/ansible.cfg, /home/me/target.network.yml]
differing:
  description: The options in which an existing deployment differs from the given ones.
  type: list
  elements: str
  returned: success
  sample: [networks]
hints:
  description: What is left to do so that Ansible finds the deployment and keeps its state, line by line.
  type: list
  elements: str
  returned: success
  sample:
    - "/home/me/ansible.cfg is left alone; these lines are missing there:"
    - "[defaults]"
    - fact_caching_timeout = 0
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_CREATE


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_CREATE)
    module.fail_json(msg="deployment_create runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
