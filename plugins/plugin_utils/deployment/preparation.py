# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepares a machine for a deployment: reaches it, joins what is remembered of it, decides its inputs."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import SYSTEM_PROFILE
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import record as records
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import ssh_keys
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.record import Record
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Acknowledged, Activated, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, first_line
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.connection import Addresses
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Remembered
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Heartbeat

# Seconds between two attempts to reach a machine.
_PAUSE = 1.0

# Seconds to wait for a machine whose turn comes after the time for all machines is over.
_LATE = 10.0

# Errors not worth retrying: the SSH server is there and refuses.
_FINAL = ("permission denied", "host key", "too many authentication failures")


@dataclass(frozen=True)
class Subject:
    """A machine of a deployment.

    :param uuid: the deployment's UUID.
    :param deployment: the deployment's name.
    :param name: the machine's name in the network.
    :param profile: the profile of its generations.
    """

    uuid: str
    deployment: str
    name: str
    profile: str = SYSTEM_PROFILE


@dataclass(frozen=True)
class KeyOptions:
    """Which SSH key a machine has.

    :param path: the private key on the controller; None if the machine has no key of the deployment.
    :param may_generate: whether to make a missing key pair.
    :param variables: the variables of the task, which tell a job of AWX.
    """

    path: str | None
    may_generate: bool
    variables: Mapping[str, Any]


class Purpose(StrEnum):
    """What the inputs are decided for."""

    REMEMBER = "remember"
    PREVIEW = "preview"
    REPORT = "report"


def reach(
    machine: Machine,
    addresses: Addresses | None,
    subject: Subject,
    *,
    timeout: float,
    since: float | None = None,
    on_line: LineSink,
    check: bool = False,
    keys: str | None = None,
    generations: bool = False,
) -> tuple[Description, Record | None]:
    """Describe a machine, at the first of its addresses that answers and is not another machine's.

    :param timeout: seconds to wait for the machine's SSH server.
    :param since: when the wait began, by the monotonic clock; None for now.
    :param check: ask for its load, disks and so on too.
    :param keys: the keys to compare, as :func:`description.describe` takes them.
    :param generations: ask for the versions of its generations too.
    :returns: the description and the machine's own record of the deployment, if it has one.
    :raises ConnectionLost: if the machine can't be reached in time.
    :raises OpsError: if another machine of the deployment answers.
    """
    if timeout:
        on_line("waiting for SSH...")
    deadline = wait_until(timeout, since, now=time.monotonic())
    refusals: list[ConnectionLost] = []
    heartbeat = Heartbeat("its SSH server", on_line, lambda: first_line(refusals[-1]) if refusals else "")
    while True:
        heartbeat.beat()
        try:
            found = description.describe(
                machine,
                profile=subject.profile,
                record=subject.uuid,
                check=check,
                keys=keys,
                generations=generations,
            )
        except ConnectionLost as lost:
            refusals[:] = [lost]
            if time.monotonic() + _PAUSE > deadline or any(text in str(lost).lower() for text in _FINAL):
                raise
            # A refused connection answers at once, so that this would be a busy loop.
            time.sleep(_PAUSE)
            continue
        record = records.read(found.record, subject.uuid)
        if record is None and addresses is not None and addresses.now != addresses.told:
            # The old address may be another machine's by now.
            on_line(f"what answers at {addresses.now} has no record of this deployment; trying {addresses.told}")
            addresses.settle()
            machine.identity.forget()
            continue
        _check_record(record, machine, addresses, subject, on_line)
        return found, record


def wait_until(timeout: float, since: float | None, *, now: float) -> float:
    """Return until when to wait for a machine's SSH server.

    The machines of a run boot at the same time, so that all of them together are waited for once.

    :param timeout: seconds to wait.
    :param since: when the run began to wait; None for now.
    """
    left = timeout if since is None else since + timeout - now
    return now + min(timeout, max(_LATE, left))


def check_owner(found: Description, machine: Machine, addresses: Addresses | None, subject: Subject) -> None:
    """Refuse a machine whose system another deployment has deployed.

    :raises OpsError: naming that deployment.
    """
    others = [uuid for uuid in found.owners if uuid != subject.uuid]
    latest = found.standing.activated_by
    # The last activation counts, also if its record could not be written.
    if not others or latest == subject.uuid or (latest is None and subject.uuid in found.owners):
        return
    where = f" at {addresses.now}" if addresses else ""
    owner = latest if latest in others else others[0]
    raise OpsError(
        f"the machine{where} belongs to the deployment {owner}",
        machine=machine.name,
        state="nothing was touched",
        next_step="If this is the wrong machine, correct deployment.targetHost. To deploy"
        f" {subject.name} of {subject.deployment} to this machine, give -e deploy_take_over=true.",
    )


