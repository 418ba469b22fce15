# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activates a toplevel: the activation runs detached on the machine, and the controller follows it live.

How the toplevel was built or copied does not matter here.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.activation import reboot
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, first_line, reason
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer, description, jobs
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Answer, Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import (
    ConnectionLost,
    Machine,
    PasswordRefused,
    assign,
    export,
    place,
    script,
)
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

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
    124: "the switch did not end in time",
    126: "switch-to-configuration can't be run on this machine",
    127: "switch-to-configuration is missing or can't be run on this machine",
}
_NEXT_STEPS = {
    1: "Read the lines above: they name the check, or what the boot loader said. Where it inhibits the switch,"
    " set 'reboot' to when_needed.",
    4: "Read the journals of the units above, correct them and deploy again.",
    11: "Wait for the other switch to end, then run the same again.",
    100: "Set 'reboot' to when_needed, or use the action 'boot' and reboot the machine.",
    126: "Check that the system was built for this machine's kind of processor.",
    124: "The lines above end with what hangs: correct it and deploy again, or set a longer 'switch_timeout'.",
    127: "Check that the system was built for this machine's kind of processor.",
}

# Why a machine refuses to start an activation, and what to do about it.
_REFUSALS = {
    "busy": "Wait for it to end, or end it with nix.ops.unlock if it is stuck. Then run the same again.",
    "room": "Free room on the machine (df -h /run), then run the same again.",
    "root": "Become root on the machine ('become').",
    "systemd": "Check that the host is a NixOS machine, and no container without systemd.",
    "switch": "Leave system.switch.enable at true, or remove what takes the program out of the system.",
    "toplevel": "Bring it there first (nix_copy_closure).",
}


_PARTS_OF_JOB = (
    *("machine/places", "machine/kept", "machine/system", "machine/lock", "machine/lines", "machine/old_keys"),
    *("activation/shared", "activation/failed_units"),
)
_JOB = "activation/activation_job"

_NOT_KNOWN = "it is not known whether the activation began; if it did, it goes on by itself"

# The exit code of a script that could not write an answer (acknowledge.sh).
_NOT_WRITTEN = 73

# Seconds that an activation may take in addition to its limits.
_OVERHEAD = 120

_DIRECTORY = Key(re.compile(re.escape(place("activations")) + "-[0-9a-f]{16}"))
_BEGUN = {**description.STANDING, "started": _DIRECTORY, "joined": _DIRECTORY}
_REFUSED = {"refused": Key(re.compile("start|" + "|".join(_REFUSALS)), required=True)}
_OUTCOME = {
    **description.STANDING,
    "rolled_back": Key(re.compile("yes|reboot")),
    "own": Key(re.compile(description.UNIT), most=10_000),
    "foreign": Key(re.compile(description.UNIT), most=10_000),
}


@dataclass(frozen=True)
class Units:
    """What an activation did with units, according to its output."""

    stopped: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    reloaded: tuple[str, ...] = ()
    not_restarted: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Goal:
    """What a machine shall run and boot.

    :param action: ``switch``, ``boot``, ``test`` or ``dry-activate``.
    :param profile: the profile to set to the toplevel, for ``switch`` and ``boot``.
    :param generation: the generation to use if it leads to the toplevel; otherwise a new one is made.
    """

    toplevel: str
    action: str
    profile: str
    generation: int | None = None

    def check(self) -> None:
        """Check the toplevel and the profile.

        :raises OpsError: if one is not valid.
        """
        if not nix.STORE_PATH.fullmatch(self.toplevel):
            raise OpsError(
                f"{self.toplevel!r} is not the path of a system in the Nix store",
                next_step="Give the toplevel that nix_build returned.",
            )
        description.check_profile(self.profile)


