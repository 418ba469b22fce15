# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a deployment stands: what its network wants, what its machines run, what is remembered of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import discovery
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Activated, Seen, State, Status
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.table import Align, Column, table
from ansible_collections.nix.ops.plugins.plugin_utils.display import plain
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, first_line
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Definition, Evaluation, Network, Remembered
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

_SSH_PORT = 22
_COLUMNS = (
    Column("Name"),
    Column("Status", Align.CENTRE),
    Column("Type"),
    Column("Address"),
    Column("Runs"),
    Column("Last deploy"),
)


@dataclass(frozen=True)
class Machine:
    """One machine of a report.

    :param status: None if its system does not evaluate.
    :param running: the toplevel that it runs; None if it was not asked or did not answer.
    :param wanted: the toplevel that the network gives it; None if it has left the network or does not evaluate.
    :param generation: the generation of the toplevel that it runs; None if that is not a generation or not known.
    :param boots: the toplevel that it boots; None if that is not known.
    :param boots_generation: the generation of that toplevel, in the same way.
    :param unwritten: the toplevel of its profile, if its boot entry was not written.
    :param host_key: ``unknown``, ``changed`` or ``revoked`` if it is unreachable for its host key.
    :param last: its latest activation.
    :param reboot_parts: the parts that need a reboot; None if they are not known.
    :param reachable: None if it was not asked, or failed for another reason.
    :param problem: the error if it was asked and failed.
    :param missing_keys: the keys that were sent to it and are not there any more.
    """

    name: str
    host: str
    status: Status | None
    type: str
    address: str | None
    running: str | None
    wanted: str | None
    generation: int | None
    nixos_version: str | None
    last: Activated | None
    failed_units: tuple[str, ...]
    reboot_parts: tuple[str, ...] | None
    reachable: bool | None
    problem: str | None = None
    boots: str | None = None
    boots_generation: int | None = None
    unwritten: str | None = None
    host_key: str | None = None
    missing_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """The state of a deployment and its machines.

    :param path: the path of its source.
    :param notes: remarks, a sentence each.
    """

    network: Network
    path: str
    description: str
    machines: tuple[Machine, ...]
    notes: tuple[str, ...]


def report(
    deployment: Deployment,
    found: Mapping[str, Mapping[str, Any]],
    *,
    env: Mapping[str, str],
    on_line: LineSink,
    warn: LineSink,
) -> Report:
    """Compare a deployment's machines with its network, without building anything.

    :param found: the result of ``nix.ops.deployment_prepare`` for each host that was asked.
    :param on_line: called with each line that Nix says.
    :param warn: shows a warning, for example of a system that does not evaluate.
    :raises OpsError: if the source can't be read, or the network does not evaluate and never did.
    """
    if deployment.network is None:
        raise OpsError(f"{deployment.path} can't be read", output=deployment.problem)
    network = deployment.network
    evaluated, stale = _evaluate(network, env, on_line, warn)
    known = {name: _state(deployment, deployment.host(name), found, warn) for name in evaluated.definitions}
    remembered = {
        name: inputs for name, state in known.items() if (inputs := _inputs(found.get(deployment.host(name)), state))
    }
    wanted = {} if stale else _wanted(network, list(evaluated.definitions), remembered, env, warn)
    machines = [
        _machine(deployment, definition, known[name], wanted.get(name), found.get(deployment.host(name), {}))
        for name, definition in evaluated.definitions.items()
    ]
    gone, notes = _gone(deployment, known, warn)
    in_order = tuple(sorted([*machines, *gone], key=lambda one: _in_order(one.name)))
    return Report(network, deployment.path, evaluated.description, in_order, (*stale, *notes, *_remarks(in_order)))


def wrong(report: Report, reasons: Sequence[str], asked: Collection[str]) -> list[str]:
    """Return a line for each machine that matches the option ``fail_on``.

    :param reasons: statuses, ``unreachable`` and ``unevaluated``.
    :param asked: the hosts of the run; empty for all. Machines that left the network always count.
    """
    found = []
    for machine in report.machines:
        if asked and machine.host not in asked and machine.status is not Status.OBSOLETE:
            continue
        so = {str(machine.status or "unevaluated")}
        if machine.problem or machine.reachable is False:
            so.add("unreachable")
        if there := [reason for reason in reasons if reason in so]:
            found.append(f"{report.network.name}: {machine.name} is {' and '.join(there)}.")
    return found


def as_json(report: Report) -> dict[str, Any]:
    """Return a report as plain values, of the arguments only the names, since their values may be secret."""
    network = report.network
    return {
        "name": network.name,
        "uuid": network.uuid,
        "description": report.description,
        "path": report.path,
        "files": list(network.files),
        "flake": network.flake,
        "nix_path": list(network.nix_path),
        "arguments": sorted(network.arguments),
        "machines": [_machine_as_json(machine) for machine in report.machines],
        "notes": list(report.notes),
    }


