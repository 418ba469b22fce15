# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows a job that runs detached on a host, through lost connections, until it ends."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, message, reason
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer as answers
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine, PasswordRefused
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Heartbeat

# How long the host waits for new output before it answers, in tenths of a second.
_LOOK = 50

# Seconds without an answer after which a connection counts as dead.
ANSWER_WITHIN = 15.0

# Bytes of the log in one answer (job.sh).
_PIECE = 65536

# How much of a log is kept, in bytes: its end has the failed units.
_KEPT = 16 * 1024 * 1024

# The largest log that is followed, in bytes. A job could print without end.
_LARGEST = 1024 * 1024 * 1024

# Seconds between two lines that say that the connection is lost.
_SAY_AGAIN = 30

# A job's state, its exit code and its step.
_SEEN = {"job": Key(re.compile("(?:running|ended|killed|gone) (?:-|[0-9]{1,3}) (?:-|[a-z]{1,20})"), required=True)}

# The directory of a job that was started (detach.sh).
BEGUN = {"directory": Key(re.compile(r"/[A-Za-z0-9._/-]*/nix-ops-[a-z]+\.[A-Za-z0-9]{6}"), required=True)}

_Answer = TypeVar("_Answer")


class Unfollowed(OpsError):
    """A job that takes too long, or prints too much, so that it is no longer followed."""


@dataclass(frozen=True)
class Look:
    """The state of a job, asked once.

    :param state: ``running``, ``ended``, ``killed`` (no exit code and no process) or
        ``gone`` (no files: the host was rebooted, or they were removed).
    :param exit_code: its exit code; None until it has ended.
    :param step: its current or last step; None if it has no steps.
    :param log: its output since the last time.
    """

    state: str
    exit_code: int | None
    step: str | None
    log: bytes


@dataclass(frozen=True)
class Ended:
    """A job that ended.

    :param state: as in :class:`Look`; never ``running``. ``gone`` also if the host has gone down with the job.
    :param exit_code: its exit code; None if it left none.
    :param step: the last step that was seen; None if it has no steps.
    :param log: its output; of a very long one the end.
    :param trouble: the last error while it was followed; None if there was none.
    """

    state: str
    exit_code: int | None
    step: str | None
    log: str
    trouble: Exception | None = field(default=None, compare=False)


def look(machine: Machine, directory: str, offset: int, step: str | None = None) -> Look:
    """Ask the host once for a job's state, and its log from an offset in bytes on.

    :param step: the step that was seen last. The host answers at once if the job waits for the controller in another.
    :raises ConnectionLost: if the answer does not come.
    :raises OpsError: if the answer is not valid.
    """
    words = ("follow", directory, str(offset), str(_LOOK), step or "-")
    answer = machine.ask(
        "machine/job", *words, schema=_SEEN, block="log", within=ANSWER_WITHIN, awaits="the state of its job"
    )
    state, exit_code, now = answer.all("job")[0].split(" ")
    # A job that was killed and cleaned up has the exit code "-".
    code = int(exit_code) if state == "ended" and exit_code != "-" else None
    log = answer.block.encode("utf-8", errors="surrogateescape")
    if len(log) > _PIECE:
        raise answers.invalid(machine.name, f"its log has {len(log)} bytes")
    return Look(state, code, None if now == "-" else now, log)


def follow(
    machine: Machine,
    directory: str,
    *,
    what: str,
    on_line: LineSink,
    patience: float,
    within: float,
    on_step: Callable[[str], bool] = lambda _step: False,
    detail: Callable[[], str] = str,
) -> Ended:
    """Follow a job live until it ends.

    :param directory: the job's directory on the host.
    :param what: what the job is, for messages.
    :param on_line: called with each line of its log.
    :param on_step: called with the current step of a running job, each time the host has answered; returns whether the
        host goes down with the job, so that it will not answer any more.
    :param patience: seconds in a row that the host may be out of reach.
    :param within: seconds until a job that still runs is no longer followed.
    :param detail: returns more about a wait that takes long.
    :raises OpsError: if the host stays out of reach for longer, or the job goes on for longer.
    """
    deadline = time.monotonic() + within
    heartbeat = Heartbeat(what, on_line, detail)
    log = bytearray()
    offset = 0
    rest = b""
    step = None
    goes_down = False
    troubles: list[Exception] = []
    follow_on = partial(patiently, name=machine.name, on_line=on_line, patience=patience, on_error=troubles.append)
    while True:
        ask = partial(look, machine, directory, offset, step)
        try:
            seen = ask() if goes_down else follow_on(ask)
        except (ConnectionLost, OpsError):
            if not goes_down:
                raise
            seen = Look("gone", None, step, b"")
        offset += len(seen.log)
        log += seen.log
        del log[:-_KEPT]
        step = seen.step or step
        *lines, rest = (rest + seen.log).split(b"\n")
        if rest and (seen.state != "running" or len(rest) > _PIECE):
            lines.append(rest)
            rest = b""
        for line in lines:
            on_line(line.decode("utf-8", errors="replace").rstrip("\r"))
        if lines:
            heartbeat.restart()
        if seen.state != "running":
            trouble = troubles[-1] if troubles else None
            return Ended(seen.state, seen.exit_code, step, log.decode("utf-8", errors="replace"), trouble)
        if offset > _LARGEST:
            raise _unfollowed(machine.name, f"{what} has printed more than {_LARGEST // 2**20} MiB")
        if time.monotonic() > deadline:
            raise _unfollowed(machine.name, f"{what} has not ended within {within:.0f} seconds")
        if step:
            goes_down = on_step(step)
        heartbeat.beat()


def _unfollowed(machine: str, what: str) -> Unfollowed:
    return Unfollowed(
        f"{what}, so it is no longer followed",
        machine=machine,
        state="the job there goes on by itself; its result is not known",
        next_step="Look at the machine's console, and at its processes. Then run the same again.",
    )


def patiently(
    ask: Callable[[], _Answer],
    name: str,
    *,
    on_line: LineSink,
    patience: float,
    on_error: Callable[[Exception], None] = lambda _error: None,
) -> _Answer:
    """Ask a host about its job until it answers.

    Ask again after an error too, for example if sudo can't be used for a moment: the job goes on in any case.

    :param ask: asks once.
    :param name: the host's name.
    :param patience: seconds in a row that the host may be out of reach.
    :param on_error: called with each error.
    :raises OpsError: if the host stays out of reach for longer, or refuses the password.
    """
    lost_since: float | None = None
    said = float("-inf")
    while True:
        try:
            return ask()
        except PasswordRefused:
            raise
        except (ConnectionLost, OpsError) as lost:
            on_error(lost)
            now = time.monotonic()
            lost_since = now if lost_since is None else lost_since
            if now - lost_since > patience:
                what = "not answered" if isinstance(lost, ConnectionLost) else "given no valid answer"
                raise OpsError(
                    f"the machine has {what} for {patience:.0f} seconds",
                    machine=name,
                    state="the job there goes on by itself; its result is not known",
                    next_step="Look at the machine's console. Once it can be reached, run the same again.",
                    output=message(lost),
                ) from lost
            if now - said > _SAY_AGAIN:
                said = now
                how = "connection lost, reconnecting" if isinstance(lost, ConnectionLost) else "no answer, asking again"
                on_line(f"{how}: {reason(lost)}")
            # Give the host a moment: a refused connection answers at once.
            time.sleep(0.5)
