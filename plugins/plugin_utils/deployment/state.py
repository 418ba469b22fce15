# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deployment state of one machine: what must be remembered of it between runs.

The same document is kept twice: as a fact in Ansible's cache, and as a record on the machine itself.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import PUBLIC_KEY, STATE_VERSION, Remembered

# The version of the document. Raise it with a change that older readers would misread.
SCHEMA = 1

# The actions that are remembered.
ACTIONS = ("switch", "boot", "test")

# How many activations are remembered.
_KEPT = 20

# How many members a machine remembers. With all of them, the state of each machine would grow with the deployment.
_NEIGHBOURS = 50

# How many members a state may have. Earlier versions remembered up to this number.
_MEMBERS = 500

_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]{0,254}")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_ACTION = re.compile("|".join(ACTIONS))
_LARGEST = 2**53

# A commit of Git, and who deployed it.
REVISION = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
LONGEST_ORIGIN = 100
_ORIGIN = re.compile(f"[ -~]{{1,{LONGEST_ORIGIN}}}")

# The id of a deploy: when it began, by the controller's clock in UTC, and a random part.
DEPLOY = re.compile("[0-9]{8}-[0-9]{6}-[0-9a-f]{4}")

# The latest valid time, in seconds since 1970 (the year 4147). Python has no dates after the year 9999.
LATEST = 2**36


class Status(StrEnum):
    """How a machine compares with its network."""

    NEW = "New"
    ACTIVATING = "Activating"
    UP_TO_DATE = "Up-to-date"
    BOOTS_ANOTHER = "Boots another"
    TEST = "Test"
    OUTDATED = "Outdated"
    OBSOLETE = "Obsolete"
    DRIFTED = "Drifted"


@dataclass(frozen=True)
class Activated:
    """An activation that ended.

    :param toplevel: the toplevel that was activated.
    :param action: ``switch``, ``boot`` or ``test``.
    :param generation: the profile's generation afterwards.
    :param exit_code: None if it was killed or its end is unknown.
    :param time: its time in seconds since 1970, by the machine's clock.
    :param rolled_back: whether the machine is at the earlier system again, or still.
    :param revision: the Git commit of its network; None if it is not known.
    :param modified: whether the network had changes that were not committed.
    :param origin: who deployed it, and where; None if it is not known.
    :param deploy: the id of the deploy that it is part of, which its machines share; None if it is not known.
    """

    toplevel: str
    action: str
    generation: int | None
    exit_code: int | None
    time: int
    rolled_back: bool = False
    revision: str | None = None
    modified: bool = False
    origin: str | None = None
    deploy: str | None = None


@dataclass(frozen=True)
class Acknowledged:
    """Where and when the controller last reached a machine.

    :param time: in seconds since 1970, by the controller's clock.
    """

    address: str
    port: int
    time: int


@dataclass(frozen=True)
class State:
    """What is remembered of a machine in a deployment.

    :param uuid: the deployment's UUID.
    :param deployment: the deployment's name.
    :param machine: the machine's name in the network.
    :param inputs: the remembered inputs of its evaluation.
    :param revision: how often the outcomes have been written.
    :param activations: its activations, the latest first.
    :param acknowledged: where it was last reached.
    :param members: hosts of the deployment's machines at its last activation, of a large deployment those next to it.
    """

    uuid: str
    deployment: str
    machine: str
    inputs: Remembered = field(default_factory=Remembered)
    revision: int = 0
    activations: tuple[Activated, ...] = ()
    acknowledged: Acknowledged | None = None
    members: tuple[str, ...] = ()

    @property
    def stays(self) -> Activated | None:
        """The latest activation that the machine has not gone back from."""
        return next((one for one in self.activations if not one.rolled_back), None)

    @property
    def deployed(self) -> Activated | None:
        """The latest activation."""
        return self.activations[0] if self.activations else None


class DamagedState(OpsError):
    """A state that can't be read."""


def as_json(state: State) -> dict[str, Any]:
    """Return a state as plain values, which :func:`read` reads back."""
    document = {"schema": SCHEMA, **asdict(state)}
    # Drops the tags that Ansible attaches to values, and makes lists of tuples.
    plain: dict[str, Any] = json.loads(json.dumps(document))
    return plain