def as_text(report: Report) -> str:
    """Return a report as text like NixOps: some lines about the deployment, and a table of its machines."""
    network = report.network
    lines = {
        "Network name": network.name,
        "Network UUID": network.uuid,
        "Network description": report.description,
        "Nix expressions": " ".join(network.files),
        "Flake": network.flake,
        "Nix path": " ".join(f"-I {entry}" for entry in network.nix_path),
        "Nix arguments": ", ".join(sorted(network.arguments)),
    }
    head = [f"{title}: {plain(text)}" for title, text in lines.items() if text]
    rows = [_row(machine) for machine in report.machines]
    notes = ["", *map(plain, report.notes)] if report.notes else []
    return "\n".join([*head, "", table(_COLUMNS, rows), *notes])


def _state(deployment: Deployment, host: str, found: Mapping[str, Mapping[str, Any]], warn: LineSink) -> State | None:
    """Return the state of a machine. What it has just answered is newer than the cache."""
    if told := found.get(host, {}).get("state"):
        return states.read(told, deployment.uuid)
    return discovery.remembered(host, deployment.uuid, warn)


def _inputs(found: Mapping[str, Any] | None, state: State | None) -> Remembered | None:
    if found and "inputs" in found:
        return Remembered(**found["inputs"])
    return state.inputs if state else None


def _wanted(
    network: Network,
    names: Sequence[str],
    remembered: Mapping[str, Remembered],
    env: Mapping[str, str],
    warn: LineSink,
) -> dict[str, str]:
    """Return the toplevels that the network gives its machines, without systems that do not evaluate."""
    derivations, failures = evaluation.instantiate_each(network, names, remembered=remembered, env=env)
    for failure in failures.values():
        warn(str(failure))
    return {name: derivation.out_path for name, derivation in derivations.items()}


def _evaluate(
    network: Network, env: Mapping[str, str], on_line: LineSink, warn: LineSink
) -> tuple[Evaluation, list[str]]:
    """Return a network's definitions, or the last good ones with a note that says so."""
    try:
        return evaluation.definitions(network, env=env, on_line=on_line), []
    except OpsError as error:
        last = evaluation.last_good(network)
        if last is None:
            raise
        warn(f"{network.name}: {error}")
        return last.evaluation, [
            f"The network does not evaluate. Its definitions are those of {last}, the last good ones."
        ]


def _machine(
    deployment: Deployment,
    definition: Definition,
    state: State | None,
    wanted: str | None,
    found: Mapping[str, Any],
) -> Machine:
    running = found.get("running")
    is_unwritten = bool(found.get("boot_unfinished"))
    # Without a boot menu that can be read, the profile says what boots.
    boots = found.get("boot_default") or (None if is_unwritten else found.get("profile"))
    seen = Seen(running, boots, is_unwritten, _is_unsettled(found))
    where = _address(found.get("address"), found.get("port")) or _acknowledged(state)
    return Machine(
        name=definition.name,
        host=deployment.host(definition.name),
        status=states.status(state, seen, wanted=wanted) if wanted else None,
        type=definition.target_env,
        address=where or _address(definition.target_host, definition.target_port),
        running=running,
        wanted=wanted,
        generation=_generation(found, running),
        nixos_version=found.get("nixos_version"),
        last=state.deployed if state else None,
        failed_units=tuple(found.get("failed_units") or ()),
        reboot_parts=tuple(found["reboot_parts"]) if "reboot_parts" in found else None,
        reachable=_reachable(found),
        problem=str(found.get("msg")) if found.get("failed") or found.get("unreachable") else None,
        boots=boots,
        boots_generation=_generation(found, boots),
        unwritten=found.get("profile") if is_unwritten else None,
        host_key=found.get("host_key"),
        missing_keys=tuple(found.get("missing_keys") or ()),
    )


def _is_unsettled(found: Mapping[str, Any]) -> bool:
    """Return whether an activation is at work on a machine, or its boot waits to be acknowledged."""
    return bool(found.get("activating") or (found.get("trial") and found.get("trial") == found.get("running")))


def _generation(found: Mapping[str, Any], toplevel: str | None) -> int | None:
    """Return the generation of a toplevel on a machine, the newest of several; None if it is not one."""
    if toplevel is not None and toplevel == found.get("profile"):
        return found.get("generation")
    return max((one["number"] for one in found.get("generations") or () if one["toplevel"] == toplevel), default=None)


def _reachable(found: Mapping[str, Any]) -> bool | None:
    if found.get("unreachable"):
        return False
    return True if "running" in found else None


