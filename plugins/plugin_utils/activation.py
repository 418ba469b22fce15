# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switching protocol: an activation runs detached on the machine and is followed live.

It knows nothing of how a toplevel was built or copied.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ansible_collections.nix.ops.plugins.plugin_utils import generations, job, nix_cli
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.generations import Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine import ConnectionLost, Machine, facts, script
from ansible_collections.nix.ops.plugins.plugin_utils.runner import LineSink

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
    :param step: the step it came to: ``activate``, ``acknowledge``, ``rollback``, ``profile`` or ``boot``.
    :param output: all that was said.
    :param rolled_back: ``yes``, ``reboot`` where the machine had to be rebooted for it, or ``no``.
    """

    toplevel: str
    action: str
    before: Standing
    after: Standing
    exit_code: int | None
    step: str
    units: Units
    output: str
    rolled_back: str = "no"

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


@dataclass(frozen=True)
class Policy:
    """What is done where an activation does not go well.

    :param rollback: whether the machine goes back to what ran before, where the switch fails or nobody gets in again.
    :param confirm_timeout: for how many seconds the machine waits after the switch for someone to get in.
    :param failed_units: what follows from units that failed: ``fail``, ``warn`` or ``rollback``.
    """

    rollback: bool
    confirm_timeout: int
    failed_units: str

    def words(self) -> tuple[str, ...]:
        """As words of the script."""
        return "auto" if self.rollback else "never", self.failed_units, str(self.confirm_timeout)


def activate(
    machine: Machine,
    toplevel: str,
    action: str,
    *,
    profile: str,
    holder: str,
    deployment: str | None = None,
    policy: Policy,
    confirm: Callable[[str], None],
    on_line: LineSink,
    patience: float,
) -> Activation:
    """Activate a toplevel that is in the machine's store.

    The activation goes on whatever becomes of the connection or of the caller. One that is at work already, with
    the same toplevel and action, is followed to its end instead.

    :param action: ``switch``, ``boot``, ``test`` or ``dry-activate``.
    :param profile: the profile that becomes the toplevel, for ``switch`` and ``boot``.
    :param holder: who activates, shown to others who find the machine busy.
    :param deployment: the UUID of the deployment it is of, which the machine notes.
    :param confirm: gets in over a new connection and acknowledges the attempt in this directory; raises
        :class:`ConnectionLost` where it can't, and is tried again as long as the machine waits.
    :param on_line: called with each line that is said, while it happens.
    :param patience: for how many seconds in a row the machine may be out of reach.
    :raises ActivationFailed: where it does not succeed, with what runs and what boots.
    :raises OpsError: where it is not begun, or the machine is out of reach for too long.
    """
    check_names(toplevel, profile)
    more = (profile, holder, deployment or "-", *policy.words())
    before, directory = _begin(machine, toplevel, action, more, on_line)
    confirmation = _Confirmation(confirm, directory)
    try:
        ended = job.follow(machine, directory, on_line=on_line, patience=patience, on_step=confirmation)
        units = read_units(ended.log)
        outcome = partial(machine.ask, "activation_outcome", directory, profile, within=job.ANSWER_WITHIN)
        answer = facts(job.patiently(outcome, machine.name, on_line=on_line, patience=patience))
    except OpsError:
        raise
    except BaseException:
        on_line("this run ends; the activation goes on by itself on the machine")
        raise
    after = generations.standing(answer)
    rolled_back = (answer.get("rolled_back") or ["no"])[0]
    step = ended.step or "activate"
    done = Activation(toplevel, action, before, after, ended.exit_code, step, units, ended.log, rolled_back)
    if what := _what_failed(done, ended, confirmation, policy):
        raise ActivationFailed(what, done, machine, answer.get("journal", []))
    return done


class _Confirmation:
    """Gets in over a new connection, once the switch is done, until that succeeds or the machine waits no longer."""

    def __init__(self, confirm: Callable[[str], None], directory: str) -> None:
        self._confirm = confirm
        self._directory = directory
        self._done = False
        self.lost: Exception | None = None

    def __call__(self, step: str) -> None:
        if step != "acknowledge" or self._done:
            return
        try:
            self._confirm(self._directory)
        except (ConnectionLost, OpsError) as lost:
            self.lost = lost
        else:
            self._done = True


def _begin(
    machine: Machine, toplevel: str, action: str, more: tuple[str, ...], on_line: LineSink
) -> tuple[Standing, str]:
    words = (secrets.token_hex(8), action, toplevel, *more, " ".join(machine.environment))
    try:
        done = machine.run("activation", *words, data=script("activation_job"))
    except ConnectionLost as lost:
        state = "it is not known whether the activation began; if it did, it goes on by itself"
        raise ConnectionLost(str(lost), state) from lost
    answer = facts(done.stdout)
    if "joined" in answer:
        on_line("the same activation is at work already; following it to its end")
        return generations.standing(answer), answer["joined"][0]
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


def _what_failed(done: Activation, ended: job.Ended, confirmation: _Confirmation, policy: Policy) -> str | None:
    """What failed, one sentence; None where all went well."""
    if ended.state == "gone":
        return "the machine was rebooted during the activation"
    if ended.exit_code is None:
        return "the activation was killed"
    back = {
        "no": "",
        "yes": ", so the machine has gone back to what ran before",
        "reboot": ", and going back failed as well, so the machine was rebooted into what ran before",
    }[done.rolled_back]
    if ended.exit_code == 0:
        if done.rolled_back == "no":
            return None
        why = f": {str(confirmation.lost).splitlines()[0]}" if confirmation.lost else ""
        return f"nobody got in over a new connection within {policy.confirm_timeout} seconds{back}{why}"
    if ended.exit_code == 4 and done.rolled_back == "no" and policy.failed_units == "warn":
        return None
    return _of_exit_code(done, ended.exit_code) + back


def _of_exit_code(activation: Activation, code: int) -> str:
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
