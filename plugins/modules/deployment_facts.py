#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_facts; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_facts
short_description: Tell what a machine runs, and what is remembered of it
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Asks a machine of a deployment, in one round trip, what it runs and what it remembers of itself, and puts that
    together with what the fact cache remembers. The whole becomes the fact C(nix_ops) of the host.
  - On the first contact it waits for the machine's SSH server, makes an SSH key pair for it, and takes the release of
    NixOS that runs for its state version. Both are inputs of the machine's system from then on.
  - Nothing on the machine is changed.
extends_documentation_fragment: [nix.ops.attributes]
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
      - Path on the controller of the private key with which the deployment gets into the machine, C(nix_ssh_key) of its
        host. Its public half is an input of the machine's system.
      - Left out, the machine has no key of the deployment.
    type: path
  provision:
    description:
      - Whether to make the key pair where there is none yet and no public key is remembered.
      - It is never made where the private key would be gone with the run, as in a job of AWX, nor in check mode.
    type: bool
    default: true
  timeout:
    description: For how many seconds to wait for the SSH server of a machine of which nothing is cached.
    type: int
    default: 60
notes:
  - Fails before anything is touched where the fact cache would forget the deployment state. With O(provision=false) and
    in check mode it only goes without.
  - What the machine remembers of itself is trusted for its own rows alone. It never decides where a machine is reached.
  - A machine whose address or port has been changed in the network is reached where it was last acknowledged, or else
    where the network says. Who answers at the old address without a record of this deployment is left alone.
seealso:
  - module: nix.ops.nixos_activate
  - module: nix.ops.nixos_info
"""

EXAMPLES = r"""
- name: Find out what a machine runs and what is remembered of it
  nix.ops.deployment_facts:
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
      description: The release of NixOS that the machine was first seen with; V(null) where that could not be told.
      type: str
      sample: "24.05"
    ssh_public_key:
      description: The public half of the deployment's key; V(null) where it has none.
      type: str
      sample: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAgi nix.ops key of target in example
state:
  description: All that is remembered of the machine in this deployment, in check mode too; as below C(ansible_facts).
  type: dict
  returned: success
recorded:
  description: Whether the machine's own record has all that is remembered of it.
  type: bool
  returned: success
  sample: true
address:
  description: Where the machine was reached; V(null) where the connection is not C(ssh).
  type: str
  returned: success
  sample: target.example.org
port:
  description: The port of its SSH server, likewise.
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
        - For the UUID of each deployment that the host is a machine of, what is remembered of it.
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
          acknowledged: {address: target.example.org, port: 22, time: 1767225600}
          members: [target]
running:
  description: The toplevel that runs; V(null) where the host is no NixOS machine.
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
  description: The toplevel that the boot menu starts by itself; V(null) where the menu can't be read.
  type: str
  returned: success
  sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
boot_unfinished:
  description:
    - Whether the profile was set and its boot entry has not been written since, as after a boot loader that failed or
      a machine that went down in between.
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
activating:
  description: Whether an activation of this collection is at work.
  type: bool
  returned: success
  sample: false
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
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_FACTS


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_FACTS)
    module.fail_json(msg="deployment_facts runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