def _gone(deployment: Deployment, known: Mapping[str, State | None], warn: LineSink) -> tuple[list[Machine], list[str]]:
    """Return the machines that have left the network, and notes on names that are only heard of.

    A record may name any machine. Only a machine with a cached state is certain to have been part of the deployment.
    """
    hosts = {deployment.host(name) for name in known} | set(deployment.hosts.values())
    told: dict[str, list[str]] = {}
    found: dict[str, State | None] = {}
    left = [state for state in known.values() if state]
    # In a large deployment, a machine that has left may be remembered only by another that has left.
    while left:
        teller = left.pop()
        for member in {*teller.members} - hosts:
            told.setdefault(member, []).append(teller.machine)
            if member not in found:
                state = found[member] = discovery.remembered(member, deployment.uuid, warn)
                left += [state] if state else []
    gone, notes = [], []
    for member, state in sorted(found.items()):
        by = [name for name in sorted(told[member]) if name in known]
        if state is None and by:
            notes.append(f"{member} was a machine of this deployment, says what is remembered of {', '.join(by)}.")
        elif state and state.machine not in known:
            gone.append(_obsolete(member, state))
    return gone, notes


def _obsolete(host: str, state: State) -> Machine:
    return Machine(
        name=state.machine,
        host=host,
        status=Status.OBSOLETE,
        type="none",
        address=_acknowledged(state),
        running=None,
        wanted=None,
        generation=None,
        nixos_version=None,
        last=state.deployed,
        failed_units=(),
        reboot_parts=None,
        reachable=None,
    )


def _acknowledged(state: State | None) -> str | None:
    known = state.acknowledged if state else None
    return _address(known.address, known.port) if known else None


def _address(host: object, port: object) -> str | None:
    if not host:
        return None
    if port in (None, _SSH_PORT):
        return str(host)
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _remarks(machines: Sequence[Machine]) -> list[str]:
    found = []
    for machine in machines:
        if machine.problem and machine.reachable is None:
            found.append(f"{machine.name}: {first_line(machine.problem)}.")
        if machine.host_key and machine.problem:
            what, shown, *_more, next_step = machine.problem.splitlines()
            found.append(f"{what}: {shown.strip()}. {next_step}")
        if machine.failed_units:
            found.append(f"{machine.name}: failed units: {', '.join(machine.failed_units)}.")
        if machine.missing_keys:
            names = ", ".join(machine.missing_keys)
            found.append(f"{machine.name} lacks keys: {names}. Send them with nix.ops.send_keys.")
        if machine.running and machine.boots and machine.boots != machine.running:
            generation = _generation_named(machine.boots_generation)
            found.append(f"{machine.name} boots another system than it runs: {machine.boots}{generation}.")
        if machine.unwritten:
            found.append(f"{machine.name}: the boot entry of its profile, {machine.unwritten}, was not written.")
        if machine.reboot_parts:
            found.append(f"{machine.name} needs a reboot for: {', '.join(machine.reboot_parts)}.")
    return found


def _machine_as_json(machine: Machine) -> dict[str, Any]:
    status = None if machine.status is None else str(machine.status)
    parts = machine.reboot_parts
    document = {**asdict(machine), "status": status, "failed_units": list(machine.failed_units)}
    document |= {"missing_keys": list(machine.missing_keys)}
    document |= {"reboot_needed": None if parts is None else bool(parts), "reboot_parts": list(parts or ())}
    # The notes tell them.
    return {name: value for name, value in document.items() if name not in ("boots_generation", "unwritten")}


def _row(machine: Machine) -> list[str]:
    return [
        machine.name,
        str(machine.status or "does not evaluate"),
        machine.type,
        machine.address or "",
        _runs(machine),
        _last(machine.last),
    ]


def _runs(machine: Machine) -> str:
    if machine.reachable is False:
        return f"host key {machine.host_key}" if machine.host_key else "unreachable"
    if machine.reachable is None:
        return "no answer" if machine.problem else "not asked"
    if machine.running is None:
        return "no NixOS"
    runs = f"{machine.nixos_version or 'NixOS'}{_generation_named(machine.generation)}"
    if machine.boots in (machine.running, None):
        return runs
    return f"{runs}; boots another{_generation_named(machine.boots_generation)}"


def _generation_named(number: int | None) -> str:
    return "" if number is None else f", generation {number}"


def _last(last: Activated | None) -> str:
    if last is None:
        return ""
    time = datetime.fromtimestamp(last.time).isoformat(" ", "minutes")
    action = "" if last.action == "switch" else f", {last.action}"
    action += ", rolled back" if last.rolled_back else ""
    if last.exit_code is None:
        return f"{time}{action}, end unknown"
    return f"{time}{action}" + (f", exit code {last.exit_code}" if last.exit_code else "")


def _in_order(name: str) -> list[tuple[bool, int, str]]:
    """Sort numbers in names as numbers: machine10 comes after machine9."""
    return [(not one.isdigit(), int(one) if one.isdigit() else 0, one) for one in re.split(r"(\d+)", name) if one]