@dataclass(frozen=True)
class Policy:
    """What to do if an activation fails, and whether to reboot the machine.

    :param rollback: whether the machine goes back to what ran before, if the switch fails or nobody gets in again.
    :param switch_timeout: seconds after which a switch is ended.
    :param confirm_timeout: seconds that the machine waits after the switch for somebody to get in.
    :param failed_units: what failed units lead to: ``fail``, ``warn`` or ``rollback``.
    :param reboot: ``never``, ``when_needed`` or ``always``.
    :param reboot_timeout: seconds that the machine waits after a reboot for somebody to get in.
    :param boot_timeout: seconds after which setting the profile, and writing the boot entry, is ended.
    :param keeps_keys: whether the replaced keys are kept after the activation.
    """

    rollback: bool
    switch_timeout: int
    confirm_timeout: int
    failed_units: str
    reboot: str = "never"
    reboot_timeout: int = 600
    boot_timeout: int = 600
    keeps_keys: bool = False

    def longest(self, check_seconds: int) -> int:
        """Return the seconds that an activation may take: the switch, going back twice, and all that it waits for."""
        seconds = (self.switch_timeout, self.confirm_timeout, self.boot_timeout)
        return 3 * sum(seconds) + check_seconds + _OVERHEAD

    def check(self) -> None:
        """Check the times.

        :raises OpsError: if one is not valid.
        """
        for name in ("switch_timeout", "confirm_timeout", "reboot_timeout", "boot_timeout"):
            if getattr(self, name) < 1:
                raise OpsError(
                    f"{name} is {getattr(self, name)}, and has to be at least 1",
                    state="nothing was touched",
                    next_step=f"Correct {name!r}.",
                )


@dataclass(frozen=True)
class Access:
    """How the controller gets in again, and what it checks.

    :param confirm: acknowledges the activation in a directory over a new connection. The second argument is the answer
        (``acknowledge.sh``). Raises :class:`ConnectionLost` if it can't connect; it is tried again while the machine
        waits.
    :param confirm_boot: acknowledges the boot of a machine in the same way; returns the decision that counts.
    :param check: checks the machine's health; returns the failed checks. None if there are no checks.
    :param check_seconds: seconds that the checks may take.
    :param arrive: brings to a machine what a reboot has taken from it, before the checks; None for nothing.
    """

    confirm: Callable[[str, str], None]
    confirm_boot: Callable[[str], str]
    check: Callable[[], tuple[str, ...]] | None
    check_seconds: int
    arrive: Callable[[], object] | None = None


@dataclass(frozen=True)
class Activation:
    """An activation that ended.

    :param toplevel: the toplevel of the goal.
    :param action: the action of the goal.
    :param before: what ran and booted before.
    :param after: what runs and boots now, as the machine says.
    :param exit_code: the exit code of the last step; None if the activation was killed.
    :param step: the last step: ``activate``, ``acknowledge``, ``check``, ``rollback``, ``profile``, ``boot`` or
        ``reboot``.
    :param output: its whole output.
    :param rolled_back: ``yes``, ``reboot`` if that took a reboot, or ``no``.
    :param unhealthy: the failed health checks.
    :param journal: the ends of the journals of failed units, by unit.
    :param rebooted: whether the machine was rebooted into the toplevel.
    :param failed_units: the units that failed and count.
    :param foreign_units: the units that failed and do not count, since neither the old nor the new system names them.
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
    unhealthy: tuple[str, ...] = ()
    journal: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rebooted: bool = False
    failed_units: tuple[str, ...] = ()
    foreign_units: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the activation changed anything on the machine."""
        return self.action != "dry-activate" and (self.before != self.after or self.units != Units())


