# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Composes what ``nixops import`` of NixOps 1.7 and 2 reads: the rows of its state file, all values as texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import nix_values
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.nixops_file import NONE
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import State
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Definition, Evaluation, Network

# Of NixOps' states of a machine (nixops/backends/__init__.py).
_UP = "3"


def compose(
    network: Network, evaluated: Evaluation, states: Mapping[str, State], private_keys: Mapping[str, str]
) -> dict[str, Any]:
    """Return the attributes of a deployment as NixOps keeps them.

    :param states: what is remembered of each machine.
    :param private_keys: the private SSH key of each machine that gets one.
    """
    found = {
        "name": network.name,
        "description": evaluated.description,
        # NixOps 2 keeps no files, and ignores this.
        "nixExprs": json.dumps(network.files) if network.files else None,
        "nixPath": json.dumps([entry for entry in network.nix_path if "#" not in entry]),
        "args": json.dumps({name: nix_values.write(value) for name, value in network.arguments.items()}),
    }
    resources = {
        name: _present(_machine(network, one, states.get(name), private_keys.get(name), number))
        for number, (name, one) in enumerate(sorted(evaluated.definitions.items()))
    }
    return {**_present(found), "resources": resources}


def left(network: Network, machines: Iterable[str], states: Mapping[str, State]) -> Iterator[str]:
    """Yield what can't go along, line by line."""
    for entry in network.nix_path:
        if "#" in entry:
            yield f"the pin {entry}: NixOps reads no pins, so give it -I nixpkgs=PATH"
    if network.options:
        yield f"settings of Nix: {', '.join(network.options)}"
    if network.flake:
        yield "the place of the flake: run NixOps in its directory"
    for name in machines:
        state = states.get(name)
        if state is None or state.inputs.state_version is None:
            yield f"the state version of {name}, which is not remembered: it is known after a deploy"


def _machine(
    network: Network, definition: Definition, state: State | None, private_key: str | None, number: int
) -> dict[str, str | None]:
    deployed = state.deployed if state else None
    public_key = state.inputs.ssh_public_key if state else None
    user, command = definition.target_user, definition.privilege_escalation_command
    return {
        "type": NONE,
        "targetHost": definition.target_host,
        "targetPort": str(definition.target_port or 22),
        "targetUser": user if user != "root" else None,
        "sshOptions": json.dumps(definition.ssh_options),
        "privilegeEscalationCommand": json.dumps(command),
        "provisionSSHKey": None if definition.provision_ssh_key else "0",
        "index": str(number),
        # Without it, NixOps takes the machine for a new one and makes another key pair.
        "vmId": f"nixops-{network.uuid}-{definition.name}",
        "state": _UP if deployed else None,
        "stateVersion": state.inputs.state_version if state else None,
        "toplevel": deployed.toplevel if deployed else None,
        "none.sshPublicKey": public_key,
        "none.sshPrivateKey": private_key,
        # NixOps offers its key only to a machine that has it.
        "none.sshPublicKeyDeployed": "1" if deployed and public_key else None,
    }


def _present(attributes: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in attributes.items() if value is not None}
