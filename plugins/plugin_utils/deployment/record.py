# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's own record of its deployment state. It speaks for that machine alone, and none of it is trusted."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Activated, DamagedState, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import YES, Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import RECORD
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine, place

# Give up after this many write conflicts.
_ATTEMPTS = 10

_WRITTEN = {"written": Key(YES), "record": RECORD}


@dataclass(frozen=True)
class Record:
    """What a machine remembers of itself.

    :param revision: the number that its revision is filed under.
    :param state: None where it can not be read.
    :param damage: why it can not be read.
    """

    revision: int
    state: State | None
    damage: str | None = None


def read(line: str | None, uuid: str) -> Record | None:
    """Read a record as the machine printed it.

    :param line: its revision and its text; None where there is none.
    :param uuid: the deployment's UUID.
    :raises OpsError: where a newer version of the collection wrote it.
    """
    if line is None:
        return None
    number, _space, text = line.partition(" ")
    revision = int(number)
    try:
        return Record(revision, states.read(json.loads(text), uuid))
    except (ValueError, RecursionError):
        return Record(revision, None, "it is no JSON")
    except DamagedState as damage:
        return Record(revision, None, str(damage))


def read_last(line: str | None, uuid: str) -> Activated | None:
    """Read how a machine's last activation ended; None where it was none of this deployment's."""
    match (line or "").split(" "):
        case [of, toplevel, action, code, when, back] if of == uuid and when.isdigit():
            known = nix.STORE_PATH.fullmatch(toplevel) and action in states.ACTIONS
            if known and (code.isdigit() or code == "-"):
                return Activated(toplevel, action, None, None if code == "-" else int(code), int(when), back != "no")
    return None


def removing(uuid: str) -> str:
    """Return the command that removes a machine's record of this deployment, wherever it is."""
    return f"rm -rf {place('records')}/{uuid} {place('old_records')}/{uuid}"


def write(machine: Machine, state: State) -> State:
    """Write the next revision of a machine's record, together with what another run wrote meanwhile.

    :returns: what was written.
    :raises OpsError: where it could not be.
    :raises ConnectionLost: where the machine can't be reached.
    """
    for _attempt in range(_ATTEMPTS):
        new = replace(state, revision=state.revision + 1)
        document = json.dumps(states.as_json(new))
        answer = machine.ask("deployment/record", new.uuid, str(new.revision), schema=_WRITTEN, data=document)
        if "written" in answer:
            return new
        other = read(answer.one("record") or "0 ", new.uuid)
        state = states.unite(state, other.state if other else None)
        state = replace(state, revision=max(state.revision, other.revision if other else 0))
    raise OpsError("other runs write the machine's record all the time", machine=machine.name)