def activate(
    machine: Machine,
    goal: Goal,
    policy: Policy,
    access: Access,
    *,
    holder: str,
    deployment: str | None = None,
    on_line: LineSink,
    on_course: LineSink = lambda _state: None,
    patience: float,
) -> Activation:
    """Activate a toplevel that is in the machine's store.

    The activation goes on if the connection or the controller is gone. If one with the same toplevel and action is at
    work already, follow that one to its end.

    :param holder: the user and process that activate, for others who find the machine busy.
    :param deployment: the UUID of the deployment, which the machine notes.
    :param on_line: called with each line of output at once.
    :param on_course: called at each step with what the machine does by itself if this run ends now.
    :param patience: seconds in a row that the machine may be out of reach.
    :raises ActivationFailed: if the activation fails, with what runs and what boots.
    :raises OpsError: if it could not be started, or the machine is out of reach for too long.
    """
    goal.check()
    policy.check()
    before, directory = _start(machine, goal, policy, access, deployment, holder, on_line)
    on_course(_course(goal, policy, access, "activate"))
    answers = _Acknowledgements(access, directory, machine, on_line)

    def on_step(step: str) -> bool:
        if step != answers.step:
            on_course(_course(goal, policy, access, step))
        return answers(step)

    outcome = partial(
        machine.ask,
        *("activation/activation_outcome", directory, goal.profile),
        schema=_OUTCOME,
        block="journal",
        within=jobs.ANSWER_WITHIN,
        awaits="the outcome of the activation",
    )
    try:
        ended = jobs.follow(
            machine,
            directory,
            what="the activation",
            on_line=on_line,
            patience=patience,
            within=policy.longest(access.check_seconds),
            on_step=on_step,
            detail=partial(answers.waits, policy.confirm_timeout),
        )
        if ended.exit_code is None and ended.step == "reboot":
            return _follow_reboot(machine, goal, policy, access, before, ended, answers, on_line)
        if ended.state == "gone" and _is_same_boot(machine, goal, before, on_line, patience):
            on_line(f"the files of the activation, {directory}, were removed; waiting for it to end...")
            _await_end(machine, goal, policy, access, on_line, patience)
            ended = replace(ended, state="removed")
    except PasswordRefused as refused:
        back = (
            "without an acknowledgement it goes back to what ran before" if policy.rollback else "it does not go back"
        )
        refused.state = f"the activation there goes on by itself; {back}"
        raise
    told = _ask_outcome(outcome, machine, ended, on_line, patience)
    done = _read_outcome(goal, before, ended, told, answers.unhealthy)
    # Without an answer of the machine, nothing was acknowledged.
    cause = answers.lost or ended.trouble
    if what := _what_failed(done, ended, cause, policy):
        raise ActivationFailed(what, done, machine, cause)
    if goal.action in ("switch", "test") and not policy.rollback and access.check and (amiss := access.check()):
        done = replace(done, unhealthy=amiss)
        raise ActivationFailed(f"it is not healthy, and rollback is never: {'; '.join(amiss)}", done, machine)
    return done


def _course(goal: Goal, policy: Policy, access: Access, step: str) -> str:
    """Return what the machine does by itself if the controller leaves it at a step that has just begun."""
    if goal.action == "dry-activate":
        return "nothing is activated on the machine"
    if step == "activate" and goal.action != "boot":
        goes_on = f"the activation goes on by itself; the switch ends by {_clock(policy.switch_timeout)} at the latest"
        if not policy.rollback:
            return f"{goes_on}, and the new system stays"
        waits = f"the machine waits {policy.confirm_timeout} s for this controller"
        return f"{goes_on}, then {waits} and goes back to what ran before"
    if step in ("acknowledge", "check"):
        by = _clock(policy.confirm_timeout + (access.check_seconds if step == "check" else 0))
        return f"the new system runs, and the machine goes back to what ran before by {by} at the latest"
    if step == "reboot":
        boots_back = f"boots back {policy.reboot_timeout} s after its boot unless it is reached"
        return f"the machine reboots if it was told to, and {boots_back}"
    if step == "rollback":
        return "the machine is going back to what ran before"
    return "the activation goes on by itself, and the machine keeps the new system"


def _clock(seconds: float) -> str:
    """Return the time of day in so many seconds, on the controller."""
    return time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))


def _ask_outcome(
    ask: Callable[[], Answer], machine: Machine, ended: jobs.Ended, on_line: LineSink, patience: float
) -> Answer:
    try:
        return jobs.patiently(ask, machine.name, on_line=on_line, patience=patience)
    except OpsError as lost:
        how = f"with exit code {ended.exit_code}" if ended.exit_code is not None else "without a result"
        lost.state = f"the activation has ended {how}; it is not known what runs and what boots"
        raise


