# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells which activation holds a machine's lock, and ends it without leaving half a switch."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description, jobs
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import YES, Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine, place
from ansible_collections.nix.ops.plugins.plugin_utils.nix import STORE_PATH
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

# Seconds to follow an activation that was ended: going back may take as long as a switch.
_WITHIN = 2 * 3600

_LINE = Key(re.compile("[ -~]{0,1024}"))
_SECONDS = Key(re.compile("[0-9]{1,11}"))
_ANSWER = {
    "activation": Key(re.compile(re.escape(place("activations")) + "-[0-9a-f]{16}|-")),
    "holder": _LINE,
    "what": _LINE,
    "step": _LINE,
    "since": _SECONDS,
    "now": _SECONDS,
    "goes_back": Key(YES),
    "ending": Key(re.compile("undo|stop|finish|never")),
}
_WHAT = re.compile(f"(switch|boot|test|dry-activate) ({STORE_PATH.pattern})")
_STEP = re.compile("[a-z]{1,20}")

_ENDING = {
    "undo": "ending it: the new system runs, and the machine goes back to what ran before",
    "stop": "ending the switch: the machine goes back to what ran before",
    "finish": "it was acknowledged, or is going back already: waiting for it to end by itself",
}


@dataclass(frozen=True)
class AtWork:
    """An activation that is at work.

    :param directory: its directory on the machine; None if it has no files: it is a reboot, or they were removed.
    :param holder: what it is, and who began it, as systemd shows it.
    :param action: ``switch``, ``boot``, ``test`` or ``dry-activate``; None if it is not known.
    :param toplevel: its toplevel; None if it is not known.
    :param step: its step; None if it has not begun, or it is not known.
    :param since: when it began, in seconds since 1970, by the machine's clock; None if it is not known.
    :param seconds: for how long it has been at work; None if it is not known.
    :param goes_back: whether the machine goes back by itself if it is ended.
    :param ending: what was done to end it (``unlock.sh``); None if it was only asked for.
    """

    directory: str | None
    holder: str
    action: str | None
    toplevel: str | None
    step: str | None
    since: int | None
    seconds: int | None
    goes_back: bool
    ending: str | None

    def sentence(self) -> str:
        """Return who is at work, since when and where it stands."""
        began = f", since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self.since))}" if self.since else ""
        takes = f" ({_duration(self.seconds)})" if self.seconds is not None else ""
        where = f", at the step {self.step}" if self.step else ""
        return f"{self.holder or 'an activation'}{began}{takes}{where}"

    def as_json(self) -> dict[str, Any]:
        """Return it as the plain values that modules return."""
        names = ("holder", "action", "toplevel", "step", "since", "seconds", "goes_back")
        return {name: getattr(self, name) for name in names}


def look(machine: Machine, *, holder: str = "") -> AtWork | None:
    """Ask which activation is at work; None if none is.

    :param holder: who has it end, if that is safe; empty only to ask.
    :raises OpsError: if the machine can't answer.
    """
    told = machine.ask("activation/unlock", holder, schema=_ANSWER, awaits="who is at work")
    directory = told.one("activation")
    if directory is None:
        return None
    what = _WHAT.fullmatch(told.one("what") or "")
    step = told.one("step") or ""
    since, now = (int(told.one(key) or 0) for key in ("since", "now"))
    return AtWork(
        directory=None if directory == "-" else directory,
        holder=told.one("holder") or "",
        action=what[1] if what else None,
        toplevel=what[2] if what else None,
        step=step if _STEP.fullmatch(step) else None,
        since=since or None,
        seconds=max(0, now - since) if since else None,
        goes_back="goes_back" in told,
        ending=told.one("ending"),
    )


def end(machine: Machine, *, holder: str, on_line: LineSink, patience: float) -> tuple[AtWork | None, Description]:
    """End the activation that is at work, and follow it until the machine has gone back or on.

    :param holder: the user and process that end it, for the run that follows it.
    :param patience: seconds in a row that the machine may be out of reach.
    :returns: the activation, or None if none was at work, and the machine afterwards.
    :raises OpsError: if it can't be ended safely, or has not ended in time.
    """
    found = look(machine, holder=holder)
    describe = partial(description.describe, machine)
    if found is None:
        return None, describe()
    on_line(found.sentence())
    if found.directory is None or found.ending == "never":
        raise _unsafe(machine.name, found)
    on_line(_ENDING[found.ending or "finish"])
    jobs.follow(
        machine,
        found.directory,
        what="the end of the activation",
        on_line=on_line,
        patience=patience,
        within=_WITHIN,
    )
    after = jobs.patiently(describe, machine.name, on_line=on_line, patience=patience)
    # systemd removes the unit shortly after the last line.
    deadline = time.monotonic() + 60
    while after.activating and time.monotonic() < deadline:
        time.sleep(0.5)
        after = jobs.patiently(describe, machine.name, on_line=on_line, patience=patience)
    if after.activating:
        raise OpsError(
            "the activation has not ended, or another one has begun",
            machine=machine.name,
            state=f"it {after.standing.sentence()}",
            next_step="Run nix.ops.unlock again: it says who is at work.",
        )
    on_line(f"it {after.standing.sentence()}")
    return found, after


def busy(machine: str, found: AtWork) -> OpsError:
    """Return the error for an activation that is at work and was not ended."""
    safe = found.directory is not None and (found.goes_back or found.action == "dry-activate")
    ends = "Wait for it to end."
    if safe:
        ends = "Wait for it to end, or end it: -e unlock_end=true. The machine then goes back or on by itself."
    return OpsError(
        f"an activation is at work: {found.sentence()}",
        machine=machine,
        state="nothing was ended",
        next_step=ends,
    )


def _unsafe(machine: str, found: AtWork) -> OpsError:
    why = (
        "it has no files in /run; it is a reboot, or they were removed"
        if found.directory is None
        else "the machine does not go back by itself, so half a switch would be left (rollback: never)"
    )
    return OpsError(
        f"the activation can't be ended safely: {why}",
        machine=machine,
        state="the activation goes on by itself",
        next_step="Wait for it to end: each of its parts has a limit. On the machine's console, what hangs can be"
        " found with: systemctl list-jobs; systemctl status nix-ops-activation",
    )


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{rest} s"
