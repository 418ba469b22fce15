# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds deployments, and what is remembered of their machines."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import fact_cache
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network
from ansible_collections.nix.ops.plugins.plugin_utils.network.source import SOURCE_SUFFIX, read_source
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

Load = Callable[[str], Any]


@dataclass(frozen=True)
class Deployment:
    """A deployment that was found.

    :param path: the path of its source.
    :param uuid: its UUID; empty if the source can't be read and the inventory does not have it.
    :param network: its network; None if the source can't be read.
    :param problem: why the source can't be read.
    :param hosts: the host of each machine that is in the inventory.
    """

    path: str
    name: str
    uuid: str
    network: Network | None
    problem: str | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)

    def host(self, machine: str) -> str:
        """Return the name of a machine in the fact cache."""
        return self.hosts.get(machine, machine)


def of_inventory(variables: Mapping[str, Mapping[str, Any]], load: Load) -> list[Deployment]:
    """Find the deployments whose machines are in the inventory.

    :param variables: the variables of each host.
    :param load: reads a YAML file, also one with encrypted values.
    """
    found: dict[str, tuple[str, str, dict[str, str]]] = {}
    for host, known in variables.items():
        if "nix_network" not in known:
            continue
        name, uuid = str(known["nix_deployment"]), str(known["nix_deployment_uuid"])
        _name, _uuid, hosts = found.setdefault(str(known["nix_network"]), (name, uuid, {}))
        hosts[str(known["nix_machine"])] = str(host)
    return [
        Deployment(path, name, uuid, *_read(path, load), hosts) for path, (name, uuid, hosts) in sorted(found.items())
    ]


def of_directory(directory: str, load: Load) -> list[Deployment]:
    """Find the deployments whose sources lie in a directory."""
    return [_of_source(path, load) for path in sorted(map(str, Path(directory).glob(f"*{SOURCE_SUFFIX}")))]


def everywhere(
    variables: Mapping[str, Mapping[str, Any]], directory: str, load: Load, sources: Iterable[str] = ()
) -> list[Deployment]:
    """Find the deployments of the inventory and of a directory, sorted by name.

    :param sources: the sources of the inventory. One that does not evaluate has no hosts, and counts as well.
    """
    inventory = of_inventory(variables, load)
    known = {os.path.realpath(one.path) for one in inventory}
    others = []
    for one in (*of_directory(directory, load), *(_of_source(path, load) for path in sources if _is_source(path))):
        if (real := os.path.realpath(one.path)) not in known:
            known.add(real)
            others.append(one)
    return sorted([*inventory, *others], key=lambda one: (one.name, one.uuid, one.path))


def remembered(host: str, uuid: str, tell: LineSink) -> State | None:
    """Return the cached state of a machine in a deployment; a state that can't be read counts as missing.

    :param tell: called with a line if the state can't be read.
    """
    try:
        return states.read(fact_cache.entry(host).get(uuid), uuid)
    except OpsError as error:
        tell(f"{host}: what is remembered of it can't be read: {error}")
        return None


def deployed(deployment: Deployment, machines: Iterable[str], tell: LineSink) -> dict[str, State]:
    """Return the state of each host that was deployed, also of machines that have left the network since.

    :param machines: the names of the network's machines.
    """
    hosts = dict.fromkeys([*map(deployment.host, machines), *deployment.hosts.values()])
    found = {host: state for host in hosts if (state := remembered(host, deployment.uuid, tell))}
    known: Collection[State] = found.values()
    # In a large deployment, a machine that has left may be remembered only by another that has left.
    while gone := dict.fromkeys(member for state in known for member in state.members if member not in hosts):
        hosts |= gone
        more = {host: state for host in gone if (state := remembered(host, deployment.uuid, tell))}
        found |= more
        known = more.values()
    # A machine that was only asked counts as not deployed.
    return {host: state for host, state in found.items() if state.revision or state.activations}


def all_remembered(deployment: Deployment, tell: LineSink) -> dict[str, State]:
    """Return what is cached of the machines of a deployment that are in the inventory, by host."""
    hosts = deployment.hosts.values()
    return {host: state for host in hosts if (state := remembered(host, deployment.uuid, tell))}


def _is_source(path: str) -> bool:
    return path.endswith(SOURCE_SUFFIX) and Path(path).is_file()


def _of_source(path: str, load: Load) -> Deployment:
    network, problem = _read(path, load)
    name = network.name if network else os.path.basename(path).removesuffix(SOURCE_SUFFIX)
    return Deployment(path, name, network.uuid if network else "", network, problem)


def _read(path: str, load: Load) -> tuple[Network | None, str | None]:
    try:
        return read_source(path, load), None
    except (OpsError, AnsibleError) as error:
        return None, str(error)