def read(value: object, uuid: str) -> State | None:
    """Read a state from the plain values of the cache or of a record. Neither is trusted.

    :param value: the values; None if nothing is remembered.
    :param uuid: the UUID that the state has to have.
    :raises DamagedState: if it is not what :func:`as_json` writes.
    :raises OpsError: if a newer version of the collection wrote it.
    """
    if value is None:
        return None
    document = _mapping(value, "the document")
    schema = _number(document, "schema")
    if schema > SCHEMA:
        raise OpsError(
            f"the deployment state was written by a newer nix.ops (schema {schema}, and this one reads {SCHEMA})",
            state="nothing was touched",
            next_step="Upgrade the collection on this controller.",
        )
    if schema != SCHEMA:
        raise DamagedState("the document has no schema")
    if document.get("uuid") != uuid:
        raise DamagedState("the document is of another deployment")
    inputs = _mapping(document.get("inputs"), "inputs")
    acknowledged = document.get("acknowledged")
    return State(
        uuid=uuid,
        deployment=_text(document, "deployment", _WORD),
        machine=_text(document, "machine", _WORD),
        inputs=Remembered(
            state_version=_optional_text(inputs, "state_version", STATE_VERSION),
            ssh_public_key=_optional_text(inputs, "ssh_public_key", PUBLIC_KEY),
        ),
        revision=_number(document, "revision"),
        activations=tuple(_activated(_mapping(one, "an activation")) for one in _list(document, "activations", _KEPT)),
        acknowledged=None if acknowledged is None else _acknowledged(_mapping(acknowledged, "acknowledged")),
        members=tuple(_checked(one, "a member", _WORD) for one in _list(document, "members", _MEMBERS)),
    )


def merge(cached: State | None, recorded: State | None) -> State | None:
    """Join the state of the cache with that of the machine's own record.

    The cache's inputs win. The outcomes with the higher revision win, the machine's own if the revisions are the same.
    The address never comes from the record: an attacker on the machine could lead the controller to another machine.
    """
    if recorded is not None:
        recorded = replace(recorded, acknowledged=None)
    if cached is None or recorded is None:
        return cached or recorded
    newest = cached if cached.revision > recorded.revision else recorded
    inputs = Remembered(
        **{
            one.name: getattr(cached.inputs, one.name) or getattr(recorded.inputs, one.name)
            for one in fields(Remembered)
        }
    )
    return replace(newest, inputs=inputs, acknowledged=cached.acknowledged, members=cached.members or recorded.members)


def unite(ours: State, theirs: State | None) -> State:
    """Add the activations that another run remembers of the same machine."""
    if theirs is None:
        return ours
    # One run may know more of an activation than the other.
    known = {_identity(one): one for one in (*theirs.activations, *ours.activations)}
    first = [known.pop(_identity(one)) for one in ours.activations[:1]]
    activations = (*first, *sorted(known.values(), key=lambda one: -one.time))[:_KEPT]
    return replace(ours, activations=activations, revision=max(ours.revision, theirs.revision))


def found(state: State, last: Activated | None) -> State:
    """Add the last activation that the machine tells, unless it is recorded."""
    if last is None:
        return state
    known = list(state.activations)
    for number, one in enumerate(known):
        if _identity(one) == _identity(last):
            # The machine may have gone back after the run had ended.
            known[number] = replace(one, rolled_back=one.rolled_back or last.rolled_back)
            return replace(state, activations=tuple(known))
    # Earlier versions recorded the time of the controller, when the activation had ended.
    newest = state.deployed
    if (
        newest
        and last.time <= newest.time
        and (newest.toplevel, newest.rolled_back) == (last.toplevel, last.rolled_back)
    ):
        return state
    return activated(state, last, state.members)


def is_news(state: State, toplevel: str, action: str) -> bool:
    """Return whether this toplevel is missing from the recorded activations."""
    return action in ACTIONS and toplevel not in [one.toplevel for one in state.activations if not one.rolled_back]


def activated(state: State, latest: Activated, members: Sequence[str]) -> State:
    """Add an activation to a state."""
    known = _neighbours(members, state.machine)
    return replace(state, activations=(latest, *state.activations)[:_KEPT], members=known)


def _neighbours(members: Sequence[str], machine: str) -> tuple[str, ...]:
    """Return the members that a machine remembers: those that follow it in a ring, so that others remember each one."""
    if len(members) <= _NEIGHBOURS:
        return tuple(members)
    ring = sorted(members)
    first = bisect_right(ring, machine)
    return tuple([*ring[first:], *ring[:first]][:_NEIGHBOURS])


