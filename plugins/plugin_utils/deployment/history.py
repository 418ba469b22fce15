# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The earlier deploys of a deployment's machines, and what each machine goes back to.

A deploy has an id that its machines share. It is in the activations that each machine has recorded. A machine that goes
back is part of the deploy that it goes back to.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import DEPLOY, Activated, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Generation, Standing

_NUMBER = re.compile("[0-9]{1,9}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ID_TIME = "%Y%m%d-%H%M%S"

# How many generations of a machine a message names.
_NAMED = 20

_UNTOUCHED = "nothing was touched"
_SHOW = "nix.ops.generations shows what each machine can go back to."


def new_id(now: float) -> str:
    """Return the id of a deploy that begins now.

    :param now: in seconds since 1970.
    """
    return f"{time.strftime(_ID_TIME, time.gmtime(now))}-{secrets.token_hex(2)}"


@dataclass(frozen=True)
class Past:
    """What a machine may go back to.

    :param standing: what it runs and boots.
    :param activations: its recorded activations, the latest first.
    :param generations: the generations of its profile.
    :param kept: its toplevels that the controller keeps.
    """

    standing: Standing
    activations: tuple[Activated, ...] = ()
    generations: tuple[Generation, ...] = ()
    kept: frozenset[str] = frozenset()

    @property
    def stayed(self) -> list[Activated]:
        """The activations after which the machine booted the toplevel, the latest first."""
        return [one for one in self.activations if not one.rolled_back and one.action != "test"]

    @property
    def line(self) -> list[Activated]:
        """The activations that led to what it boots, the earliest first, without those that were undone."""
        found: list[Activated] = []
        for one in reversed(self.stayed):
            known = [(earlier.deploy, earlier.toplevel) for earlier in found]
            if one.deploy and (one.deploy, one.toplevel) in known:
                del found[known.index((one.deploy, one.toplevel)) + 1 :]
            elif found and found[-1].toplevel == one.toplevel:
                found[-1] = one
            else:
                found.append(one)
        return found

    @property
    def deploy(self) -> str | None:
        """The deploy that made what the machine boots; None if that is not known."""
        return self.deploy_of(self.standing.profile)

    def deploy_of(self, toplevel: str | None) -> str | None:
        """Return the latest deploy of a toplevel; None if that is not known."""
        return next((one.deploy for one in self.stayed if one.toplevel == toplevel and one.deploy), None)

    def generation_of(self, toplevel: str) -> Generation | None:
        """Return the generation of a toplevel, the newest of several, but the current one before all."""
        found = [one for one in self.generations if one.toplevel == toplevel]
        return max(found, key=lambda one: (one.number == self.standing.generation, one.number), default=None)


@dataclass(frozen=True)
class Target:
    """What a machine goes back to.

    :param generation: its generation; None if it is not one any more.
    :param deploy: the deploy that made it; None if that is not known.
    """

    toplevel: str
    generation: Generation | None = None
    deploy: str | None = None

    def __str__(self) -> str:
        number = f"generation {self.generation.number}" if self.generation else "the system that the controller keeps"
        made = f", {moment(self.generation.created)}" if self.generation else ""
        return f"{number}{made}" + (f", deploy {self.deploy}" if self.deploy else "")


@dataclass(frozen=True)
class Choice:
    """What each machine goes back to.

    :param targets: by host.
    :param stays: the hosts that stay as they are, each with the reason.
    """

    targets: Mapping[str, Target]
    stays: Mapping[str, str] = field(default_factory=dict)


class _Missing(Exception):
    """A machine has nothing to go back to."""


# Finds what a machine goes back to. The generation may be left out.
_Find = Callable[[Past], Target]


def past_of(found: Mapping[str, Any], state: State | None, standing: Standing, kept: frozenset[str]) -> Past:
    """Return what a machine may go back to.

    :param found: the result of ``deployment_prepare``.
    :param state: the state in it.
    """
    generations = [one for one in description.generations_of(found) if nix.STORE_PATH.fullmatch(one.toplevel)]
    return Past(standing, state.activations if state else (), tuple(generations), kept)


def check(to: str) -> None:
    """Refuse what can't be gone back to, before any machine is asked.

    :raises OpsError: if it is neither of these words nor a date.
    """
    if to != "previous" and not any(one.fullmatch(to) for one in (_NUMBER, nix.STORE_PATH, DEPLOY)):
        _read_date(to)


def choose(to: str, pasts: Mapping[str, Past]) -> Choice:
    """Choose what each machine goes back to.

    :param to: ``previous``, the number of a generation, a toplevel, the id of a deploy, or a date.
    :param pasts: by host.
    :raises OpsError: if it is none of these, or a machine has nothing of it any more.
    """
    if to == "previous":
        return _previous(pasts)
    if _NUMBER.fullmatch(to) or nix.STORE_PATH.fullmatch(to):
        if len(pasts) > 1:
            what = "a generation" if _NUMBER.fullmatch(to) else "a system"
            raise OpsError(
                f"{to} is {what} of one machine, and {len(pasts)} machines are chosen",
                state=_UNTOUCHED,
                next_step=f"Choose one of {', '.join(pasts)} with --limit, or give the id of a deploy, or a date.",
            )
        return Choice(_find_all(pasts, partial(_numbered if _NUMBER.fullmatch(to) else _named, to)))
    if DEPLOY.fullmatch(to):
        return _of_deploy(to, pasts)
    return Choice(_find_all(pasts, partial(_at, _read_date(to))))


def _previous(pasts: Mapping[str, Past]) -> Choice:
    """Undo the latest deploy of these machines. The machines that were no part of it stay."""
    current = {host: past.deploy for host, past in pasts.items()}
    latest = max((one for one in current.values() if one), default=None)
    stays = {host: f"was no part of the deploy {latest}" for host, deploy in current.items() if deploy != latest}
    return Choice(_find_all({host: past for host, past in pasts.items() if host not in stays}, _before), stays)


def _of_deploy(deploy: str, pasts: Mapping[str, Past]) -> Choice:
    known = {one.deploy for past in pasts.values() for one in past.activations if one.deploy}
    if deploy not in known:
        raise OpsError(
            f"no machine remembers the deploy {deploy}",
            state=_UNTOUCHED,
            next_step=f"Deploys that are remembered: {', '.join(sorted(known, reverse=True)) or 'none'}. {_SHOW}",
        )
    return Choice(_find_all(pasts, partial(_as_of, deploy)))


def _find_all(pasts: Mapping[str, Past], find: _Find) -> dict[str, Target]:
    targets, problems = {}, []
    for host, past in pasts.items():
        try:
            targets[host] = _complete(past, find(past))
        except _Missing as missing:
            there = [f"  {Target(one.toplevel, one, past.deploy_of(one.toplevel))}" for one in past.generations]
            problems += [f"{host}: {missing}; it has", *there[: -_NAMED - 1 : -1]]
    if problems:
        raise OpsError(
            "machines can't go back as you say",
            output="\n".join(problems),
            state=_UNTOUCHED,
            next_step=f"Choose something else by rollback_to, or leave machines out with --limit. {_SHOW}",
        )
    return targets


def _complete(past: Past, target: Target) -> Target:
    """Return a target with its generation.

    :raises _Missing: if neither the machine nor the controller has it any more.
    """
    if target.generation is not None:
        return target
    generation = past.generation_of(target.toplevel)
    if generation is None and target.toplevel not in (past.standing.running, past.standing.booted, *past.kept):
        raise _Missing(f"{target.toplevel} is not there any more")
    return replace(target, generation=generation)


def _before(past: Past) -> Target:
    now, line = past.standing.profile, past.line
    at = max((number for number, one in enumerate(line) if one.toplevel == now), default=None)
    # What it boots now may be of nobody here.
    if earlier := line[:at]:
        return _activated(earlier[-1])
    number = past.standing.generation or 0
    # What is recorded has been undone, or it would be in the line.
    known = {now, *(one.toplevel for one in past.stayed)}
    older = [one for one in past.generations if one.number < number and one.toplevel not in known]
    if not older:
        raise _Missing("it has no earlier system")
    return _generation(past, max(older, key=lambda one: one.number))


def _activated(one: Activated) -> Target:
    return Target(one.toplevel, deploy=one.deploy)


def _generation(past: Past, one: Generation) -> Target:
    return Target(one.toplevel, one, past.deploy_of(one.toplevel))


def _numbered(number: str, past: Past) -> Target:
    for one in past.generations:
        if one.number == int(number):
            return _generation(past, one)
    raise _Missing(f"it has no generation {number}")


def _named(toplevel: str, past: Past) -> Target:
    return Target(toplevel, deploy=past.deploy_of(toplevel))


def _as_of(deploy: str, past: Past) -> Target:
    """Return what a machine booted after a deploy, also if it was no part of it."""
    for one in past.stayed:
        if one.deploy == deploy:
            return _activated(one)
    return _at(_time_of(deploy), past)


def _at(when: float, past: Past) -> Target:
    """Return what a machine booted at a time.

    :param when: in seconds since 1970.
    """
    for number, one in enumerate(past.stayed):
        if _began(one, past.stayed[number + 1 :]) <= when:
            return _activated(one)
    older = [one for one in past.generations if one.created <= when]
    if not older:
        raise _Missing(f"nothing is known of it at {moment(when)}")
    return _generation(past, max(older, key=lambda one: (one.created, one.number)))


def _began(one: Activated, earlier: Sequence[Activated]) -> float:
    """Return when an activation was, by the controller's clock if that is known."""
    is_first = one.deploy not in [other.deploy for other in earlier]
    return _time_of(one.deploy) if one.deploy and is_first else one.time


def _time_of(deploy: str) -> float:
    """Return when a deploy began.

    :raises _Missing: if its id has no valid time.
    """
    try:
        return datetime.strptime(deploy[:15], _ID_TIME).replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise _Missing(f"{deploy} is not the id of a deploy") from error


def _read_date(text: str) -> float:
    """Read a date. Without a time it is the end of the day, and without a zone that of the controller.

    :raises OpsError: if it is not valid.
    """
    try:
        read = datetime.fromisoformat(text).astimezone()
        if _DAY.fullmatch(text):
            read = (datetime.fromisoformat(text) + timedelta(days=1)).astimezone()
    except (ValueError, OverflowError, OSError) as error:
        raise OpsError(
            f"rollback_to is {text!r}, and has to be previous, the number of a generation, a toplevel, the id of a"
            " deploy, or a date such as 2026-11-22 or '2026-11-22 16:55'",
            state=_UNTOUCHED,
            next_step=f"Correct rollback_to. {_SHOW}",
        ) from error
    return read.timestamp()


def moment(seconds: float) -> str:
    """Return a time as tables show it, by the controller's clock.

    :param seconds: in seconds since 1970.
    """
    return datetime.fromtimestamp(seconds).isoformat(" ", "minutes")


def protected(past: Past) -> set[str]:
    """Return the toplevels that a machine may need to go back to: the one before what it boots."""
    try:
        return {_before(past).toplevel}
    except _Missing:
        return set()


@dataclass(frozen=True)
class Deploy:
    """A deploy that machines remember.

    :param machines: the hosts that it activated a system on.
    :param revision: the Git commit of its network; None if it is not known.
    """

    id: str
    machines: tuple[str, ...]
    revision: str | None = None
    modified: bool = False
    origin: str | None = None


def deploys(pasts: Mapping[str, Past]) -> list[Deploy]:
    """Return the deploys that machines remember, the latest first."""
    found: dict[str, Deploy] = {}
    for host, past in pasts.items():
        for one in past.stayed:
            if one.deploy is None:
                continue
            new = Deploy(one.deploy, (), one.revision, one.modified, one.origin)
            known = found.setdefault(one.deploy, new)
            if host not in known.machines:
                found[one.deploy] = replace(known, machines=(*known.machines, host))
    return sorted(found.values(), key=lambda one: one.id, reverse=True)
