# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Offers to ssh a private key that ansible-vault has encrypted."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ssh_key_options
short_description: Options of ssh for a private key that ansible-vault encrypted
description:
  - Returns the options by which ssh offers a private key in addition to all other keys.
  - The key may be encrypted by C(ansible-vault), with any vault id. It is decrypted into the memory of the calling
    process, and gone when that process ends, even if it is killed. No file is written, and the result has no secret.
  - If the run has no secret for the key, or the key does not exist, the result has no option. Other keys of ssh may
    still get in.
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
  - An encrypted key needs a controller that runs Linux.
  - The result is valid for the calling process and the processes that it starts. Use it in a variable, not in a fact
    or a file.
seealso:
  - plugin: nix.ops.network
    plugin_type: inventory
    description: Machines of a NixOps network.
"""

EXAMPLES = r"""
# group_vars of hosts that are not machines of a network
ansible_ssh_common_args: "{{ lookup('nix.ops.ssh_key_options', inventory_dir ~ '/keys/shared') }}"
"""

RETURN = r"""
_raw:
  description: The options for each key, quoted for a shell; an empty text for a key that needs no options.
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
    """Returns options of ssh for private keys."""

    def run(self, terms: Sequence[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Decrypt the keys if needed, and return the options by which ssh offers them."""
        self.set_options(var_options=variables, direct=kwargs)
        return [shlex.join(ssh_keys.offering(vaulted_keys.identity(str(path), self._loader))) for path in terms]