def join(
    cached: State | None, found: Description, record: Record | None, subject: Subject, *, on_line: LineSink
) -> State:
    """Join what the cache, the machine's record and its last activation say."""
    known = states.merge(cached, record.state if record else None)
    if cached is None and known is not None:
        on_line(f"what is remembered of it was found on the machine ({_describe_last(known)})")
    known = known or State(subject.uuid, subject.deployment, subject.name)
    # The outcome of an activation that is at work is not known yet.
    last = None if found.activating else records.read_last(found.standing.last_activation, subject.uuid)
    joined = states.found(known, last)
    # This is told until a deploy has recorded it: a report must not keep it from the next deploy.
    if last is not None and joined != known:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(last.time))
        on_line(f"an earlier activation of {last.toplevel}, at {began}, {_end(last)}")
        on_line(f"it {found.standing.sentence()}")
    if found.standing.boot_unfinished:
        on_line(f"the boot entry of {found.standing.profile} was not written yet")
    return replace(joined, deployment=subject.deployment)


def decide_inputs(
    known: Remembered, release: str | None, subject: Subject, key: KeyOptions, *, purpose: Purpose, on_line: LineSink
) -> tuple[Remembered, bool]:
    """Decide the inputs of a machine's system that are not remembered yet.

    :param release: the release of NixOS that runs; None if it is unknown.
    :param purpose: what for. A report says nothing of the state version.
    :returns: the inputs, and whether a key pair was made.
    :raises OpsError: if the private key can't be read or written.
    """
    version = known.state_version or release
    if version is None and purpose is not Purpose.REPORT:
        on_line("cannot determine NixOS version")
    elif known.state_version is None and purpose is Purpose.REMEMBER:
        on_line(f"setting state version to {version}")
    elif known.state_version is None and purpose is Purpose.PREVIEW:
        on_line(f"the state version will be {version}")
    if not key.path:
        return Remembered(version), False
    # The private key on the controller wins: a user replaces the key by replacing this file.
    public = ssh_keys.public_key(key.path) or known.ssh_public_key
    if public or not key.may_generate:
        return Remembered(version, public), False
    if reason := ssh_keys.why_not_kept(key.path, os.environ, key.variables):
        on_line(f"generating no SSH key pair: {reason}")
        return Remembered(version), False
    public = ssh_keys.generate(key.path, ssh_keys.comment(subject.name, subject.deployment))
    on_line("generating new SSH key pair... done")
    return Remembered(version, public), True


def acknowledge(known: Acknowledged | None, addresses: Addresses | None, *, now: int) -> Acknowledged | None:
    """Return where the machine has just been reached.

    Keeps the time of an earlier acknowledgement at the same place, so that the state does not change at each run.

    :param now: the time in seconds since 1970.
    """
    if addresses is None:
        return known
    address, port = addresses.now.address, addresses.now.port or 22
    if known is not None and (known.address, known.port) == (address, port):
        return known
    return Acknowledged(address, port, now)


def is_recorded(record: Record | None, state: State) -> bool:
    """Return whether a machine's own record has all that is remembered of the machine."""
    recorded = record.state if record else None
    if recorded is None or recorded.inputs != state.inputs:
        return False
    return recorded.revision >= state.revision and recorded.activations == state.activations


def _check_record(
    record: Record | None, machine: Machine, addresses: Addresses | None, subject: Subject, on_line: LineSink
) -> None:
    if record is None:
        return
    if record.damage:
        on_line(f"the machine's own record is damaged ({record.damage}): it is written anew")
    elif record.state is not None and record.state.machine != subject.name:
        where = f" at {addresses.now}" if addresses else ""
        raise OpsError(
            f"the machine{where} has a record that it is {record.state.machine} of this deployment",
            machine=machine.name,
            state="nothing was touched",
            next_step="Correct deployment.targetHost. If the machine has a new name in the network, run this on it:"
            f" {records.removing(record.state.uuid)}",
        )


def _end(unseen: Activated) -> str:
    """Say how an activation ended whose end no run has seen."""
    if unseen.rolled_back:
        return "was rolled back after its run had ended"
    if unseen.exit_code is None:
        return "was interrupted"
    if unseen.exit_code:
        return f"failed with exit code {unseen.exit_code} after its run had ended"
    return "was completed after its run had ended"


def _describe_last(state: State) -> str:
    if state.deployed is None:
        return "never deployed"
    return "last deployed " + time.strftime("%Y-%m-%d %H:%M", time.localtime(state.deployed.time))
