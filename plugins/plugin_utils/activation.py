# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switching protocol: an activation runs detached on the machine and is followed live.

It knows nothing of how a toplevel was built or copied.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ansible_collections.nix.ops.plugins.plugin_utils import generations, job, nix_cli
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.generations import Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine import ConnectionLost, Machine, facts, script
from ansible_collections.nix.ops.plugins.plugin_utils.runner import LineSink

# How many lines of a failed unit's journal are shown.
_JOURNAL_LINES = 10


# What each exit code of switch-to-configuration means for a user
# (nixpkgs: switch-to-configuration.pl and switch-to-configuration-ng).
_EXIT_CODES = {
    1: "a check before the switch refused it, or the boot loader could not be installed",
    2: "the activation script failed",
    3: "systemd could not be reloaded",
    4: "units failed",
    11: "another switch-to-configuration is at work",
    100: "the new system can't be switched to while this one runs: it needs a reboot",
    101: "switch-to-configuration itself broke down",
    126: "switch-to-configuration can't be run on this machine",
    127: "switch-to-configuration is missing or can't be run on this machine",
}
_NEXT_STEPS = {
    1: "Read the lines above: they name the check, or what the boot loader said.",
    4: "Look at the units named above; correct them and deploy again.",
    11: "Wait for the other switch to end, then run the same again.",
    100: "Use the action 'boot', then reboot the machine.",
    126: "Check that the system was built for this machine's kind of processor.",
    127: "Check that the system was built for this machine's kind of processor.",
}

# Why a machine refuses to begin an activation, and what to do about it.
_REFUSALS = {
    "busy": "Wait for it to end, then run the same again.",
    "room": "Free room on the machine (df -h /run), then run the same again.",
    "root": "Become root on the machine ('become').",
    "systemd": "Check that the host is a NixOS machine, and no container without systemd.",
    "toplevel": "Bring it there first (nix_copy_closure).",
}


@dataclass(frozen=True)
class Units:
    """What an activation did with units, as it said it."""

    stopped: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    reloaded: tuple[str, ...] = ()
    not_restarted: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Activation:
    """An activation that ended.

    :param toplevel: what was to be activated.
    :param action: how.
    :param before: what ran and booted before it.
    :param after: what runs and boots now, asked from the machine.
    :param exit_code: that of the step that ended it; None where it was killed.
    :param step: the step it came to: ``activate``, ``profile`` or ``boot``.
    :param output: all that was said.
    """

    toplevel: str
    action: str
    before: Standing
    after: Standing
    exit_code: int | None
    step: str
    units: Units
    output: str

    @property
    def changed(self) -> bool:
        """Whether anything on the machine is another now."""
        return self.action != "dry-activate" and (self.before != self.after or self.units != Units())


def check_names(toplevel: str, profile: str) -> None:
    """Refuse what is no toplevel or profile before anything is touched.

    :raises OpsError: naming the value.
    """
    if not nix_cli.STORE_PATH.fullmatch(toplevel):
        raise OpsError(
            f"{toplevel!r} is no path of a system in the Nix store",
            next_step="Give the toplevel that nix_build returned.",
        )
    generations.check_profile(profile)


def activate(
    machine: Machine,
    toplevel: str,
    action: str,
    *,
    profile: str,
    holder: str,
    deployment: str | None = None,
    on_line: LineSink,
    patience: float,
) -> Activation:
    """Activate a toplevel that is in the machine's store.

    The activation goes on whatever becomes of the connection or of the caller.

    :param action: ``switch``, ``boot``, ``test`` or ``dry-activate``.
    :param profile: the profile that becomes the toplevel, for ``switch`` and ``boot``.
    :param holder: who activates, shown to others who find the machine busy.
    :param deployment: the UUID of the deployment it is of, which the machine notes.
    :param on_line: called with each line that is said, while it happens.
    :param patience: for how many seconds in a row the machine may be out of reach.
    :raises ActivationFailed: where it does not succeed, with what runs and what boots.
    :raises OpsError: where it is not begun, or the machine is out of reach for too long.
    """
    check_names(toplevel, profile)
    before, directory = _begin(machine, toplevel, action, profile, (holder, deployment or "-"))
    try:
        ended = job.follow(machine, directory, on_line=on_line, patience=patience)
        units = read_units(ended.log)
        # Units that had failed before are none of this activation's.
        others = set(before.failed_units) - set(units.failed)
        words = (directory, profile, str(_JOURNAL_LINES), *others)
        outcome = partial(machine.ask, "activation_outcome", *words, within=job.ANSWER_WITHIN)
        answer = facts(job.patiently(outcome, machine.name, on_line=on_line, patience=patience))
    except OpsError:
        raise
    except BaseException:
        on_line("this run ends; the activation goes on by itself on the machine")
        raise
    after = generations.standing(answer)
    step = ended.step or "activate"
    activation = Activation(toplevel, action, before, after, ended.exit_code, step, units, ended.log)
    if ended.state == "gone":
        raise ActivationFailed("the machine was rebooted during the activation", activation, machine, [])
    if ended.exit_code is None:
        raise ActivationFailed("the activation was killed", activation, machine, answer.get("journal", []))
    if ended.exit_code != 0:
        what = _what_failed(activation, ended.exit_code)
        raise ActivationFailed(what, activation, machine, answer.get("journal", []))
    return activation


