# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits for a machine that reboots, and has it keep what it has booted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, first_line
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description, jobs
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

# What a machine that has booted answers to an acknowledgement (boot_acknowledge.sh).
DECISION = {"decision": Key(re.compile("keep|undo|none"), required=True)}

# How long a machine may take, in seconds, to write the old boot entry and to go down, beside its booting.
_BOOTING_BACK = 120.0


@dataclass(frozen=True)
class Boot:
    """How a reboot ended.

    :param after: what runs and boots now.
    :param what_failed: one sentence; None where the machine has booted what it was to boot, and keeps it.
    :param booted_back: whether it has booted what it had booted before, by itself.
    :param unhealthy: what the health checks found amiss.
    """

    after: Standing
    what_failed: str | None = None
    booted_back: bool = False
    unhealthy: tuple[str, ...] = ()


def await_boot(
    machine: Machine,
    toplevel: str,
    before: Standing,
    *,
    profile: str,
    timeout: float,
    confirm: Callable[[str], str],
    check: Callable[[], tuple[str, ...]] | None,
    on_line: LineSink,
) -> Boot:
    """Wait until a machine has booted, by its boot id, and acknowledge it over a new connection.

    :param toplevel: what it is to boot.
    :param before: what it was, before it was told to reboot.
    :param timeout: for how many seconds it waits itself, once it has booted, for someone to get in.
    :param confirm: says ``keep`` or ``undo`` to its boot guard over a new connection; answers with what counts.
    :param check: checks its health; answers with what is amiss. None where nothing is to be checked.
    :raises OpsError: where it does not come back.
    """
    now = _booted(machine, before.boot_id, profile, timeout, on_line)
    if now is not None and now.running == toplevel:
        kept = keep(now, timeout=timeout, confirm=confirm, check=check, on_line=on_line)
        if kept is None:
            on_line("it has booted the new system")
            return Boot(now)
        reason, unhealthy = kept
        if not now.on_trial:
            return Boot(now, f"{reason}; it has no boot guard, so that it stays", unhealthy=unhealthy)
        first = now.boot_id
    else:
        reason, unhealthy = "the new system was not reached in time after the reboot, or went down again", ()
        first = before.boot_id
    if now is None or now.running == toplevel:
        # It boots back by itself now.
        now = _booted(machine, first, profile, timeout + _BOOTING_BACK, on_line) or _ask(machine, profile)
    if now is None:
        raise OpsError(
            f"the machine has not come back from a reboot within {timeout:.0f} seconds",
            machine=machine.name,
            state="it was told to boot the new system; what it runs is not known",
            next_step="Look at its console. The boot menu has its old generations.",
        )
    if now.boot_id == before.boot_id:
        return Boot(now, "the machine has not rebooted")
    if now.running == toplevel:
        return Boot(now, f"{reason}, and it has not booted back", unhealthy=unhealthy)
    return Boot(now, f"{reason}, so the machine has booted back", True, unhealthy)


def keep(
    booted: Standing,
    *,
    timeout: float,
    confirm: Callable[[str], str],
    check: Callable[[], tuple[str, ...]] | None,
    on_line: LineSink,
) -> tuple[str, tuple[str, ...]] | None:
    """Check the health of a machine that has booted, and acknowledge it over a new connection.

    :param booted: what it was seen at.
    :param timeout: for how many seconds to try to get in.
    :returns: None where it keeps what it has booted, otherwise why not, and what is amiss.
    """
    unhealthy = check() if check else ()
    deadline = time.monotonic() + timeout
    while True:
        try:
            answer = confirm("undo" if unhealthy else "keep")
            break
        except (ConnectionLost, OpsError) as lost:
            if time.monotonic() > deadline:
                why = first_line(lost)
                return f"{booted.running} was booted, and nobody got in over a new connection: {why}", unhealthy
            # A refused connection answers at once; the machine is given a moment.
            time.sleep(0.5)
    if unhealthy:
        on_line("it boots back")
        return f"its health checks failed after the reboot: {'; '.join(unhealthy)}", unhealthy
    if answer == "undo":
        return "the machine had given up waiting for someone to get in", unhealthy
    if answer == "none" and booted.on_trial:
        return "the machine went down again before it was acknowledged", unhealthy
    return None


def _booted(machine: Machine, boot_id: str | None, profile: str, timeout: float, on_line: LineSink) -> Standing | None:
    """Wait for another boot than this one; None where it does not come about in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        now = _ask(machine, profile)
        if now is not None and now.boot_id != boot_id:
            return now
        # A machine that is going down still answers, one that is down refuses at once: it is given a moment.
        time.sleep(0.5)
    on_line(f"it has not booted within {timeout:.0f} seconds")
    return None


def _ask(machine: Machine, profile: str) -> Standing | None:
    try:
        told = machine.ask("machine/describe", profile, schema=description.DESCRIPTION, within=jobs.ANSWER_WITHIN)
        return description.standing(told)
    except (ConnectionLost, OpsError):
        return None