def _read_outcome(
    goal: Goal, before: Standing, ended: jobs.Ended, told: Answer, unhealthy: tuple[str, ...]
) -> Activation:
    """Return how an activation ended, as the machine told it.

    :param told: the answer of activation_outcome.sh.
    :param unhealthy: what the last health checks found amiss.
    """
    after = description.standing(told)
    # Asking removes the answer, so that one lost on the way does not come again.
    is_back = ended.step == "rollback" or (
        ended.state in ("removed", "killed") and after.running == before.running != goal.toplevel
    )
    return Activation(
        goal.toplevel,
        goal.action,
        before,
        after,
        ended.exit_code,
        ended.step or "activate",
        read_units(ended.log),
        ended.log,
        told.one("rolled_back") or ("yes" if is_back and goal.action in ("switch", "test") else "no"),
        unhealthy,
        _read_journal(told.block),
        failed_units=told.all("own"),
        foreign_units=told.all("foreign"),
    )


def _is_same_boot(machine: Machine, goal: Goal, before: Standing, on_line: LineSink, patience: float) -> bool:
    ask = partial(description.describe, machine, profile=goal.profile)
    return jobs.patiently(ask, machine.name, on_line=on_line, patience=patience).standing.boot_id == before.boot_id


def _await_end(
    machine: Machine, goal: Goal, policy: Policy, access: Access, on_line: LineSink, patience: float
) -> None:
    """Wait until no activation is at work on a machine. Without its files, nothing else tells.

    :raises OpsError: if it does not end in time.
    """
    deadline = time.monotonic() + policy.longest(access.check_seconds)
    ask = partial(description.describe, machine, profile=goal.profile)
    while jobs.patiently(ask, machine.name, on_line=on_line, patience=patience).activating:
        if time.monotonic() > deadline:
            raise OpsError(
                "the files of the activation were removed, and it has not ended in time",
                machine=machine.name,
                state="the activation goes on by itself; its result is not known",
                next_step="Look at the machine: systemctl status nix-ops-activation.",
            )
        time.sleep(1)


class _Acknowledgements:
    """Sends acknowledgements to a waiting activation.

    After the switch, get in over a new connection and check the machine's health. Try again while the machine waits.
    Before a reboot, tell the machine that the controller is there to follow it.
    """

    def __init__(self, access: Access, directory: str, machine: Machine, on_line: LineSink) -> None:
        self._access = access
        self._directory = directory
        self._machine = machine
        self._on_line = on_line
        self._reached = False
        self._verdict: str | None = None
        self._told = False
        self.step = "activate"
        self._since: float | None = None
        self.lost: Exception | None = None
        self.unhealthy: tuple[str, ...] = ()
        # When the machine was told to reboot, and what it has on trial.
        self.rebooting: float | None = None
        self.trial: str | None = None

    def __call__(self, step: str) -> bool:
        """Do what a step needs; return whether the machine goes down."""
        self.step = step
        try:
            if step in ("acknowledge", "check") and not self._told:
                self._since = self._since or time.monotonic()
                self._acknowledge()
            elif step == "reboot" and self.rebooting is None:
                self.trial = description.describe(self._machine).standing.trial
                self._answer("reboot")
                self.rebooting = time.monotonic()
                self._on_line("rebooting...")
        except PasswordRefused:
            raise
        except (ConnectionLost, OpsError) as lost:
            self.lost = lost
        return self.rebooting is not None

    def waits(self, seconds: float) -> str:
        """Return how long the machine still waits to be reached; empty if it does not wait.

        :param seconds: how long it waits.
        """
        if self._since is None or self._reached or self._told:
            return ""
        left = max(0, self._since + seconds - time.monotonic())
        why = f" ({reason(self.lost)})" if self.lost else ""
        return f"it has {left:.0f} s left to be reached over a new connection{why}"

    def _acknowledge(self) -> None:
        if self._access.check is None:
            self._access.confirm(self._directory, "keep")
        else:
            if not self._reached:
                self._access.confirm(self._directory, "reached")
                self._reached = True
            if self._verdict is None:
                self.unhealthy = self._access.check()
                self._verdict = "undo" if self.unhealthy else "keep"
            self._answer(self._verdict)
        self._told = True

    def _answer(self, word: str) -> None:
        self._machine.ask(
            "activation/acknowledge", self._directory, word, within=jobs.ANSWER_WITHIN, awaits="the acknowledgement"
        )


