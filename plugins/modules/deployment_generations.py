#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_generations; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_generations
short_description: List the generations of machines and the deploys that made them
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Shows the generations that machines have kept, which of them boots and which was booted, and the deploy that made
    each of them, as far as the machine has recorded it.
  - Works only on the controller, whatever the task's host. It connects to no machine, and evaluates no network.
extends_documentation_fragment: [nix.ops.attributes]
attributes:
  platform:
    platforms: posix
options:
  found:
    description:
      - What M(nix.ops.deployment_prepare) returned for each host, with its option
        O(nix.ops.deployment_prepare#module:generations).
    type: dict
    required: true
  pattern:
    description: A pattern of hosts, or a list of patterns, in which each name has to match something.
    type: raw
  format:
    description: How the generations are shown.
    type: str
    choices: [table, json]
    default: table
  file:
    description: A file to write them to as JSON, in check mode too.
    type: path
seealso:
  - module: nix.ops.deployment_prepare
  - module: nix.ops.nixos_info
"""

EXAMPLES = r"""
- name: Ask each machine
  nix.ops.deployment_prepare:
    deployment: "{{ nix_deployment }}"
    uuid: "{{ nix_deployment_uuid }}"
    machine: "{{ nix_machine }}"
    remember: false
    generations: true
  register: asked

- name: List the generations
  nix.ops.deployment_generations:
    found: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars, 'asked'))) }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
machines:
  description: The machines.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: The machine's host.
      type: str
      sample: target
    problem:
      description: Why nothing is known of it; V(null) if it has answered.
      type: str
      sample: null
    running:
      description: The toplevel that runs; V(null) if it has not answered.
      type: str
      sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
    generations:
      description:
        - Its generations, the newest first. Each has C(number), C(created) (in seconds since 1970), C(toplevel),
          C(nixos_version), C(kernel), C(current) (the profile names it), C(running), C(booted), and the C(deploy) that
          made it, with its C(revision) and C(origin).
      type: list
      elements: dict
      sample: []
deploys:
  description: The deploys that the machines have recorded, the latest first.
  type: list
  elements: dict
  returned: success
  contains:
    id:
      description: Its id, which begins with its time in UTC.
      type: str
      sample: 20261122-165500-a1b2
    machines:
      description: The machines whose system it has replaced.
      type: list
      elements: str
      sample: [target]
    revision:
      description: The Git commit of the network; V(null) if it is not known.
      type: str
      sample: 3f0c1c7d5f5f0b8b0c0f3a9d6a2c8f1e4b7d9a61
    modified:
      description: Whether the network had changes that were not committed.
      type: bool
      sample: false
    origin:
      description: Who deployed it, and where; V(null) if it is not known.
      type: str
      sample: me@laptop
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_GENERATIONS


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_GENERATIONS)
    module.fail_json(msg="deployment_generations runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
