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

_UNTOUCHED = "nothing was touched"


def is_internal(name: str) -> bool:
    """Return whether a variable belongs to the deploy itself: to its tasks, its roles or its inventory."""
    if name.startswith(settings.PREFIX):
        return name not in settings.SETTINGS
    return name.startswith(_INTERNAL) and name not in _OF_BOTH_JOBS


def pass_on(
    toplevels: Mapping[str, str], plans: Mapping[str, str], left_out: Collection[str], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a preview passes on to the deploy, and shows to those who approve it.

    :param toplevels: the toplevel of each host of the plan.
    :param plans: what a deploy does on each of these hosts, in words.
    :param left_out: the hosts that could not be reached.
    :param extra: the extra variables of the run.
    """
    salt = secrets.token_hex(16)
    return {
        "toplevels": dict(toplevels),
        "plan": dict(plans),
        "left_out": sorted(left_out),
        "salt": salt,
        "variables": _digests(extra, salt),
    }


def check_preview(extra: Mapping[str, Any]) -> None:
    """Refuse a preview whose result was given at its launch: the deploy after it would take that for the preview's.

    :raises OpsError: if so.
    """
    if given := [name for name in (VARIABLE, NEEDED) if name in extra]:
        raise OpsError(
            f"{given[0]} is for the deploy after a preview, and was given to the preview",
            state=_UNTOUCHED,
            next_step=f"Launch it without {given[0]}. In a workflow, one preview comes before one deploy.",
        )
    _refuse_internal(extra)


def check(previewed: Any, extra: Mapping[str, Any]) -> None:
    """Refuse a deploy that would not do what an earlier job has previewed.

    :param previewed: what the preview has passed on.
    :param extra: the extra variables of the run.
    :raises OpsError: naming the variables that are not the preview's.
    """
    _refuse_internal(extra)
    before, now = _read(previewed)["variables"], _digests(extra, _read(previewed)["salt"])
    if other := sorted(name for name in {*before, *now} if before.get(name) != now.get(name)):
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
    """Return the hosts that the preview could not reach. Nobody has seen what a deploy would do there."""
    return [] if previewed is None else list(_read(previewed)["left_out"])


def check_toplevels(previewed: Any, toplevels: Mapping[str, str], state: str) -> None:
    """Refuse toplevels that were not previewed for their hosts, if there was a preview.

    :param toplevels: the toplevel of each host to deploy.
    :param state: what was done so far, for the message.
    :raises OpsError: naming them.
    """
    if previewed is None:
        return
    before = _read(previewed)["toplevels"]
    if others := [f"{host}: {one}" for host, one in sorted(toplevels.items()) if before.get(host) != one]:
        raise OpsError(
            "\n".join(["this is not what was previewed:", *others]), state=state, next_step="Preview it again."
        )


def is_valid(value: Any) -> bool:
    """Return whether a value of the variable has the form that :func:`pass_on` gives it."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("toplevels"), Mapping)
        and isinstance(value.get("left_out"), list)
        and isinstance(value.get("salt"), str)
        and isinstance(value.get("variables"), Mapping)
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


def _digests(extra: Mapping[str, Any], salt: str) -> dict[str, str]:
    # AWX shows what a job passes on, and a value may be a secret that is short enough to be guessed.
    def digest(value: Any) -> str:
        text = json.dumps(value, sort_keys=True, default=str).encode()
        return hashlib.scrypt(text, salt=salt.encode(), n=2**13, r=8, p=1, dklen=32).hex()

    return {
        name: digest(value)
        for name, value in sorted(extra.items())
        if name not in (VARIABLE, NEEDED) and not name.startswith(_OF_THE_JOB)
    }