def _start(
    machine: Machine,
    goal: Goal,
    policy: Policy,
    access: Access,
    deployment: str | None,
    holder: str,
    on_line: LineSink,
) -> tuple[Standing, str]:
    words = (secrets.token_hex(8), goal.action, goal.toplevel, goal.profile, holder)
    job = compose_job(goal, policy, machine.environment, access.check_seconds, deployment)
    try:
        done = machine.run("activation/activation", *words, data=job, awaits="the start of the activation")
        schema = _REFUSED if done.stdout.startswith("refused ") else _BEGUN
        told = answer.read(done.stdout, schema, machine.name) if done.exit_code == 0 else Answer()
    except PasswordRefused:
        raise
    except (ConnectionLost, OpsError) as lost:
        lost.state = _NOT_KNOWN
        raise
    if joined := told.one("joined"):
        on_line("the same activation is at work already; following it to its end")
        return description.standing(told), joined
    if started := told.one("started"):
        return description.standing(told), started
    reason = told.one("refused")
    said = done.stderr.strip() or done.stdout.strip()
    if reason == "busy":
        raise OpsError(
            "another activation is at work on the machine",
            machine=machine.name,
            state=f"{first_line(said)}; this run has changed nothing there",
            next_step=_REFUSALS[reason],
        )
    raise OpsError(
        "the activation could not be started",
        machine=machine.name,
        output=said,
        state="nothing was activated" if reason else _NOT_KNOWN,
        next_step=_REFUSALS.get(reason or "start", "Read the lines above, then run the same again."),
        exit_code=done.exit_code,
    )


def compose_job(
    goal: Goal, policy: Policy, environment: Mapping[str, str], check_seconds: int, deployment: str | None
) -> str:
    """Write the job that activates, with all that it has to know. It runs on the machine without the controller.

    :param environment: variables for the switch. They go into this file, which only root can read: the environment of
        a unit can be read by every user.
    :param check_seconds: for how long the health checks may take.
    """
    settings = {
        "job_action": goal.action,
        "job_new": goal.toplevel,
        "job_profile": goal.profile,
        "job_generation": str(goal.generation or ""),
        "job_deployment": deployment or "-",
        "job_rollback": "auto" if policy.rollback else "never",
        "job_failed_units": policy.failed_units,
        "job_switch_seconds": str(policy.switch_timeout),
        "job_boot_seconds": str(policy.boot_timeout),
        "job_seconds": str(policy.confirm_timeout),
        "job_check_seconds": str(check_seconds),
        "job_reboot": policy.reboot,
        "job_reboot_seconds": str(policy.reboot_timeout),
        "job_keep_keys": "yes" if policy.keeps_keys else "no",
    }
    # Our own variables come last, so that the user's can't replace them.
    return "\n".join([export(environment), *map(script, _PARTS_OF_JOB), assign(settings), script(_JOB)])


def _follow_reboot(
    machine: Machine,
    goal: Goal,
    policy: Policy,
    access: Access,
    before: Standing,
    ended: jobs.Ended,
    answers: _Acknowledgements,
    on_line: LineSink,
) -> Activation:
    """Wait for a machine that reboots, and acknowledge the boot."""
    came = reboot.await_boot(
        machine,
        goal.toplevel,
        before,
        profile=goal.profile,
        timeout=policy.reboot_timeout,
        since=answers.rebooting or time.monotonic(),
        boots_back=answers.rebooting is None or answers.trial == goal.toplevel,
        confirm=access.confirm_boot,
        check=access.check,
        arrive=access.arrive,
        on_line=on_line,
    )
    done = Activation(
        goal.toplevel,
        goal.action,
        before,
        came.after,
        0 if came.what_failed is None else None,
        "reboot",
        read_units(ended.log),
        ended.log,
        "reboot" if came.booted_back else "no",
        came.unhealthy,
        {},
        came.what_failed is None,
    )
    if came.what_failed is not None:
        raise ActivationFailed(came.what_failed, done, machine)
    return done


