# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Binds a deploy to the preview that was approved before it.

In a workflow of AWX the preview passes on the variable ``deploy_previewed`` to the deploy. Variables of a launch reach
both jobs and win over everything, even over what the tasks of a deploy find and decide.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.activation import settings
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

VARIABLE = "deploy_previewed"
NEEDED = "deploy_needs_preview"

# What the variables begin with that roles and tasks of a deploy read or register, and those of the inventory.
_INTERNAL = ("prepare_", "build_", "copy_", "activate_", "keys_", "rollout_", "nix_")
# The contents of keys have no place in a preview. Both jobs may get them, from a credential.
_OF_BOTH_JOBS = ("nix_keys",)
# AWX tells each job about itself.
_OF_THE_JOB = ("awx_", "tower_")

# Variables that are no secrets under this word. They differ for each host, so their digests have to be cheap.
_PUBLIC = ("connection",)

_UNTOUCHED = "nothing was touched"


def is_internal(name: str) -> bool:
    """Return whether a variable belongs to the deploy itself: to its tasks, its roles or its inventory."""
    if name.startswith(settings.PREFIX):
        return name not in settings.SETTINGS
    return name.startswith(_INTERNAL) and name not in _OF_BOTH_JOBS


@dataclass(frozen=True)
class Deployed:
    """What a deploy does on one host.

    :param steps: what it does, as words.
    :param summary: the same for those who approve it.
    :param bound: the rest of what decides it and is in no toplevel: under a word, variables and their values.
    """

    toplevel: str
    steps: Collection[str]
    summary: str
    bound: Mapping[str, Mapping[str, Any]]


