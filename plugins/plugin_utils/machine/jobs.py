# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows a job that runs on its own on a host, through lost connections, to its exit code."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, first_line
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

# How long one look waits on the host for something new, in tenths of a second.
_LOOK = 50

# After how many seconds without an answer a connection is taken for dead.
ANSWER_WITHIN = 15.0

# How many seconds pass between two lines that say that the host is out of reach.
_SAY_AGAIN = 30

# A job's state, its exit code and its step.
_SEEN = {"job": Key(re.compile("(?:running|ended|killed|gone) (?:-|[0-9]{1,3}) (?:-|[a-z]{1,20})"), required=True)}

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Look:
    """What one look at a job found.

    :param state: ``running``, ``ended``, ``killed`` (no exit code and no process) or
        ``gone`` (no trace of it: the host was started anew).
    :param exit_code: its exit code, once it has ended.
    :param step: the step it is at or ended at, if it has steps.
    :param log: what it said since the last look.
    """

    state: str
    exit_code: int | None
    step: str | None
    log: bytes


@dataclass(frozen=True)
class Ended:
    """A job that ended.

    :param state: as in :class:`Look`; never ``running``.
    :param exit_code: its exit code; None where it left none.
    :param step: the last step it was seen at, if it has steps.
    :param log: all it said.
    """

    state: str
    exit_code: int | None
    step: str | None
    log: str


def look(machine: Machine, directory: str, offset: int) -> Look:
    """Ask the host once for a job's state and its log from an offset in bytes on.

    :raises ConnectionLost: if the answer does not come.
    :raises OpsError: if the answer is not valid.
    """
    words = ("follow", directory, str(offset), str(_LOOK))
    answer = machine.ask("machine/job", *words, schema=_SEEN, block="log", within=ANSWER_WITHIN)
    state, exit_code, step = answer.all("job")[0].split(" ")
    # The exit code of a job that was killed and ended in order is "-".
    code = int(exit_code) if state == "ended" and exit_code != "-" else None
    log = answer.block.encode("utf-8", errors="surrogateescape")
    return Look(state, code, None if step == "-" else step, log)


def follow(
    machine: Machine,
    directory: str,
    *,
    on_line: LineSink,
    patience: float,
    on_step: Callable[[str], None] = lambda _step: None,
) -> Ended:
    """Follow a job live to its end.

    :param directory: the job's directory on the host.
    :param on_line: called with each line of its log.
    :param on_step: called after each look with the step that a running job is at.
    :param patience: for how many seconds in a row the host may be out of reach.
    :raises OpsError: where the host stays out of reach for longer.
    """
    log = b""
    shown = 0
    step = None
    while True:
        seen = patiently(partial(look, machine, directory, len(log)), machine.name, on_line=on_line, patience=patience)
        log += seen.log
        step = seen.step or step
        *lines, rest = log[shown:].split(b"\n")
        if seen.state != "running" and rest:
            lines.append(rest)
        for line in lines:
            on_line(line.decode("utf-8", errors="replace").rstrip("\r"))
        shown = len(log) - (0 if seen.state != "running" else len(rest))
        if seen.state == "running" and step:
            on_step(step)
        if seen.state != "running":
            return Ended(seen.state, seen.exit_code, step, log.decode("utf-8", errors="replace"))


def patiently(ask: Callable[[], _Answer], name: str, *, on_line: LineSink, patience: float) -> _Answer:
    """Ask a host about its job until it answers.

    The job goes on whatever hinders the asking, so that a host that answers with an error, as
    when sudo can't be used for a moment, is asked again too.

    :param ask: asks once.
    :param name: the host's name.
    :param patience: for how many seconds in a row the host may be out of reach.
    :raises OpsError: where the host stays out of reach for longer.
    """
    lost_since: float | None = None
    said = float("-inf")
    while True:
        try:
            return ask()
        except (ConnectionLost, OpsError) as lost:
            now = time.monotonic()
            lost_since = now if lost_since is None else lost_since
            if now - lost_since > patience:
                raise OpsError(
                    f"the machine has not answered for {patience:.0f} seconds",
                    machine=name,
                    state="what was started there goes on by itself; how it ended is not known",
                    next_step="Look at the machine's console. Once it can be reached, run the same again.",
                    output=str(lost),
                ) from lost
            if now - said > _SAY_AGAIN:
                said = now
                on_line(f"connection lost, reconnecting: {first_line(lost)}")
            # A refused connection answers at once; the host is given a moment.
            time.sleep(0.5)