def _read_journal(text: str) -> dict[str, tuple[str, ...]]:
    """Read lines "UNIT TEXT"."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.split("\n"):
        # An activation that an older version of the collection began writes "journal UNIT TEXT".
        unit, _space, text = line.removeprefix("journal ").partition(" ")
        if not unit:
            continue
        found[unit] = (*found.get(unit, ()), text)
    return found


def _what_failed(done: Activation, ended: jobs.Ended, cause: Exception | None, policy: Policy) -> str | None:
    """Return what failed in one sentence; None if nothing did.

    :param cause: the last error of the acknowledgement.
    """
    if ended.state == "gone":
        return "the machine was rebooted during the activation"
    back = {
        "no": "",
        "yes": ", so the machine has gone back to what ran before",
        "reboot": ", and going back failed as well, so the machine was rebooted into what ran before",
    }[done.rolled_back]
    if ended.state == "removed":
        return f"the files of the activation were removed from /run on the machine{back}"
    if ended.state == "killed":
        return f"the activation left no result: it was killed, or /run on the machine is full{back}"
    if ended.exit_code is None:
        return f"the activation was killed{back}"
    if ended.exit_code in (0, 4) and ended.step == "reboot":
        return "nobody told the machine in time to reboot, so it was not rebooted"
    if ended.exit_code == 0:
        if done.rolled_back == "no":
            return None
        if done.unhealthy:
            return f"its health checks failed{back}: {'; '.join(done.unhealthy)}"
        if getattr(cause, "exit_code", None) == _NOT_WRITTEN:
            return f"the acknowledgement could not be written to /run on the machine{back}"
        why = f": {reason(cause)}" if cause else ""
        return f"nobody got in over a new connection within {policy.confirm_timeout} seconds{back}{why}"
    if ended.exit_code == 4 and done.rolled_back == "no" and policy.failed_units == "warn":
        return None
    return _describe_exit_code(done, ended.exit_code) + back


def _describe_exit_code(activation: Activation, code: int) -> str:
    if activation.step == "reboot":
        return f"the machine could not be rebooted (exit code {code})"
    in_time = " in time" if code == 124 else ""
    if activation.step == "profile":
        return f"the profile could not be set{in_time} (exit code {code})"
    # Units that failed and are accepted (code 4) do not end the activation, but its last step is this one as well.
    if activation.step == "boot" and code != 4 and activation.after.running == activation.toplevel:
        return f"the new system runs, but its boot entry could not be written{in_time} (exit code {code})"
    if activation.step == "boot" and in_time:
        return f"its boot entry could not be written{in_time} (exit code {code})"
    gave_up = None if code in (4, 100) else _GAVE_UP.search(activation.output)
    what = f"it gave up: {gave_up[0]}" if gave_up else _EXIT_CODES.get(code, "the activation failed")
    what = f"{what} (exit code {code} of switch-to-configuration {activation.action})"
    failed = ", ".join(activation.failed_units or activation.units.failed or activation.after.failed_units)
    return f"{what}: {failed}" if code == 4 and failed else what


class ActivationFailed(OpsError):
    """An activation that failed, with all that is known of it.

    :param what: what failed, in one sentence.
    :param cause: the last error of the acknowledgement.

    The attribute ``journal`` has what the journals of failed units say beside the output, which was shown while it
    happened.
    """

    def __init__(self, what: str, activation: Activation, machine: Machine, cause: Exception | None = None) -> None:
        shown = f"{activation.output}\n"
        # switch-to-configuration shows the status of failed units, with the ends of their journals.
        said = [(unit, line) for unit, lines in activation.journal.items() for line in lines]
        self.journal = "\n".join(f"{unit} {line}" for unit, line in said if f"{line}\n" not in shown)
        super().__init__(
            what,
            machine=machine.name,
            output=f"{activation.output.rstrip()}\n{self.journal}".rstrip(),
            state=f"it {activation.after.sentence()}",
            next_step=_next_step(what, activation, cause),
            exit_code=activation.exit_code,
        )
        self.activation = activation


def _next_step(what: str, activation: Activation, cause: Exception | None) -> str:
    """Return what helps after an activation that failed.

    :param what: what failed.
    :param cause: the last error of the acknowledgement.
    """
    if "/run on the machine" in what:
        return "Free room there (df -h /run; df -i /run), and let nothing remove files of it. Then run the same again."
    if activation.unhealthy:
        return "Correct what the checks found, or the checks, and deploy again."
    if activation.rolled_back == "reboot":
        return (
            "The machine's journal tells what happened before it booted back (journalctl --boot=-1). Correct the"
            " configuration and deploy again."
        )
    if activation.exit_code is None or activation.step == "reboot":
        return "Run the same again."
    if activation.exit_code == 0:
        helps: str | None = getattr(cause, "next_step", None)
        return helps or (
            "If only the network failed, run the same again. Otherwise correct what keeps the controller out of the new"
            " system, and deploy again. See docs/troubleshooting.md#nobody-gets-in-after-the-switch"
        )
    return _next_step_of_code(activation, activation.exit_code)


def _next_step_of_code(activation: Activation, code: int) -> str:
    if activation.step in ("profile", "boot") and code == 124:
        return "The lines above end with what hangs: correct it and deploy again, or set a longer 'boot_timeout'."
    if helps := nix.what_helps(activation.output):
        return helps
    if activation.step == "profile":
        return "Read the lines above. Where its disk is full, free room (df -h /nix /var). Then run the same again."
    if activation.step == "boot" and code != 4:
        return "Read above what the boot loader said. Correct that and deploy again, or it boots the old system."
    return _NEXT_STEPS.get(code, "Read the lines above, correct the configuration and deploy again.")


_SAID = {
    "stopped": re.compile(r"^(?:would stop|stopping) the following units: (.*)$", re.MULTILINE),
    "started": re.compile(
        r"^(?:(?:would start|starting) the following units|the following new units were started): (.*)$", re.MULTILINE
    ),
    "restarted": re.compile(r"^(?:would restart|restarting) the following units: (.*)$", re.MULTILINE),
    "reloaded": re.compile(r"^(?:would reload|reloading) the following units: (.*)$", re.MULTILINE),
    "not_restarted": re.compile(r"^(?:would NOT stop|NOT restarting) the following changed units: (.*)$", re.MULTILINE),
    "failed": re.compile(r"^warning: the following units failed: (.*)$", re.MULTILINE),
}

# A job that failed: its unit need not be failed afterwards.
_FAILED_JOB = re.compile(r"^Failed to (?:start|restart|reload|stop) (\S+?\.[a-z]+)(?=: |$)", re.MULTILINE)

# Where switch-to-configuration gives up, its exit code is the number of the system's last error: 2 is not only that of
# an activation script that failed.
_GAVE_UP = re.compile(r"^(?:This is not a NixOS installation!|Could not open lock|Error: .*)$", re.MULTILINE)


def read_units(output: str) -> Units:
    """Read the units that were stopped, started and so on from the output of ``switch-to-configuration``.

    A unit that is stopped and then started counts as restarted: by default units are restarted like this
    (``stopIfChanged``).
    """
    said = {
        kind: {unit for line in pattern.findall(output) for unit in line.split(", ") if unit}
        for kind, pattern in _SAID.items()
    }
    said["failed"] |= set(_FAILED_JOB.findall(output))
    both = said["stopped"] & said["started"]
    said["restarted"] |= both
    said["stopped"] -= both
    said["started"] -= said["restarted"]
    return Units(**{kind: tuple(sorted(units)) for kind, units in said.items()})