def pass_on(hosts: Mapping[str, Deployed], left_out: Collection[str], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a preview passes on to the deploy, and shows to those who approve it.

    :param hosts: what a deploy does on each host of the plan.
    :param left_out: the hosts that could not be reached, or whose system does not evaluate.
    :param extra: the extra variables of the run.
    """
    salt = secrets.token_hex(16)
    digest = _Digests(salt)
    return {
        "toplevels": {host: one.toplevel for host, one in hosts.items()},
        "plan": {host: one.summary for host, one in hosts.items()},
        "steps": {host: list(one.steps) for host, one in hosts.items()},
        "left_out": sorted(left_out),
        "salt": salt,
        "bound": {
            host: {word: digest(value, is_secret=word not in _PUBLIC) for word, value in one.bound.items()}
            for host, one in hosts.items()
        },
        "variables": {name: digest(value) for name, value in _compared(extra).items()},
    }


def check_preview(extra: Mapping[str, Any], *, is_job: bool) -> None:
    """Refuse a preview whose result was given at its launch: the deploy after it would take that for the preview's.

    :param is_job: whether this is a job of AWX, after which a deploy may follow.
    :raises OpsError: if so.
    """
    if given := [name for name in (VARIABLE, NEEDED) if name in extra]:
        raise OpsError(
            f"{given[0]} is for the deploy after a preview, and was given to the preview",
            state=_UNTOUCHED,
            next_step=f"Launch it without {given[0]}. In a workflow, one preview comes before one deploy.",
        )
    if is_job:
        _refuse_internal(extra)


def check(previewed: Any, extra: Mapping[str, Any]) -> None:
    """Refuse a deploy that would not do what an earlier job has previewed.

    :param previewed: what the preview has passed on.
    :param extra: the extra variables of the run.
    :raises OpsError: naming the variables that are not the preview's.
    """
    _refuse_internal(extra)
    found, given = _read(previewed), _compared(extra)
    before, digest = found["variables"], _Digests(found["salt"])
    if other := sorted(
        name for name in {*before, *given} if name not in given or before.get(name) != digest(given[name])
    ):
        raise OpsError(
            f"these variables are not as they were in the preview: {', '.join(other)}",
            state=_UNTOUCHED,
            next_step="Give both jobs the same extra variables, then preview again.",
        )


def missing() -> OpsError:
    """Return the error of a deploy that needs a preview and got none."""
    return OpsError(
        f"no preview has passed on what to deploy: {VARIABLE} is missing ({NEEDED})",
        state=_UNTOUCHED,
        next_step="Launch the workflow, whose preview passes it on.",
    )


def left_out(previewed: Any) -> list[str]:
    """Return the hosts that the preview left out. Nobody has seen what a deploy would do there."""
    return [] if previewed is None else list(_read(previewed)["left_out"])


def check_hosts(previewed: Any, hosts: Mapping[str, Deployed], missing: Collection[str], state: str) -> None:
    """Refuse to do something else on a host than was previewed, if there was a preview. Less is not refused.

    :param previewed: what the preview has passed on.
    :param hosts: what the deploy does on each host.
    :param missing: tells the hosts of the preview that this run does not have at all.
    :param state: what was done so far, for the message.
    :raises OpsError: naming the hosts, and what differs.
    """
    if previewed is None:
        return
    found = _read(previewed)
    digest = _Digests(found["salt"])
    others = [f"{host}: the machine is missing" for host in sorted(missing)]
    for host, one in sorted(hosts.items()):
        steps, bound = found["steps"].get(host, ()), found["bound"].get(host, {})
        if found["toplevels"].get(host) != one.toplevel:
            others.append(f"{host}: {one.toplevel}")
        elif more := [step for step in one.steps if step not in steps]:
            others.append(f"{host}: {', '.join(more)}")
        elif changed := [
            word
            for word, values in one.bound.items()
            if bound.get(word) != digest(values, is_secret=word not in _PUBLIC)
        ]:
            others.append(f"{host}: its {' and '.join(changed)} changed")
    if others:
        raise OpsError(
            "\n".join(["this is not what was previewed:", *others]), state=state, next_step="Preview it again."
        )


def previewed_hosts(previewed: Any) -> list[str]:
    """Return the hosts for which the preview shows what a deploy does."""
    return [] if previewed is None else list(_read(previewed)["toplevels"])


def is_valid(value: Any) -> bool:
    """Return whether a value of the variable has the form that :func:`pass_on` gives it."""
    return (
        isinstance(value, Mapping)
        and all(isinstance(value.get(name), Mapping) for name in ("toplevels", "steps", "bound", "variables"))
        and isinstance(value.get("left_out"), list)
        and isinstance(value.get("salt"), str)
    )


def _refuse_internal(extra: Mapping[str, Any]) -> None:
    if internal := sorted(name for name in extra if is_internal(name)):
        raise OpsError(
            f"these variables would change what is previewed: {', '.join(internal)}",
            state=_UNTOUCHED,
            next_step="Leave them out of the extra variables. The preview knows what the inventory sets.",
        )


def _read(value: Any) -> Mapping[str, Any]:
    if not is_valid(value):
        raise OpsError(
            f"{VARIABLE} is not what a preview of this collection passes on",
            state=_UNTOUCHED,
            next_step="Preview again, with the same version of the collection.",
        )
    found: Mapping[str, Any] = value
    return found


def _compared(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extra variables that a preview and its deploy have in common."""
    return {
        name: value
        for name, value in sorted(extra.items())
        if name not in (VARIABLE, NEEDED) and not name.startswith(_OF_THE_JOB)
    }


class _Digests:
    """Makes digests with a salt.

    AWX shows what a job passes on, and a value may be a secret that is short enough to be guessed.
    """

    def __init__(self, salt: str) -> None:
        self._salt = salt.encode()
        # Most hosts have the same values.
        self._known: dict[tuple[str, bool], str] = {}

    def __call__(self, value: Any, *, is_secret: bool = True) -> str:
        text = json.dumps(_canonical(value))
        if (text, is_secret) not in self._known:
            cost = 2**13 if is_secret else 2
            made = hashlib.scrypt(text.encode(), salt=self._salt, n=cost, r=8, p=1, dklen=32)
            self._known[text, is_secret] = made.hex()
        return self._known[text, is_secret]


def _canonical(value: Any) -> Any:
    """Return a value of YAML in a form that JSON has, and that does not depend on the order of keys."""
    if isinstance(value, Mapping):
        return {"mapping": sorted(([_canonical(key), _canonical(one)] for key, one in value.items()), key=json.dumps)}
    if isinstance(value, list | tuple):
        return [_canonical(one) for one in value]
    if isinstance(value, set | frozenset):
        return {"set": sorted((_canonical(one) for one in value), key=json.dumps)}
    return value if value is None or isinstance(value, str | int | float) else str(value)
