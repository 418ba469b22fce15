#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_prepare; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_prepare
short_description: Prepare a machine for a deployment
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Asks a machine, in one round trip, what it runs and what it remembers of itself, and joins that with what the fact
    cache remembers. The result becomes the fact C(nix_ops) of the host.
  - On the first contact it waits for the machine's SSH server, makes an SSH key pair for the machine on the controller,
    and takes the release of NixOS that runs as its state version. Both are inputs of the machine's system from then on.
  - Nothing on the machine is changed.
extends_documentation_fragment: [nix.ops.attributes, nix.ops.waits, nix.ops.variables]
options:
  deployment:
    description: Name of the deployment, C(nix_deployment) of the machine's host.
    type: str
    required: true
  uuid:
    description: UUID of the deployment, C(nix_deployment_uuid) of the machine's host.
    type: str
    required: true
  machine:
    description: Name of the machine in the network, C(nix_machine) of its host.
    type: str
    required: true
  ssh_key:
    description:
      - Path on the controller of the private key with which the deployment logs in, C(nix_ssh_key) of the machine's
        host. Its public half is an input of the machine's system.
      - If it is left out, the machine has no key of the deployment.
    type: path
  provision:
    description:
      - Whether to make a key pair for a machine whose private key is missing and whose public key is not remembered.
      - It is not made in check mode, nor if the private key would be lost with the run, as in a job of AWX.
    type: bool
    default: true
  profile:
    description: The profile whose generations count.
    type: path
    default: /nix/var/nix/profiles/system
  remember:
    description:
      - Whether inputs that are decided here are remembered. V(false) is for a report, which returns them and says
        nothing of them. It makes no key pair either.
      - What the machine itself remembers becomes the fact in any case.
    type: bool
    default: true
  network:
    description:
      - Path of the network's source, C(nix_network) of the machine's host. If it is in a Git work tree, the machine is
        refused if it was last deployed from a later commit, or from one that is not in the repository.
      - With O(older=true) or O(remember=false) no machine is refused for that.
    type: path
  checkout:
    description: The commit that is checked out there, if it is known. By default Git is asked.
    type: dict
    suboptions:
      revision:
        description: The commit.
        type: str
        required: true
      modified:
        description: Whether the network has changes that are not committed.
        type: bool
        default: false
  older:
    description: Whether to deploy the machine all the same if its last commit is later, or not in the repository.
    type: bool
    default: false
  take_over:
    description:
      - Whether the machine may belong to another deployment. By default, a machine is refused if another deployment
        made its last activation, or if only other deployments have a record on it.
      - With O(remember=false) no machine is refused.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for the SSH server of a machine that is not in the fact cache yet.
    type: int
    default: 60
  since:
    description:
      - When the run began to wait, as C(since) in the result of M(nix.ops.deployment_plan) with the stage V(check).
      - O(timeout) counts from then on, so that all machines that can't be reached cost the run one O(timeout) together.
        A machine whose turn comes later is waited for ten seconds, or O(timeout) if that is less.
      - By default O(timeout) counts from the start of each machine's own task.
    type: float
  accept_new_host_keys:
    description:
      - Whether to accept the host key of a machine of which no host key is known. It is shown, and remembered on the
        controller in C($XDG_STATE_HOME/nix.ops/known_hosts/UUID). In check mode it is accepted for this task alone.
      - A key that differs from a known one is never accepted, nor is any key in a job of AWX, whose files are gone at
        its end.
    type: bool
    default: false
  keys:
    description:
      - The machine's keys, as M(nix.ops.nixos_keys) takes them. The machine compares what it has with salted hashes of
        the contents, in the same round trip. Nothing is sent, and no command of a key is run.
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
        description: Not used here.
        type: dict
        default: {}
      keep_old:
        description: Not used here.
        type: bool
        default: false
  generations:
    description:
      - Whether to ask for the versions of the generations too, and which of them need a reboot. Otherwise these are
        V(null).
    type: bool
    default: false
notes:
  - Fails before anything is touched if the fact cache would forget the deployment state. With O(provision=false) or
    O(remember=false) and in check mode such a cache counts as empty.
  - What the machine remembers of itself is trusted for that machine alone. It never decides where a machine is reached.
  - A machine whose address or port has changed in the network is reached where it was last acknowledged, or else
    where the network says. A host that answers at the old address without a record of this deployment is left alone.
seealso:
  - module: nix.ops.nixos_activate
  - module: nix.ops.nixos_info
"""

EXAMPLES = r"""
- name: Prepare a machine
  nix.ops.deployment_prepare:
    deployment: "{{ nix_deployment }}"
    uuid: "{{ nix_deployment_uuid }}"
    machine: "{{ nix_machine }}"
    ssh_key: "{{ nix_ssh_key | default(omit) }}"
"""

RETURN = r"""
inputs:
  description: The remembered inputs of the machine's system, for the option O(nix.ops.nix_build#module:remembered).
  type: dict
  returned: success
  contains:
    state_version:
      description: The release of NixOS that the machine was first seen with; V(null) if it is unknown.
      type: str
      sample: "24.05"
    ssh_public_key:
      description: The public half of the deployment's key; V(null) if it has none.
      type: str
      sample: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAgi nix.ops key of target in example
state:
  description: What is remembered of the machine in this deployment, in check mode too; see RV(ansible_facts.nix_ops).
  type: dict
  returned: success
