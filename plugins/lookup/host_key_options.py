# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells ssh the host keys that a deployment knows of a machine."""

from __future__ import annotations

DOCUMENTATION = r"""
name: host_key_options
short_description: Options of ssh for the host keys that a deployment knows
description:
  - Returns the options by which ssh knows the host keys of a machine, in addition to its own files of known hosts.
  - The keys are those of the network, those of C(deploy_known_hosts), and those that the user has accepted on this
    controller with C(deploy_accept_new_host_keys).
  - They hold for the machine, whatever its address is.
  - P(nix.ops.network#inventory) uses it for the machines of a network.
author:
  - nix.ops contributors (@nix-ops)
version_added: 0.1.0
options:
  _terms:
    description: Names of machines in the network.
    type: list
    elements: str
    required: true
  deployment:
    description: UUID of the deployment. By default the variable C(nix_deployment_uuid).
    type: str
  keys:
    description:
      - The public keys that the network has for the machine, a line each. By default the variable
        C(nix_ssh_host_keys).
    type: list
    elements: str
  known_hosts:
    description:
      - Lines as of a file of known hosts. Those under the machine's name or O(address) count, unless hashed. By default
        the variable C(deploy_known_hosts).
    type: str
  address:
    description: The machine's address. By default the variable C(ansible_host).
    type: str
notes:
  - Needs OpenSSH 8.5 or later on the controller, for C(KnownHostsCommand).
seealso:
  - plugin: nix.ops.network
    plugin_type: inventory
    description: Machines of a NixOps network.
"""

EXAMPLES = r"""
# group_vars that set ansible_ssh_extra_args themselves
ansible_ssh_extra_args: "-v {{ nix_host_key_options }}"
"""

RETURN = r"""
_raw:
  description: The options for each machine, quoted for a shell; an empty text if no key is known.
  type: list
  elements: str
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import host_keys as deployments
from ansible_collections.nix.ops.plugins.plugin_utils.machine import host_keys


class LookupModule(LookupBase):
    """Returns options of ssh for host keys."""

    def run(self, terms: Sequence[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Look up the keys, and return the options by which ssh knows them."""
        if kwargs:
            # Takes as long as all the rest, for each task and host.
            self.set_options(direct=kwargs)

        def option(name: str, variable: str) -> Any:
            given = self.get_option(name) if kwargs else None
            if given is None and variables and variable in variables:
                given = self._templar.template(variables[variable])
            return given or ""

        deployment, keys = str(option("deployment", "nix_deployment_uuid")), option("keys", "nix_ssh_host_keys") or []
        told, address = str(option("known_hosts", "deploy_known_hosts")), str(option("address", "ansible_host"))
        known = [[one.key for one in deployments.known(deployment, str(name), keys, told, address)] for name in terms]
        return [shlex.join(host_keys.options(one)) for one in known]
