#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_info; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_info
short_description: Report the status of deployments
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Compares, for the deployments of the inventory, what their networks want with what their machines run and what is
    remembered of them, as C(nixops info) does.
  - Works only on the controller, whatever the task's host. Networks are evaluated with what is remembered of their
    machines, and nothing is built. It connects to no machine; M(nix.ops.deployment_prepare) asks them.
extends_documentation_fragment: [nix.ops.attributes]
attributes:
  platform:
    platforms: posix
options:
  networks:
    description:
      - The sources of the deployments, as the variable C(nix_network) has them. By default all of the inventory.
    type: list
    elements: path
  pattern:
    description:
      - The pattern of the hosts that were asked, a text or a list.
      - The task fails if it is empty, or if a name in it or in the limit of the run is neither a host nor a group.
      - By default neither is checked.
    type: raw
  found:
    description: The results of M(nix.ops.deployment_prepare), by the name of the host that was asked.
    type: dict
    default: {}
  fail_on:
    description:
      - The task fails if a machine matches one of these, after the report was shown and written.
      - A status of a machine; V(unreachable) if the machine was asked and did not answer; V(unevaluated) if its system
        does not evaluate.
      - Only hosts in O(found) count, and machines that have left the network. Without O(found) all machines count.
    type: list
    elements: str
    choices: [New, Activating, Outdated, Boots another, Test, Drifted, Obsolete, unreachable, unevaluated]
    default: []
  format:
    description: How the report is shown. There is a table for each deployment.
    type: str
    choices: [table, json]
    default: table
  file:
    description: A file to write the deployments to as JSON, in check mode too.
    type: path
notes:
  - A machine whose system does not evaluate has no status, and a warning has Nix's whole message.
seealso:
  - module: nix.ops.deployment_prepare
  - module: nix.ops.deployment_list
"""

EXAMPLES = r"""
- name: Ask what the machine runs
  nix.ops.deployment_prepare:
    deployment: "{{ nix_deployment }}"
    uuid: "{{ nix_deployment_uuid }}"
    machine: "{{ nix_machine }}"
    ssh_key: "{{ nix_ssh_key | default(omit) }}"
    remember: false
  register: found

- name: Report the status of the deployments
  nix.ops.deployment_info:
    found: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'found'))) }}"
  delegate_to: localhost
  run_once: true
  register: info

- name: Report what is remembered, without asking
  nix.ops.deployment_info:
    format: json
    file: deployments.json
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
deployments:
  description: The deployments, sorted by name.
  type: list
  elements: dict
  returned: success, and if O(fail_on) makes the task fail
  contains:
    name:
      description: The deployment's name.
      type: str
      sample: target
    uuid:
      description: Its UUID.
      type: str
      sample: 9e8652aa-e64a-11f1-b7ab-02fc00000001
    description:
      description: C(network.description).
      type: str
      sample: A first network
    path:
      description: Its source.
      type: str
      sample: /home/me/target.network.yml
    files:
      description: The files of its network.
      type: list
      elements: str
      sample: [/home/me/target.nix, /home/me/config.nix]
    flake:
      description: The flake that is its network; V(null) if its network is files.
      type: str
      sample: null
    nix_path:
      description: Its entries of Nix's search path.
      type: list
      elements: str
      sample: [nixpkgs=/home/me/nixpkgs]
    arguments:
      description: The names of its arguments; their values may be secret.
      type: list
      elements: str
      sample: [domain]
    machines:
      description: Its machines, and those that have left its network.
      type: list
      elements: dict
      contains:
        name:
          description: The machine's name in the network.
          type: str
          sample: target
        host:
          description: Its host in the inventory.
          type: str
          sample: target
        status:
          description:
            - V(New) was never deployed; V(Up-to-date) runs and boots what its network says; V(Outdated) runs what was
              deployed before; V(Drifted) runs something that was never deployed; V(Obsolete) has left the network.
            - V(Boots another) either runs or boots what its network says, and not both; V(Test) runs it by the action
              V(test), and boots another system; V(Activating) has an activation at work, or a new system that was
              booted and waits to be acknowledged.
            - V(null) if its system does not evaluate.
          type: str
          sample: Outdated
        type:
          description: V(none), as NixOps calls machines that exist already.
          type: str
          sample: none
        address:
          description: Where it was last reached, else where its network says; with the port if that is not 22.
          type: str
          sample: target.example.org
        running:
          description: The toplevel that it runs; V(null) if it was not asked or did not answer.
          type: str
          sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
        wanted:
          description: The machine's toplevel in its network. V(null) if it has left the network or does not evaluate.
          type: str
          sample: /nix/store/7m1k4yd0l7dpf3l1w1ssn0b1bpkmnkhl-nixos-system-target-24.05
        generation:
          description: The generation of what it runs; V(null) if that is not a generation or not known.
          type: int
          sample: 12
        boots:
          description:
            - The toplevel that it boots. If its boot menu can't be read, this is the toplevel of its system profile.
            - V(null) if that is not known.
          type: str
          sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
        nixos_version:
          description: The version of NixOS that it runs; V(null) if that is not known.
          type: str
          sample: "24.05"
        last:
          description: Its latest activation; V(null) if there was none.
          type: dict
          contains:
            toplevel:
              description: The toplevel that was activated.
              type: str
              sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
            action:
              description: V(switch), V(boot) or V(test).
              type: str
              sample: switch
            generation:
              description: The generation of the profile afterwards.
              type: int
              sample: 12
            exit_code:
              description: The exit code; V(null) if the end is not known.
              type: int
              sample: 0
            time:
              description: When, in seconds since 1970.
              type: int
              sample: 1767225600
            rolled_back:
              description: Whether the machine has gone back to what ran before.
              type: bool
              sample: false
            revision:
              description: The Git commit of its network; V(null) if it is not known.
              type: str
              sample: 3f0c1c7d5f5f0b8b0c0f3a9d6a2c8f1e4b7d9a61
            modified:
              description: Whether the network had changes that were not committed.
              type: bool
              sample: false
            origin:
              description: Who deployed it, and where; V(null) if it is not known.
              type: str
              sample: alice@controller
            deploy:
              description: The id of the deploy, which its machines share; V(null) if it is not known.
              type: str
              sample: 20261122-165500-a1b2
        failed_units:
          description: Units in the state C(failed).
          type: list
          elements: str
          sample: [backup.service]
        reboot_needed:
          description:
            - Whether its profile has a kernel, an initrd, kernel modules or a systemd that was not booted.
            - V(null) if that is not known.
          type: bool
          sample: false
        reboot_parts:
          description: Which of these parts differ.
          type: list
          elements: str
          sample: [kernel, initrd]
        reachable:
          description: Whether it answered; V(null) if it was not asked, or that is not known.
          type: bool
          sample: true
        host_key:
          description:
            - V(unknown), V(changed) or V(revoked) if it is unreachable because ssh refuses its host key; else V(null).
          type: str
          sample: null
        missing_keys:
          description: The keys that were sent to it and are not there any more, as after a reboot.
          type: list
          elements: str
          sample: []
        problem:
          description: Why it did not answer what it runs; V(null) if it did, or was not asked.
          type: str
          sample: null
    notes:
      description: Further notes, a sentence each.
      type: list
      elements: str
      sample: ["target needs a reboot for: kernel."]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_INFO


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_INFO)
    module.fail_json(msg="deployment_info runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
