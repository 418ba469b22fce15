# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the plan of a rollout: what a deploy does on each machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import SYSTEM_PROFILE
from ansible_collections.nix.ops.plugins.plugin_utils.activation.decision import Decision, decide
from ansible_collections.nix.ops.plugins.plugin_utils.activation.protocol import Goal
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing


@dataclass(frozen=True)
class Wish:
    """What the user wants of a machine.

    :param toplevel: the toplevel that was built for the machine.
    :param action: ``switch``, ``boot``, ``test`` or ``dry-activate``.
    :param reboot: ``never``, ``when_needed`` or ``always``.
    :param force: whether to activate the toplevel even if the machine is up to date.
    :param specialisation: the name of the specialisation that runs instead of the toplevel; empty for none.
    :param runs: the specialisation's own toplevel, if it is known.
    """

    toplevel: str
    action: str = "switch"
    reboot: str = "never"
    force: bool = False
    specialisation: str = ""
    runs: str | None = None


@dataclass(frozen=True)
class Found:
    """What is known about a machine.

    :param activating: whether an activation runs on the machine.
    :param reboot_parts: the parts of the toplevel that differ from the booted ones and need a reboot.
    :param known: the toplevels in the recorded activations of the machine.
    :param recorded: whether the machine's record is complete.
    :param keys: ``keys`` if its keys differ, ``keys?`` if that is not known, otherwise empty.
    :param generations: the toplevels of its generations.
    """

    standing: Standing
    activating: bool = False
    reboot_parts: tuple[str, ...] = ()
    known: Collection[str] = ()
    recorded: bool = True
    keys: str = ""
    generations: Collection[str] = ()


@dataclass(frozen=True)
class Need:
    """What a deploy does on one machine.

    :param copy: whether the toplevel's closure is copied.
    :param action: how the toplevel is activated; None if it is not.
    :param reboot: the parts that need a reboot; ``all`` if the machine reboots for another reason.
    :param reasons: other reasons for a deploy than a new toplevel.
    :param keys: ``keys`` if keys are sent or removed, ``keys?`` if they are compared first, otherwise empty.
    """

    toplevel: str
    copy: bool = False
    action: str | None = None
    reboot: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    keys: str = ""

    def __bool__(self) -> bool:
        return bool(self.copy or self.action or self.reboot or self.reasons or self.keys)

    @property
    def steps(self) -> list[str]:
        """What is done to the machine, without the reasons."""
        steps = ["copy"] if self.copy else []
        steps += [self.action] if self.action else []
        steps += ["keys"] if self.keys else []
        return [*steps, "reboot"] if self.reboot else steps

    def summary(self) -> str:
        """Return a short description for the user."""
        if not self:
            return "nothing"
        shown = {"reboot": f"reboot ({', '.join(self.reboot)})", "keys": self.keys}
        done = [shown.get(one, one) for one in self.steps]
        return ", ".join([*done, *self.reasons])


def need(wish: Wish, found: Found) -> Need:
    """Decide what a deploy does on a machine."""
    standing = found.standing
    copies = wish.toplevel not in (standing.running, standing.profile, *found.generations)
    if wish.action == "dry-activate":
        return Need(wish.toplevel, copies, wish.action)
    if wish.specialisation:
        return _specialised(wish, found, copies)
    goal = Goal(wish.toplevel, wish.action, SYSTEM_PROFILE)
    decided = decide(standing, goal, force=wish.force, is_activating=found.activating, reboot=wish.reboot)
    activates = decided.goal is not None and not decided.only_reboots
    return Need(
        toplevel=wish.toplevel,
        copy=copies,
        action=wish.action if activates else None,
        reboot=_reboot(wish, found, decided),
        reasons=tuple(_reasons(wish, found, activates)),
        keys=found.keys,
    )


def _specialised(wish: Wish, found: Found, copies: bool) -> Need:
    """Decide what a machine needs to run a specialisation, and to boot its system."""
    standing = found.standing
    runs = wish.runs is not None and standing.stands_at(wish.runs, "test")
    settled = runs and (wish.action == "test" or standing.stands_at(wish.toplevel, "boot"))
    activates = wish.force or found.activating or not settled
    reasons = [f"specialisation {wish.specialisation}"] if activates else []
    if not activates and (not found.recorded or (wish.action == "switch" and wish.toplevel not in found.known)):
        reasons = ["write the record"]
    return Need(wish.toplevel, copies, wish.action if activates else None, (), tuple(reasons), found.keys)


def leave_out(need: Need, *, copies: bool, activates: bool) -> Need:
    """Leave out of a need what the tags of the run leave out.

    :param copies: whether the run copies closures.
    :param activates: whether the run activates toplevels.
    """
    left = replace(need, copy=need.copy and copies)
    if activates or not need:
        return left
    # Without a reason, a machine that is not up to date could look as if it needed nothing.
    return replace(left, action=None, reboot=(), keys="", reasons=("without its activation",))


def _reboot(wish: Wish, found: Found, decided: Decision) -> tuple[str, ...]:
    if decided.goal is None or decided.reboot == "never":
        return ()
    # With boot, the toplevel runs only after a reboot.
    waits = wish.action == "boot" and found.standing.running != wish.toplevel
    return found.reboot_parts or (("all",) if decided.reboot == "always" or waits else ())


