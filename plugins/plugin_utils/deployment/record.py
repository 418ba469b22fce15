# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's own record of its deployment state. It speaks for that machine alone, and none of it is trusted."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Activated, DamagedState, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import YES, Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import RECORD
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine, place
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

# Give up after this many write conflicts.
_ATTEMPTS = 10

_EXIT_CODE = re.compile("-|[0-9]{1,3}")
_TIME = re.compile("[0-9]{1,11}")

_WRITTEN = {"written": Key(YES), "record": RECORD}


@dataclass(frozen=True)
class Record:
    """A machine's own record of a deployment.

    :param revision: the number in the record's file name.
    :param state: its content; None if it can't be read.
    :param damage: why it can't be read.
    """

    revision: int
    state: State | None
    damage: str | None = None


def read(line: str | None, uuid: str) -> Record | None:
    """Read a record as the machine printed it.

    :param line: the revision and the text; None if the machine has no record.
    :param uuid: the deployment's UUID.
    :raises OpsError: if a newer version of the collection wrote it.
    """
    if line is None:
        return None
    number, _space, text = line.partition(" ")
    revision = int(number)
    try:
        return Record(revision, states.read(json.loads(text), uuid))
    except (ValueError, RecursionError):
        return Record(revision, None, "it is not JSON")
    except DamagedState as damage:
        return Record(revision, None, str(damage))


def read_last(line: str | None, uuid: str) -> Activated | None:
    """Read how a machine's last activation ended; return None if it was of another deployment or is not valid."""
    match (line or "").split(" "):
        case [of, toplevel, action, code, when, back] if of == uuid and _EXIT_CODE.fullmatch(code):
            known = nix.STORE_PATH.fullmatch(toplevel) and action in states.ACTIONS
            if known and _TIME.fullmatch(when) and int(when) <= states.LATEST:
                return Activated(toplevel, action, None, None if code == "-" else int(code), int(when), back != "no")
    return None


def removing(uuid: str) -> str:
    """Return the command that removes a machine's record of this deployment, wherever it is."""
    return f"rm -rf {place('records')}/{uuid} {place('old_records')}/{uuid}"


def write(machine: Machine, state: State) -> State:
    """Write the next revision of a machine's record, and add what another run wrote meanwhile.

    :returns: the state that was written.
    :raises OpsError: if it can't be written.
    :raises ConnectionLost: if the machine can't be reached.
    """
    for _attempt in range(_ATTEMPTS):
        new = replace(state, revision=state.revision + 1)
        document = json.dumps(states.as_json(new))
        words = ("deployment/record", new.uuid, str(new.revision))
        answer = machine.ask(*words, schema=_WRITTEN, data=document, awaits="the writing of its record")
        if "written" in answer:
            return new
        other = read(answer.one("record") or "0 ", new.uuid)
        state = states.unite(state, other.state if other else None)
        state = replace(state, revision=max(state.revision, other.revision if other else 0))
    raise OpsError("other runs write the machine's record all the time", machine=machine.name)


def write_or_warn(machine: Machine, state: State, host: str, warn: LineSink) -> State:
    """Write the next revision of a machine's record, and warn if it can't be written.

    The fact cache then has the state alone, and the next run writes the record.

    :param host: the host's name in the inventory.
    :param warn: shows a warning.
    :returns: the state with the revision that was or would have been written.
    """
    try:
        return write(machine, state)
    except (ConnectionLost, OpsError) as failure:
        warn(
            f"{host}: its own record could not be written: {failure}\n"
            "The fact cache has what it would say, and the next deployment writes it."
        )
        return replace(state, revision=state.revision + 1)
