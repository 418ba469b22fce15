# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host keys that a deployment knows of its machines: of the network, of a variable, and accepted by the user.

The accepted ones are in a file of known hosts on the controller, by the names of the machines, so that they hold
whatever a machine's address is. What a machine says or remembers never counts.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import places, ssh_keys
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import host_keys
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host_keys import Known, Refused, Verdict

# The host variable with deployment.sshHostKeys.
VARIABLE = "nix_ssh_host_keys"

_ACCEPT = "deploy_accept_new_host_keys"


# The variable with lines as of a file of known hosts.
KNOWN_HOSTS = "deploy_known_hosts"


def known(uuid: str, machine: str, of_network: Sequence[str], told: str = "", address: str = "") -> list[Known]:
    """Return the host keys that a deployment knows of one of its machines.

    :param uuid: the deployment's UUID.
    :param machine: the machine's name in the network.
    :param of_network: the lines of ``deployment.sshHostKeys``.
    :param told: lines as of a file of known hosts, under the machine's name or its address.
    :param address: the machine's address.
    """
    keys = [key for line in of_network if (key := host_keys.read(str(line)))]
    edit = "correct deployment.sshHostKeys in the network"
    own = [Known(key, "deployment.sshHostKeys", edit) for key in keys]
    return [*own, *_told(told, {machine, address}), *_accepted(uuid, machine)]


def _told(text: str, names: set[str]) -> list[Known]:
    found = []
    for line in text.splitlines():
        hosts, _blank, rest = line.strip().partition(" ")
        # A port other than 22 is written as [HOST]:PORT.
        there = {re.sub(r"^\[(.+)\]:[0-9]+$", r"\1", one) for one in hosts.split(",")}
        if there & names and (key := host_keys.read(rest)):
            found.append(Known(key, KNOWN_HOSTS, f"correct {KNOWN_HOSTS}"))
    return found


def of_variables(variables: Mapping[str, Any]) -> list[Known]:
    """Return the host keys that are known of a host by its variables; none if it is not of a network."""
    uuid, machine = variables.get("nix_deployment_uuid"), variables.get("nix_machine")
    if not uuid or not machine:
        return []
    told, address = variables.get(KNOWN_HOSTS) or "", variables.get("ansible_host") or ""
    return known(str(uuid), str(machine), variables.get(VARIABLE) or (), str(told), str(address))


def accept(uuid: str, machine: str, key: str) -> Known:
    """Remember that the user has accepted a host key of a machine.

    :raises OpsError: if it can't be written.
    """
    file = places.known_hosts(uuid)
    try:
        places.make_private(file.parent)
        # One write, so that the runs of several machines do not mix their lines.
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "wb", buffering=0) as opened:
            opened.write(f"{machine} {key}\n".encode())
    except OSError as error:
        raise OpsError(
            f"the host key can't be written to {file}",
            output=str(error),
            state="nothing was sent to the machine",
            next_step=f"Make {file.parent} writable.",
        ) from error
    return Known(key, str(file), _removing(file, machine))


def why_not_accepted(refused: Refused, uuid: str, variables: Mapping[str, Any]) -> str | None:
    """Return a sentence why a host key is not accepted though the user accepts new ones; None if it is."""
    if refused.verdict is not Verdict.UNKNOWN:
        return f"Only the keys of machines without a known one are accepted ({_ACCEPT})."
    if refused.unread:
        return f"It is not known whether ssh knows another key of the machine, by {refused.unread}."
    # The next job would accept the next key, whoever's it is.
    return ssh_keys.why_not_kept(str(places.known_hosts(uuid)), os.environ, variables, "accepted host key")


def describe(refused: Refused, machine: str, *, is_of_network: bool, state: str, why_not: str | None) -> OpsError:
    """Return the error that tells the user of a host key that is refused.

    :param machine: the name of the host.
    :param is_of_network: whether the host is a machine of a network.
    :param state: what the host runs.
    :param why_not: why the key is not accepted though the user accepts new ones.
    """
    compare = (
        "Compare this fingerprint with the machine's own, on its console or through another way that you trust:"
        f" ssh-keygen -lf {host_keys.file_of(refused.key)}."
    )
    shown = [host_keys.fingerprint(refused.key, refused.name)]
    if refused.verdict is Verdict.UNKNOWN:
        what = "its host key is not known, so nothing was sent to it"
        next_step = f"{compare} If they are the same, {_accepting(refused, is_of_network, why_not)}"
    elif refused.verdict is Verdict.REVOKED:
        what = "its host key is revoked, so nothing was sent to it"
        shown += [f"revoked by {one.where}" for one in refused.known]
        next_step = "Give the machine a new host key, on its console."
    else:
        what = "its host key has changed, so nothing was sent to it: another host may answer in its place"
        shown += [f"known: {host_keys.fingerprint(one.key, one.where)}" for one in refused.known]
        removing = ", ".join(dict.fromkeys(one.remove for one in refused.known)) or "remove the known key"
        next_step = (
            f"Only if the machine got a new key or was installed anew, remove what was known: {removing}. {compare}"
        )
    sentences = [why_not] if why_not else []
    return OpsError(
        what, machine=machine, output="\n".join(shown), state=state, next_step=" ".join([*sentences, next_step])
    )


def _accepting(refused: Refused, is_of_network: bool, why_not: str | None) -> str:
    if not is_of_network:
        return f"add this line to ~/.ssh/known_hosts: {refused.name} {refused.key}"
    commit = f'deployment.sshHostKeys = [ "{refused.key}" ];'
    if why_not:
        return f"write the key into the network: {commit}"
    accept = f"accept it with -e {_ACCEPT}=true of nix.ops.deploy or nix.ops.info"
    return f"{accept}, or write the key into the network: {commit}"


def _accepted(uuid: str, machine: str) -> list[Known]:
    try:
        file = places.known_hosts(uuid)
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, OpsError):
        return []
    found = []
    for number, line in enumerate(lines, 1):
        name, _space, rest = line.partition(" ")
        if name == machine and (key := host_keys.read(rest)):
            found.append(Known(key, f"{file} line {number}", _removing(file, machine)))
    return found


def _removing(file: Path, machine: str) -> str:
    return f"ssh-keygen -R {shlex.quote(machine)} -f {shlex.quote(str(file))}"