def _begin(machine: Machine, toplevel: str, action: str, profile: str, behalf: tuple[str, str]) -> tuple[Standing, str]:
    words = (secrets.token_hex(8), action, toplevel, profile, *behalf, " ".join(machine.environment))
    try:
        done = machine.run("activation", *words, data=script("activation_job"))
    except ConnectionLost as lost:
        state = "it is not known whether the activation began; if it did, it goes on by itself"
        raise ConnectionLost(str(lost), state) from lost
    answer = facts(done.stdout)
    if "started" in answer:
        return generations.standing(answer), answer["started"][0]
    reason = (answer.get("refused") or ["start"])[0]
    said = done.stderr.strip() or done.stdout.strip()
    if reason == "busy":
        raise OpsError(
            "another activation is at work on the machine",
            machine=machine.name,
            state=f"{said}; this run has changed nothing there",
            next_step=_REFUSALS[reason],
        )
    raise OpsError(
        "the activation could not be started",
        machine=machine.name,
        output=said,
        state="nothing was activated",
        next_step=_REFUSALS.get(reason, "Read the lines above, then run the same again."),
        exit_code=done.exit_code,
    )


def _what_failed(activation: Activation, code: int) -> str:
    if activation.step == "profile":
        return f"the profile could not be set (exit code {code})"
    if activation.step == "boot" and activation.action == "switch":
        return f"the new system runs, but its boot entry could not be written (exit code {code})"
    what = _EXIT_CODES.get(code, "the activation failed")
    what = f"{what} (exit code {code} of switch-to-configuration {activation.action})"
    failed = ", ".join(activation.units.failed or activation.after.failed_units)
    return f"{what}: {failed}" if code == 4 and failed else what


class ActivationFailed(OpsError):
    """An activation that did not succeed; it carries all that is known of it.

    :param what: what failed, one sentence.
    :param journal: the ends of the failed units' journals.
    """

    def __init__(self, what: str, activation: Activation, machine: Machine, journal: Sequence[str]) -> None:
        if activation.exit_code is None:
            next_step = "Run the same again."
        else:
            next_step = _NEXT_STEPS.get(
                activation.exit_code, "Read the lines above, correct the configuration and deploy again."
            )
        super().__init__(
            what,
            machine=machine.name,
            output="\n".join([activation.output.rstrip(), *journal]),
            state=f"it {activation.after.sentence()}",
            next_step=next_step,
            exit_code=activation.exit_code,
        )
        self.activation = activation


class Unacknowledged(OpsError):
    """An activation that succeeded on a machine that can't be reached over a new connection.

    :param told: where it is said to be.
    :param said: what the connection said.
    """

    def __init__(self, activation: Activation, machine: str, told: str, said: str) -> None:
        super().__init__(
            f"the machine can't be reached at {told} over a new connection",
            machine=machine,
            output=said,
            state=f"it {activation.after.sentence()}",
            next_step="Compare deployment.targetHost, the ports of services.openssh and the firewall with what the"
            " machine has now. Where an address was changed, the next run tries the old one as well.",
        )
        self.activation = activation


_SAID = {
    "stopped": re.compile(r"^(?:would stop|stopping) the following units: (.*)$", re.MULTILINE),
    "started": re.compile(
        r"^(?:(?:would start|starting) the following units|the following new units were started): (.*)$", re.MULTILINE
    ),
    "restarted": re.compile(r"^(?:would restart|restarting) the following units: (.*)$", re.MULTILINE),
    "reloaded": re.compile(r"^(?:would reload|reloading) the following units: (.*)$", re.MULTILINE),
    "not_restarted": re.compile(
        r"^(?:would NOT restart|NOT restarting) the following changed units: (.*)$", re.MULTILINE
    ),
    "failed": re.compile(r"^warning: the following units failed: (.*)$", re.MULTILINE),
}


def read_units(output: str) -> Units:
    """Read from what ``switch-to-configuration`` said which units it stopped, started and so on.

    A unit that is stopped and started again was restarted: that is how units are restarted
    whose definition says nothing else (``stopIfChanged``).
    """
    said = {
        kind: {unit for line in pattern.findall(output) for unit in line.split(", ") if unit}
        for kind, pattern in _SAID.items()
    }
    both = said["stopped"] & said["started"]
    said["restarted"] |= both
    said["stopped"] -= both
    said["started"] -= said["restarted"]
    return Units(**{kind: tuple(sorted(units)) for kind, units in said.items()})
