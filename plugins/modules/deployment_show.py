#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_show; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_show
short_description: Show what a network says
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Shows an option of a machine, the arguments of a network, or what a deploy adds to the machines' configuration, as
    C(nixops show-option), C(nixops show-arguments) and C(nixops show-physical) do.
  - Works only on the controller, whatever the task's host. It connects to no machine.
extends_documentation_fragment: [nix.ops.attributes]
attributes:
  platform:
    platforms: posix
options:
  deployment:
    description:
      - The deployment's name or UUID. By default the only one of the inventory, or else the only one whose source
        lies in O(directory).
    type: str
  directory:
    description: Where to look for sources, beside the inventory. By default where Ansible was started.
    type: path
  show:
    description:
      - What to show. V(option) is an option of O(machine), V(arguments) the arguments that the functions of the
        network take, and V(physical) what a deploy adds.
    type: str
    choices: [option, arguments, physical]
    required: true
  machine:
    description: The machine's name in the network. Needed if O(show=option).
    type: str
  option:
    description:
      - The path of an option, of something inside of its value, or of a set of options, as in Nix. Needed if
        O(show=option).
    type: str
  format:
    description: How arguments are shown. Everything else is shown as JSON.
    type: str
    choices: [table, json]
    default: table
  file:
    description: A file to write the same to as JSON, in check mode too.
    type: path
notes:
  - The configuration has what a deploy adds with the inputs that the fact cache remembers, such as the state version.
  - The value of an option may be secret, such as that of C(deployment.keys). With C(no_log) nothing is shown.
  - The values of arguments are not shown.
seealso:
  - module: nix.ops.deployment_info
"""

EXAMPLES = r"""
- name: Show the ports of a machine's SSH server
  nix.ops.deployment_show:
    show: option
    machine: target
    option: services.openssh.ports
  delegate_to: localhost
  run_once: true
  register: shown

- name: Show the files that define them
  ansible.builtin.debug:
    msg: "{{ shown.option.definitions | map(attribute='file') }}"

- name: Show the arguments of the network
  nix.ops.deployment_show:
    show: arguments
  delegate_to: localhost
  run_once: true

- name: Show what a deploy adds to the machines
  nix.ops.deployment_show:
    show: physical
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
option:
  description: The option.
  type: dict
  returned: if O(show=option)
  contains:
    machine:
      description: The machine.
      type: str
      sample: target
    option:
      description: The option's path.
      type: str
      sample: services.openssh.ports
    value:
      description: Its value as JSON; V(null) if it has none. Functions are V(<function>), and packages are their store
        paths.
      type: raw
      sample: [22]
    type:
      description: Its type; V(null) for a set of options.
      type: str
      sample: list of 16 bit unsigned integer; between 0 and 65535 (both inclusive)
    declarations:
      description: The files that declare it.
      type: list
      elements: str
      sample: [/nix/store/q9wwvn0bcbi0v8pvq7l6yx1mz7rjz9d8-nixpkgs/nixos/modules/services/networking/ssh/sshd.nix]
    definitions:
      description: Its definitions that count, each with the file.
      type: list
      elements: dict
      sample:
        - file: /home/me/target.nix
          value: [22]
arguments:
  description: The arguments, sorted by name.
  type: list
  elements: dict
  returned: if O(show=arguments)
  contains:
    name:
      description: The argument's name.
      type: str
      sample: domain
    needed:
      description: Whether a function needs it, because it has no default there.
      type: bool
      sample: true
    given:
      description: Whether the source has a value for it.
      type: bool
      sample: true
    files:
      description: The files whose functions take it.
      type: list
      elements: str
      sample: [/home/me/production.nix]
physical:
  description: For each machine what a deploy adds to its configuration.
  type: dict
  returned: if O(show=physical)
  sample:
    target:
      system:
        stateVersion: "24.05"
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_SHOW


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **DEPLOYMENT_SHOW)
    module.fail_json(msg="deployment_show runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
