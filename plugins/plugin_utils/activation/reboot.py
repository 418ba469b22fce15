# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits for a machine that reboots, and acknowledges the boot."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, reason
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description, jobs
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine, PasswordRefused
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Heartbeat

# The answer of boot_acknowledge.sh.
DECISION = {"decision": Key(re.compile("keep|undo|none"), required=True)}

# Seconds for writing the old boot entry and going down, in addition to the boots themselves.
_BOOTING_BACK = 120.0

# Seconds in which a machine that has just booted may refuse what it is brought.
_REFUSING = 60.0


@dataclass(frozen=True)
class Boot:
    """The result of a reboot.

    :param after: what runs and boots now.
    :param what_failed: one sentence; None if the machine has booted the new system and keeps it.
    :param booted_back: whether the machine has booted the old system by itself.
    :param unhealthy: the failed health checks.
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
    since: float,
    boots_back: bool,
    confirm: Callable[[str], str],
    check: Callable[[], tuple[str, ...]] | None,
    arrive: Callable[[], object] | None = None,
    on_line: LineSink,
) -> Boot:
    """Wait until the boot id of a machine changes, and acknowledge the boot over a new connection.

    :param toplevel: the new system.
    :param before: what ran and booted before the reboot.
    :param timeout: seconds for a boot. After its boot the machine waits as long for somebody to get in.
    :param since: when the machine was told to reboot (:func:`time.monotonic`).
    :param boots_back: whether the machine may boot back by itself.
    :param confirm: sends ``keep`` or ``undo`` to the boot guard over a new connection; returns the final decision.
    :param check: checks the machine's health; returns the failed checks. None if there are no checks.
    :param arrive: brings to the machine what the reboot has taken from it, before the checks; None for nothing.
    :raises OpsError: if the machine does not come back.
    """
    wait = partial(await_other_boot, machine, profile=profile, on_line=on_line)
    # The machine waits for the acknowledgement, writes the old boot entry, and boots once more.
    back = 2 * timeout + _BOOTING_BACK
    now = wait(before.boot_id, since + timeout)
    late = f"it has not booted within {timeout:.0f} seconds"
    if now is None and boots_back:
        on_line(f"{late}; it may still boot, or boot back: waiting up to {back:.0f} seconds more")
        now = wait(before.boot_id, time.monotonic() + back)
    elif now is None:
        on_line(late)
    why = "the new system was not reached in time after the reboot, or went down again"
    unhealthy: tuple[str, ...] = ()
    if now is not None and now.running == toplevel:
        kept = keep(now, timeout=timeout, confirm=confirm, check=check, arrive=arrive, on_line=on_line)
        if kept is None:
            on_line("it has booted the new system")
            return Boot(now)
        why, unhealthy = kept
        if not now.on_trial:
            return Boot(now, f"{why}; it has no boot guard, so that it stays", unhealthy=unhealthy)
        on_line(f"it boots back by itself: waiting up to {back:.0f} seconds for that")
        now = wait(now.boot_id, time.monotonic() + back) or ask(machine, profile)
    now = now or ask(machine, profile)
    if now is None:
        raise OpsError(
            f"the machine has not come back from a reboot within {time.monotonic() - since:.0f} seconds",
            machine=machine.name,
            state="it was told to boot the new system; it is not known what runs there",
            next_step="Look at its console. The boot menu has its old generations.",
        )
    if now.boot_id == before.boot_id:
        return Boot(now, "the machine has not rebooted")
    if now.running == toplevel:
        return Boot(now, f"{why}, and it has not booted back", unhealthy=unhealthy)
    if not boots_back:
        return Boot(now, "the machine has booted another system than the new one, which has no boot guard")
    return Boot(now, f"{why}, so the machine has booted back", True, unhealthy)


def keep(
    booted: Standing,
    *,
    timeout: float,
    confirm: Callable[[str], str],
    check: Callable[[], tuple[str, ...]] | None,
    arrive: Callable[[], object] | None = None,
    on_line: LineSink,
) -> tuple[str, tuple[str, ...]] | None:
    """Check the health of a machine that has booted, and acknowledge the boot over a new connection.

    :param booted: what runs and boots there.
    :param timeout: seconds to try to get in.
    :returns: None if the machine keeps what it has booted; otherwise the reason and the failed checks.
    """
    unhealthy = _arrive(arrive, time.monotonic() + timeout) if arrive else ()
    unhealthy = unhealthy or (check() if check else ())
    deadline = time.monotonic() + timeout
    while True:
        try:
            answer = confirm("undo" if unhealthy else "keep")
            break
        except PasswordRefused:
            raise
        except (ConnectionLost, OpsError) as lost:
            if time.monotonic() > deadline:
                why = reason(lost)
                return f"{booted.running} was booted, and nobody got in over a new connection: {why}", unhealthy
            # Give the machine a moment: a refused connection answers at once.
            time.sleep(0.5)
    if unhealthy:
        if booted.on_trial:
            on_line("it boots back")
        return f"its health checks failed after the reboot: {'; '.join(unhealthy)}", unhealthy
    if answer == "undo":
        return "the machine had given up waiting for someone to get in", unhealthy
    if answer == "none" and booted.on_trial:
        return "the machine went down again before it was acknowledged", unhealthy
    return None


def _arrive(arrive: Callable[[], object], deadline: float) -> tuple[str, ...]:
    """Bring to a machine what a reboot has taken from it; return what failed."""
    refusing = min(deadline, time.monotonic() + _REFUSING)
    while True:
        try:
            arrive()
            return ()
        except PasswordRefused:
            raise
        except (ConnectionLost, OpsError) as failure:
            if time.monotonic() > (deadline if isinstance(failure, ConnectionLost) else refusing):
                return (reason(failure),)
            # It has just booted: what it lacks yet, as a file system, may come.
            time.sleep(0.5)


def await_other_boot(
    machine: Machine, boot_id: str | None, deadline: float, *, profile: str, on_line: LineSink
) -> Standing | None:
    """Wait for another boot than this one; return None if it does not happen in time."""
    heartbeat = Heartbeat("its boot", on_line, lambda: f"{deadline - time.monotonic():.0f} s left")
    while time.monotonic() < deadline:
        heartbeat.beat()
        now = ask(machine, profile)
        if now is not None and now.boot_id != boot_id:
            return now
        # Give the machine a moment: it still answers while it goes down, and refuses at once when it is down.
        time.sleep(0.5)
    return None


def ask(machine: Machine, profile: str) -> Standing | None:
    """Return what runs and boots on a machine; None if it does not answer."""
    try:
        told = machine.ask(
            *("machine/describe", profile),
            schema=description.DESCRIPTION,
            within=jobs.ANSWER_WITHIN,
            awaits="what it runs",
        )
        return description.standing(told)
    except PasswordRefused:
        raise
    except (ConnectionLost, OpsError):
        return None