@dataclass(frozen=True)
class Seen:
    """What a machine was seen to run and boot; empty if it was not asked.

    :param running: the toplevel that it runs.
    :param boots: the toplevel that it boots; None if that is not known.
    :param unwritten: whether the boot entry of its profile was not written.
    :param unsettled: whether an activation is at work, or a boot waits to be acknowledged.
    """

    running: str | None = None
    boots: str | None = None
    unwritten: bool = False
    unsettled: bool = False


def status(state: State | None, seen: Seen, *, wanted: str | None) -> Status:
    """Compare a machine with its network.

    :param wanted: the toplevel that the network gives it; None if it has left the network.
    """
    if wanted is None:
        return Status.OBSOLETE
    if seen.unsettled:
        return Status.ACTIVATING
    kept = [one for one in state.activations if not one.rolled_back] if state else []
    known = [one.toplevel for one in kept]
    now = seen.running or (known[0] if known else None)
    if state is not None and now == wanted:
        return _settled(seen, kept)
    # Until a machine reboots after its first deploy by the action boot, it runs something that nobody deployed.
    if kept and seen.boots == wanted and (now in known or kept[0].action == "boot"):
        return Status.BOOTS_ANOTHER
    if not known:
        return Status.NEW
    return Status.OUTDATED if now in known else Status.DRIFTED


def _settled(seen: Seen, kept: Sequence[Activated]) -> Status:
    """Return the status of a machine that runs what its network says."""
    last = kept[0] if kept else None
    if seen.running is None:
        # It was not asked: all that is known is how it was activated.
        told = {"test": Status.TEST, "boot": Status.BOOTS_ANOTHER}
        return told.get(last.action, Status.UP_TO_DATE) if last else Status.UP_TO_DATE
    if seen.boots == seen.running or (seen.boots is None and not seen.unwritten):
        return Status.UP_TO_DATE
    is_test = last is not None and (last.action, last.toplevel) == ("test", seen.running)
    return Status.TEST if is_test else Status.BOOTS_ANOTHER


def _identity(one: Activated) -> tuple[str, int]:
    return one.toplevel, one.time


def _activated(value: Mapping[str, Any]) -> Activated:
    return Activated(
        toplevel=_text(value, "toplevel", nix.STORE_PATH),
        action=_text(value, "action", _ACTION),
        generation=_optional_number(value, "generation"),
        exit_code=_optional_number(value, "exit_code"),
        time=_time(value),
        rolled_back=_flag(value, "rolled_back"),
        revision=_optional_text(value, "revision", REVISION),
        modified="modified" in value and _flag(value, "modified"),
        origin=_optional_text(value, "origin", _ORIGIN),
        deploy=_optional_text(value, "deploy", DEPLOY),
    )


def _acknowledged(value: Mapping[str, Any]) -> Acknowledged:
    port = _number(value, "port")
    if not 0 < port < 65536:
        raise DamagedState("port is not a TCP port")
    return Acknowledged(_text(value, "address", _HOST), port, _time(value))


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise DamagedState(f"{what} is not a mapping")
    return value


def _list(value: Mapping[str, Any], key: str, longest: int) -> list[Any]:
    found = value.get(key)
    if not isinstance(found, list) or len(found) > longest:
        raise DamagedState(f"{key} is not a list of at most {longest}")
    return found


def _text(value: Mapping[str, Any], key: str, pattern: re.Pattern[str]) -> str:
    return _checked(value.get(key), key, pattern)


def _optional_text(value: Mapping[str, Any], key: str, pattern: re.Pattern[str]) -> str | None:
    return None if value.get(key) is None else _checked(value.get(key), key, pattern)


def _checked(value: object, what: str, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise DamagedState(f"{what} is not what it should be")
    # Drops the tags that Ansible attaches.
    return "".join(value)


def _number(value: Mapping[str, Any], key: str) -> int:
    number = value.get(key)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < _LARGEST:
        raise DamagedState(f"{key} is not a number")
    return int(number)


def _time(value: Mapping[str, Any]) -> int:
    time = _number(value, "time")
    if time > LATEST:
        raise DamagedState("time is too far in the future")
    return time


def _flag(value: Mapping[str, Any], key: str) -> bool:
    flag = value.get(key)
    if not isinstance(flag, bool):
        raise DamagedState(f"{key} is neither true nor false")
    return flag


def _optional_number(value: Mapping[str, Any], key: str) -> int | None:
    return None if value.get(key) is None else _number(value, key)