def _reasons(wish: Wish, found: Found, activates: bool) -> list[str]:
    reasons = []
    if found.standing.on_trial:
        reasons.append("acknowledge the booted system")
    if found.activating:
        reasons.append("an activation is running")
    elif found.standing.boot_unfinished:
        reasons.append("boot entry is missing")
    elif wish.force and found.standing.stands_at(wish.toplevel, wish.action):
        reasons.append("alwaysActivate")
    if not activates and (not found.recorded or wish.toplevel not in found.known):
        reasons.append("write the record")
    return reasons


@dataclass(frozen=True)
class Ending:
    """The outcome of a batch.

    :param failed: the machines that failed or could not be reached.
    :param ends: whether the rollout ends with this batch.
    :param goes_back: the machines that go back to what they ran before.
    :param stays_deployed: the machines that were activated and stay.
    :param untouched: the machines that were not activated yet.
    """

    failed: tuple[str, ...] = ()
    ends: bool = False
    goes_back: tuple[str, ...] = ()
    stays_deployed: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()


def ending(
    batch: Sequence[str],
    run: Sequence[str],
    failed: Collection[str],
    activated: Callable[[str], bool],
    *,
    allowed: float,
    fatal: bool,
    revert: str,
) -> Ending:
    """Decide whether a rollout ends with a batch, by the rule of Ansible's max_fail_percentage and any_errors_fatal.

    :param batch: the machines of the batch.
    :param run: all machines of the rollout.
    :param failed: the machines of the batch that failed or could not be reached.
    :param activated: returns whether a machine was activated and changed. Called only if the rollout ends.
    :param allowed: the percentage of a batch that may fail.
    :param fatal: whether one failure ends the rollout.
    :param revert: which machines go back if the rollout ends: ``batch``, ``run`` or ``never``.
    """
    down = tuple(host for host in batch if host in failed)
    share = 100 * len(down) / len(batch) if batch else 0
    if not down or not (fatal or len(down) == len(batch) or share > allowed):
        return Ending(down)
    switched = [host for host in run if host not in down and activated(host)]
    back = {"run": switched, "batch": [host for host in switched if host in batch]}.get(revert, [])
    return Ending(
        failed=down,
        ends=True,
        goes_back=tuple(back),
        stays_deployed=tuple(host for host in switched if host not in back),
        untouched=tuple(host for host in run if host not in down and host not in switched),
    )


def batch_number(batch: Collection[str], hosts: Sequence[str], serial: Sequence[int | str]) -> tuple[int, int]:
    """Return the number of a batch, and how many there are.

    :param batch: machines of the batch.
    :param hosts: all machines of the rollout.
    :param serial: the sizes of the batches, as Ansible takes them: numbers or percentages, of which the last repeats.
    """
    begin, number, count = 0, 1, 0
    while begin < len(hosts):
        size = str(serial[min(count, len(serial) - 1)]) if serial else "100%"
        taken = int(float(size[:-1]) / 100 * len(hosts)) or 1 if size.endswith("%") else int(size)
        end = begin + taken if taken > 0 else len(hosts)
        count += 1
        if not set(hosts[begin:end]).isdisjoint(batch):
            number = count
        begin = end
    return number, count


def outcome(
    need: Need | None, result: Mapping[str, Any], *, standing: Standing | None = None, reverted: bool = False
) -> str:
    """Return the outcome of a machine as one line.

    :param need: the machine's part of the plan; None if it has none.
    :param result: the result of the role activate; empty if the role was not run.
    :param standing: what ran and booted before; None if it is not known.
    :param reverted: whether the machine was taken back.
    """
    if reverted:
        return "runs and boots again what it did before this deploy"
    if need is not None and not need:
        return f"up to date{_what_waits(need, standing)}"
    if not result or result.get("skipped"):
        return "not activated"
    if result.get("failed") or result.get("unreachable"):
        return "failed"
    toplevel, action = result.get("toplevel"), result.get("action")
    rebooted = ", rebooted" if result.get("rebooted") else ""
    if action not in ("switch", "boot"):
        # The profile stays at another system's generation.
        return f"{'runs' if action == 'test' else 'would run'} {toplevel}{rebooted}"
    generation = f", generation {result['generation']}" if result.get("generation") is not None else ""
    does = "runs and boots" if action == "switch" else "boots next"
    if result.get("specialisation"):
        does = f"runs the specialisation {result['specialisation']} of, and boots,"
    return f"{does} {toplevel}{generation}{rebooted}{_reboot_wanted(result.get('reboot_parts') or ())}"


def _what_waits(need: Need, standing: Standing | None) -> str:
    """Say what a machine that is up to date needs all the same."""
    if standing is None:
        return ""
    waits = f"; runs {standing.running} until it reboots" if standing.running != need.toplevel else ""
    return waits + _reboot_wanted(standing.reboot_parts)


def _reboot_wanted(parts: Sequence[str]) -> str:
    return f"; needs a reboot for: {', '.join(parts)}" if parts else ""
