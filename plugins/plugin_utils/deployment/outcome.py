# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds the outcome of an activation to what is remembered of a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.activation.protocol import Activation
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import record as records
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Acknowledged, Activated, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Remembered


@dataclass(frozen=True)
class Outcome:
    """How an activation ended, or what a machine was found at.

    :param toplevel: the goal's toplevel.
    :param action: the goal's action.
    :param generation: the number that the profile stands at.
    :param latest: the activation that was made; None if none was needed.
    :param acknowledged: the ``address`` and ``port`` where the machine was acknowledged.
    :param previous: the last activation before, as the machine tells it.
    """

    toplevel: str
    action: str
    generation: int | None
    latest: Activated | None = None
    acknowledged: Mapping[str, Any] | None = None
    previous: Activated | None = None


@dataclass(frozen=True)
class Update:
    """A state with an outcome in it.

    :param changed: whether the state has something new although nothing was activated.
    :param writes_record: whether the machine's own record has to be written.
    """

    state: State
    changed: bool
    writes_record: bool


def update(
    state: State | None, remember: Mapping[str, Any], outcome: Outcome, *, origin: str, now: int, is_cached: bool
) -> Update:
    """Add an outcome to a state.

    :param state: the cached state; None if nothing is cached.
    :param remember: the option ``remember`` of nixos_activate.
    :param origin: who runs this, and where.
    :param now: the time in seconds since 1970.
    :param is_cached: whether the fact cache could be read.
    """
    state = state or State(remember["uuid"], remember["deployment"], remember["machine"])
    if remember["inputs"]:
        state = replace(state, inputs=Remembered(**remember["inputs"]))
    known, state = state, states.found(state, outcome.previous)
    is_found = known != state
    latest = outcome.latest and _stamp(outcome.latest, remember, state.activations, origin)
    # Without the cache nobody knows who activated the toplevel that the machine is at.
    is_adopted = latest is None and is_cached and states.is_news(state, outcome.toplevel, outcome.action)
    if is_adopted:
        latest = Activated(outcome.toplevel, outcome.action, outcome.generation, 0, now, deploy=remember["deploy"])
    if latest is not None:
        state = states.activated(state, latest, remember["members"])
    if outcome.acknowledged is not None:
        acknowledged = Acknowledged(outcome.acknowledged["address"], outcome.acknowledged["port"], now)
        state = replace(state, acknowledged=acknowledged)
    is_incomplete = not remember["recorded"] and outcome.action != "dry-activate"
    is_new = is_found or is_adopted or is_incomplete
    return Update(state, is_new, is_new or latest is not None)


def _stamp(latest: Activated, remember: Mapping[str, Any], earlier: Sequence[Activated], origin: str) -> Activated:
    """Add the deploy, the revision of the network, and who deployed it, to an activation."""
    checkout = remember["checkout"]
    # A machine that goes back is part of the deploy that it goes back to.
    of_deploy = next((one.deploy for one in earlier if one.toplevel == latest.toplevel and one.deploy), None)
    latest = replace(latest, deploy=remember["deploy"] or of_deploy)
    if checkout:
        return replace(latest, revision=checkout["revision"], modified=checkout["modified"], origin=origin)
    # A machine that goes back runs what it was deployed from before.
    same = next((one for one in earlier if one.toplevel == latest.toplevel and one.revision), None)
    if same:
        return replace(latest, revision=same.revision, modified=same.modified, origin=same.origin)
    return replace(latest, origin=origin)


def of_activation(done: Activation, action: str, uuid: str, *, now: int) -> Activated:
    """Return what is remembered of an activation that ended.

    :param action: the action that the user wanted; a machine that only has to be rebooted gets the action ``boot``.
    :param uuid: the deployment's UUID.
    :param now: the time in seconds since 1970, if the machine does not tell when the activation was.
    """
    is_there = done.toplevel == (done.after.profile if done.action == "boot" else done.after.running)
    is_back = done.rolled_back != "no" or not is_there
    new = Activated(done.toplevel, action, done.after.generation, done.exit_code, now, is_back)
    noted = records.read_last(done.after.last_activation, uuid)
    if noted is None or noted.toplevel != done.toplevel:
        return new
    # The machine's time tells this activation from others, at the next run.
    return replace(new, exit_code=noted.exit_code, time=noted.time)


def before(standing: Standing, uuid: str) -> Activated | None:
    """Return the activation before this one, as the machine told it."""
    return records.read_last(standing.last_activation, uuid)


def check_deploy(deploy: str | None) -> None:
    """Refuse what is not the id of a deploy: nobody could read the record.

    :raises OpsError: if it is not valid.
    """
    if deploy is not None and not states.DEPLOY.fullmatch(deploy):
        raise OpsError(
            f"{deploy!r} is not the id of a deploy",
            state="nothing was activated",
            next_step="Give the id that nix.ops.deployment_plan returned, or leave 'deploy' out.",
        )


def check_known(state: State | None, running: str | None, machine: str) -> None:
    """Refuse a machine that runs a system that no remembered activation has brought there.

    :param running: the toplevel that runs; None if the machine is not a NixOS machine.
    :param machine: the machine's name, for messages.
    :raises OpsError: if the toplevel is unknown.
    """
    if running is None or running in [one.toplevel for one in (state.activations if state else ())]:
        return
    raise OpsError(
        f"the machine runs {running}, which no remembered activation has brought there",
        machine=machine,
        state="nothing was activated",
        next_step="Find out who deployed it. To replace it all the same, set 'replace_unknown' to true.",
    )
