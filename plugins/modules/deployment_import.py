#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_import; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_import
short_description: Import deployments of NixOps
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Reads a file that C(nixops export) of NixOps 1.7 or 2 wrote, also one of C(nixops export --all), and writes what a
    deployment needs here, where Ansible was started. The source C(NAME.network.yml) with UUID, name, network files, Nix
    path and arguments. The SSH key pair of each machine. Its state version and its public key, into the fact cache. The
    host keys that NixOps knew.
  - Works only on the controller, whatever the task's host. It connects to no machine.
  - Machines that NixOps made (EC2, Hetzner, libvirt and so on) become machines that exist already, with their last
    known address. The directory C(NAME-imported) says so. It is one more file of the network.
  - What can't come along is in RV(deployments[].left).
  - All of the file is checked before anything is written. A deployment whose UUID is here already is refused.
  - If no configuration file of Ansible is in use, an C(ansible.cfg) is written too, as by
    M(nix.ops.deployment_create). Otherwise its fact cache has to keep.
extends_documentation_fragment: [nix.ops.attributes]
attributes:
  diff_mode:
    support: full
  platform:
    platforms: posix
options:
  file:
    description: The file that C(nixops export) wrote. It contains private keys, so remove it after the import.
    type: path
    required: true
  deployment:
    description: The name or UUID of the only deployment to import. By default all in the file.
    type: str
  name:
    description: Another name for the deployment.
    type: str
  networks:
    description:
      - The files of the network. By default those that NixOps 1.7 kept. NixOps 2 keeps none, so the default is
        C(nixops.nix) or C(flake.nix) where Ansible was started.
    type: list
    elements: path
  flake:
    description: A reference to the flake that is the network, instead of O(networks).
    type: str
  nix_path:
    description:
      - Entries of Nix's search path. By default those that NixOps kept. If none is for nixpkgs, one is searched for,
        as by M(nix.ops.deployment_create).
    type: list
    elements: str
    default: []
  keys:
    description: Whether to write the private SSH keys.
    type: bool
    default: true
notes:
  - The network is evaluated once it is written. If that fails, a warning says so, and the import succeeds.
  - Arguments that are expressions are not evaluated, only plain values come along. RV(deployments[].left) names the
    others.
  - Files are written whole or not at all, and never over existing ones. Private keys are never readable by others.
  - C(--diff) shows neither private keys nor the values of arguments.
seealso:
  - module: nix.ops.deployment_create
  - module: nix.ops.deployment_export
"""

EXAMPLES = r"""
- name: Import a deployment
  nix.ops.deployment_import:
    file: deployment.json
  delegate_to: localhost
  run_once: true
  register: imported

- name: Show what did not come along
  ansible.builtin.debug:
    msg: "{{ imported.deployments | map(attribute='left') | flatten }}"

- name: Import one of several, whose files are elsewhere by now
  nix.ops.deployment_import:
    file: all.json
    deployment: production
    networks: [logical.nix, physical.nix]
    nix_path: [nixpkgs=channel:nixos-25.05]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
deployments:
  description: The deployments that were imported.
  type: list
  elements: dict
  returned: success
  contains:
    uuid:
      description: The deployment's UUID.
      type: str
      sample: 9e8652aa-e64a-11f1-b7ab-02fc00000001
    name:
      description: Its name.
      type: str
      sample: shop
    path:
      description: Its source.
      type: str
      sample: /home/me/shop.network.yml
    machines:
      description: The names of its machines, as NixOps knew them.
      type: list
      elements: str
      sample: [db, web]
    evaluates:
      description: Whether the network evaluates. It is V(false) in check mode, where nothing is evaluated.
      type: bool
      sample: true
    remembered:
      description: For each machine its state version and its public key.
      type: dict
      sample: {"web": {"state_version": "20.09", "ssh_public_key": null}}
    written:
      description: The files that were written, or would be.
      type: list
      elements: str
      sample: [/home/me/ansible.cfg, /home/me/shop.network.yml]
    left:
      description: What can't come along, and which machines are new, line by line.
      type: list
      elements: str
      sample: ["can't come along: old, since it has left the network: NixOps marks it as obsolete"]
    hints:
      description: What is left to do so that Ansible finds the deployment and keeps its state, line by line.
      type: list
      elements: str
      sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_IMPORT


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_IMPORT)
    module.fail_json(msg="deployment_import runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
