# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Offers to ssh a private key that ansible-vault has encrypted."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ssh_key_options
short_description: Options by which ssh offers a private key of ansible-vault
description:
  - Gives the options by which ssh offers a private key beside all that it offers anyway.
  - The key may be encrypted by C(ansible-vault), with any vault id. It is decrypted into the memory of the process that
    asks, which alone keeps it, and nothing is left of it when that process ends, whatever ends it.
    No file is written, and no secret is in what this plugin gives.
  - Where the run has no secret for the key, and where there is no key, it gives no option. What else ssh offers may get
    in.
  - P(nix.ops.network#inventory) uses it for the keys of a deployment that are encrypted.
author:
  - nix.ops contributors (@nix-ops)
version_added: 0.1.0
options:
  _terms:
    description: Absolute paths of private keys.
    type: list
    elements: path
    required: true
notes:
  - An encrypted key is offered where the controller is Linux.
  - What it gives holds for the process that asks and those that it starts, so it belongs into a variable, and not into
    a fact or a file.
seealso:
  - plugin: nix.ops.network
    plugin_type: inventory
    description: Machines of a NixOps network.
"""

EXAMPLES = r"""
# group_vars of hosts that are no machines of a network
ansible_ssh_common_args: "{{ lookup('nix.ops.ssh_key_options', inventory_dir ~ '/keys/shared') }}"
"""

RETURN = r"""
_raw:
  description: For each key the options, quoted as for a shell; an empty text where there are none.
  type: list
  elements: str
  sample: ['-o ''IdentityFile="/proc/4711/fd/9"''']
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import ssh_keys, vaulted_keys


class LookupModule(LookupBase):
    """The options of ssh for private keys."""

    def run(self, terms: Sequence[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Decrypt the keys where that is needed, and tell how ssh offers them."""
        self.set_options(var_options=variables, direct=kwargs)
        return [shlex.join(ssh_keys.offering(vaulted_keys.identity(str(path), self._loader))) for path in terms]