checkout:
  description:
    - The Git commit that the network is checked out at. Pass it on to O(nix.ops.nixos_activate#module:remember).
    - V(null) if the network is not in a Git work tree.
  type: dict
  returned: success
  contains:
    revision:
      description: The commit.
      type: str
      sample: 3f0c1c7d5f5f0b8b0c0f3a9d6a2c8f1e4b7d9a61
    modified:
      description: Whether the network has changes that are not committed.
      type: bool
      sample: false
recorded:
  description: Whether the machine's own record has all that is remembered of it.
  type: bool
  returned: success
  sample: true
host_key_checked:
  description: Whether ssh refuses an unknown host key of the machine; V(null) if the connection has no host keys.
  type: bool
  returned: success
  sample: true
host_key:
  description: V(unknown), V(changed) or V(revoked) if the host key is the reason that the machine is unreachable.
  type: str
  returned: if the host key is refused
  sample: unknown
address:
  description: Where the machine was reached; V(null) if the connection is not C(ssh).
  type: str
  returned: success
  sample: target.example.org
port:
  description: The port of its SSH server; V(null) if the connection is not C(ssh).
  type: int
  returned: success
  sample: 22
ansible_facts:
  description: The fact in which the deployment state is kept.
  type: dict
  returned: not in check mode
  contains:
    nix_ops:
      description:
        - What is remembered of the machine, by the UUIDs of the deployments that it belongs to.
        - It holds no secret. Its layout may change; read it through M(nix.ops.deployment_info).
      type: dict
      sample:
        9e8652aa-e64a-11f1-b7ab-02fc00000001:
          schema: 1
          uuid: 9e8652aa-e64a-11f1-b7ab-02fc00000001
          deployment: example
          machine: target
          inputs:
            state_version: "24.05"
            ssh_public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAgi nix.ops key of target in example
          revision: 1
          activations:
            - toplevel: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
              action: switch
              generation: 12
              exit_code: 0
              time: 1767225600
              rolled_back: false
              revision: 3f0c1c7d5f5f0b8b0c0f3a9d6a2c8f1e4b7d9a61
              modified: false
              origin: alice@controller
              deploy: 20261122-165500-a1b2
          acknowledged: {address: target.example.org, port: 22, time: 1767225600}
          members: [target]
running:
  description: See RV(nix.ops.nixos_info#module:running).
  type: str
  returned: success
booted:
  description: See RV(nix.ops.nixos_info#module:booted).
  type: str
  returned: success
profile:
  description: See RV(nix.ops.nixos_info#module:profile).
  type: str
  returned: success
generation:
  description: See RV(nix.ops.nixos_info#module:generation).
  type: int
  returned: success
boot_default:
  description: See RV(nix.ops.nixos_info#module:boot_default).
  type: str
  returned: success
boot_unfinished:
  description: See RV(nix.ops.nixos_info#module:boot_unfinished).
  type: bool
  returned: success
failed_units:
  description: See RV(nix.ops.nixos_info#module:failed_units).
  type: list
  elements: str
  returned: success
nixos_version:
  description: See RV(nix.ops.nixos_info#module:nixos_version).
  type: str
  returned: success
system_state:
  description: See RV(nix.ops.nixos_info#module:system_state).
  type: str
  returned: success
boot_id:
  description: See RV(nix.ops.nixos_info#module:boot_id).
  type: str
  returned: success
machine_id:
  description: See RV(nix.ops.nixos_info#module:machine_id).
  type: str
  returned: success
has_nix:
  description: See RV(nix.ops.nixos_info#module:has_nix).
  type: bool
  returned: success
generations:
  description: See RV(nix.ops.nixos_info#module:generations).
  type: list
  elements: dict
  returned: success
activating:
  description: See RV(nix.ops.nixos_info#module:activating).
  type: bool
  returned: success
sent_keys:
  description: See RV(nix.ops.nixos_info#module:sent_keys).
  type: list
  elements: str
  returned: success
  sample: [db-password]
missing_keys:
  description: See RV(nix.ops.nixos_info#module:missing_keys).
  type: list
  elements: str
  returned: success
  sample: []
compared_keys:
  description: How the keys of the machine compare; V(null) if O(keys) is not given, or if the machine can't tell.
  type: dict
  returned: success
  contains:
    differing:
      description: The keys that are missing or differ.
      type: list
      elements: str
      sample: [db-password]
    gone:
      description: The keys that left the network and are still there.
      type: list
      elements: str
      sample: []
    unknown:
      description: The keys of commands, which were not run.
      type: list
      elements: str
      sample: []
    run:
      description: Lets the next tasks use what was evaluated for this one.
      type: str
owners:
  description: See RV(nix.ops.nixos_info#module:owners).
  type: list
  elements: str
  returned: success
trial:
  description: See RV(nix.ops.nixos_info#module:trial).
  type: str
  returned: success
reboot_needed:
  description: See RV(nix.ops.nixos_info#module:reboot_needed).
  type: bool
  returned: success
reboot_parts:
  description: See RV(nix.ops.nixos_info#module:reboot_parts).
  type: list
  elements: str
  returned: success
booted_parts:
  description: See RV(nix.ops.nixos_info#module:booted_parts).
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_PREPARE


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_PREPARE)
    module.fail_json(msg="deployment_prepare runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
