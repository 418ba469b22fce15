# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reboots a machine into what it boots anyway, and follows it until it can be used again."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import SYSTEM_PROFILE
from ansible_collections.nix.ops.plugins.plugin_utils.activation import reboot
from ansible_collections.nix.ops.plugins.plugin_utils.activation.protocol import Access
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, first_line
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Description, Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

_ANSWER = {"rebooting": Key(answer.YES), "refused": Key(re.compile("busy|root|start"))}

_BOOT = {"boot_id": Key(re.compile("[0-9a-f-]{36}"), required=True)}

_NOT_REBOOTED = "it was not rebooted"
_BUSY_NEXT = "Wait for it to end, then run the same again."


@dataclass(frozen=True)
class Restart:
    """A reboot that succeeded.

    :param after: what runs and boots now.
    :param seconds: how long the machine was away, until its first answer.
    """

    after: Standing
    seconds: float


def check(found: Description, machine: str) -> None:
    """Refuse to reboot a machine on which something is under way that a reboot would break.

    :raises OpsError: naming it.
    """
    if found.activating:
        raise _busy(machine, "an activation is at work on the machine", _BUSY_NEXT)
    if found.standing.on_trial:
        raise _busy(
            machine,
            "the machine has booted a new system for the first time, and would go back to the old one",
            "Deploy it again: that keeps the new system.",
        )


def boots(standing: Standing) -> str | None:
    """Return the toplevel that a machine boots next; None if that is not known."""
    return standing.boot_default or (None if standing.boot_unfinished else standing.profile)


def restart(
    machine: Machine,
    before: Standing,
    access: Access,
    *,
    hard: bool,
    timeout: float,
    holder: str,
    on_line: LineSink,
) -> Restart:
    """Reboot a machine, and wait until another boot answers, has its keys and is healthy.

    :param before: what runs and boots there.
    :param hard: whether to reboot at once, without ending any service.
    :param timeout: seconds for the boot, and again to get in after it.
    :param holder: the user and process that reboot, for others who find the machine busy.
    :raises OpsError: if the machine refuses, does not come back, or is not healthy then.
    """
    _identify(machine)
    since = time.monotonic()
    _request(machine, "hard" if hard else "soft", holder)
    on_line("rebooting...")
    now = reboot.await_other_boot(machine, before.boot_id, since + timeout, profile=SYSTEM_PROFILE, on_line=on_line)
    if now is None:
        raise _not_back(machine, reboot.ask(machine, SYSTEM_PROFILE), timeout, hard=hard)
    seconds = time.monotonic() - since
    on_line(f"it has booted {now.running or 'an unknown system'} after {seconds:.0f} s")
    failure = reboot.keep(
        now, timeout=timeout, confirm=access.confirm_boot, check=access.check, arrive=access.arrive, on_line=on_line
    )
    if failure is not None:
        raise OpsError(
            failure[0],
            machine=machine.name,
            state="the machine boots back to what it had booted before" if now.on_trial else f"it {now.sentence()}",
            next_step="Correct what the lines above name, or the checks.",
        )
    return Restart(now, seconds)


def _identify(machine: Machine) -> None:
    """Give a machine an id that outlives the reboot. Without one, it counts as another machine afterwards."""
    if not machine.identity.machine_id:
        machine.ask("activation/identify", awaits="its id")
        # Only the next answer has it.
        machine.ask("machine/boot", schema=_BOOT, awaits="its id")


def _request(machine: Machine, how: str, holder: str) -> None:
    try:
        done = machine.run("activation/reboot", how, holder, awaits="the start of the reboot")
    except ConnectionLost:
        # It may go down before its answer is here. Its boot id tells.
        return
    told = answer.read(done.stdout, _ANSWER, machine.name)
    if "rebooting" in told:
        return
    said = done.stderr.strip()
    if told.one("refused") == "busy":
        raise _busy(machine.name, f"another activation is at work on the machine: {first_line(said)}", _BUSY_NEXT)
    is_root = told.one("refused") == "root"
    raise OpsError(
        "the machine could not be rebooted",
        machine=machine.name,
        output=said,
        state=_NOT_REBOOTED,
        next_step="Become root on the machine ('become')."
        if is_root
        else "Read the lines above. To reboot at once, without ending any service, give -e reboot_hard=true.",
        exit_code=done.exit_code or None,
    )


def _busy(machine: str, what: str, next_step: str) -> OpsError:
    return OpsError(what, machine=machine, state=_NOT_REBOOTED, next_step=next_step)


def _not_back(machine: Machine, still: Standing | None, timeout: float, *, hard: bool) -> OpsError:
    if still is None:
        return OpsError(
            f"the machine has not come back from its reboot within {timeout:.0f} seconds",
            machine=machine.name,
            state="it was told to reboot; it is not known what runs there",
            next_step="Look at its console. The boot menu has its old generations.",
        )
    helps = "Look at its console." if hard else "Look at what it waits for (systemctl list-jobs), or use reboot_hard."
    return OpsError(
        f"the machine has not rebooted within {timeout:.0f} seconds",
        machine=machine.name,
        state=f"it still {still.sentence()}",
        next_step=helps,
    )
