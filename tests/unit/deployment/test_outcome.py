# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of an activation, and of a machine that needed none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.activation.protocol import Activation, Units
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.outcome import (
    Outcome,
    check_known,
    of_activation,
    update,
)
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Acknowledged, Activated, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Remembered

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
OLD, NEW = (f"/nix/store/{letter * 32}-nixos-system-target" for letter in "ab")
REMEMBER = {
    "uuid": UUID,
    "deployment": "example",
    "machine": "target",
    "inputs": {"state_version": "24.05", "ssh_public_key": None},
    "members": ["target", "other"],
    "recorded": True,
    "checkout": {"revision": "a" * 40, "modified": True},
    "deploy": None,
}
STATE = State(UUID, "example", "target", Remembered("24.05"), 1, (Activated(OLD, "switch", 1, 0, 10),))


def updated(outcome, state=STATE, *, is_cached=True, **remember):
    return update(state, REMEMBER | remember, outcome, origin="alice@laptop", now=99, is_cached=is_cached)


def of_checkout(one):
    """An activation as it is remembered."""
    return replace(one, revision="a" * 40, modified=True, origin="alice@laptop")


def test_an_activation_is_added():
    latest = Activated(NEW, "switch", 2, 0, 50)
    found = updated(Outcome(NEW, "switch", 2, latest, {"address": "target.example.org", "port": 22}))
    assert found.state.activations == (of_checkout(latest), *STATE.activations)
    assert found.state.acknowledged == Acknowledged("target.example.org", 22, 99)
    assert found.state.members == ("target", "other")
    # The result of the activation tells by itself whether it has changed anything.
    assert (found.changed, found.writes_record) == (False, True)


def test_an_earlier_activation_that_no_run_has_recorded_is_added_before():
    lost = Activated(NEW, "switch", None, 0, 40, rolled_back=True)
    latest = Activated(NEW, "switch", 2, 0, 50)
    found = updated(Outcome(NEW, "switch", 2, latest, previous=lost))
    assert found.state.activations == (of_checkout(latest), lost, *STATE.activations)
    found = updated(Outcome(OLD, "switch", 1, previous=lost))
    assert found.state.activations == (lost, *STATE.activations)
    assert (found.changed, found.writes_record) == (True, True)
    assert not updated(Outcome(OLD, "switch", 1, previous=STATE.deployed)).writes_record


def ended(action: str = "switch", **other: Any) -> Activation:
    """An activation of the new system that ended."""
    before = Standing(OLD, OLD, OLD, 1, OLD)
    after = other.pop("after", Standing(NEW, OLD, NEW, 2, NEW, last_activation=f"{UUID} {NEW} {action} 0 50 no"))
    rest: dict[str, Any] = {"exit_code": 0, "step": "boot", "units": Units(), "output": "", **other}
    return Activation(NEW, action, before, after, **rest)


def test_an_activation_has_the_time_by_which_the_machine_knows_it():
    assert of_activation(ended(), "switch", UUID, now=99) == Activated(NEW, "switch", 2, 0, 50)
    # The machine was only to be rebooted.
    assert of_activation(ended("boot"), "switch", UUID, now=99) == Activated(NEW, "switch", 2, 0, 50)
    for line in (None, f"{UUID} {OLD} switch 0 50 no", f"- {NEW} switch 0 50 no"):
        after = replace(ended().after, last_activation=line)
        assert of_activation(ended(after=after), "switch", UUID, now=99).time == 99


def test_an_activation_that_failed_says_whether_the_machine_is_where_it_was():
    after = replace(ended().after, last_activation=f"{UUID} {NEW} switch 4 50 no")
    failed = of_activation(ended(after=after, exit_code=4), "switch", UUID, now=99)
    assert (failed.exit_code, failed.rolled_back) == (4, False)
    # The switch was good, and the machine has booted back.
    assert of_activation(ended(exit_code=None), "switch", UUID, now=99).exit_code == 0
    assert of_activation(ended(rolled_back="reboot"), "switch", UUID, now=99).rolled_back
    refused = Standing(OLD, OLD, OLD, 1, OLD)
    for action in ("switch", "test", "boot"):
        assert of_activation(ended(action, after=refused, exit_code=100), action, UUID, now=99).rolled_back
    # The profile was set, and the boot loader failed.
    boots = replace(refused, profile=NEW, generation=2)
    assert not of_activation(ended("boot", after=boots, exit_code=1), "boot", UUID, now=99).rolled_back


def test_a_machine_that_goes_back_runs_an_earlier_revision():
    earlier = replace(STATE.activations[0], revision="b" * 40, origin="bob@desk")
    latest = Activated(OLD, "switch", 1, 0, 50)
    found = updated(Outcome(OLD, "switch", 1, latest), replace(STATE, activations=(earlier,)), checkout=None)
    assert found.state.activations[0] == replace(latest, revision="b" * 40, origin="bob@desk")
    found = updated(Outcome(NEW, "switch", 1, Activated(NEW, "switch", 1, 0, 50)), checkout=None)
    assert (found.state.activations[0].revision, found.state.activations[0].origin) == (None, "alice@laptop")


def test_the_machines_of_a_deploy_share_its_id():
    mine, earlier = "20261122-165500-a1b2", "20261121-120000-0000"
    latest = Activated(NEW, "switch", 2, 0, 50)
    assert updated(Outcome(NEW, "switch", 2, latest), deploy=mine).state.activations[0].deploy == mine
    assert updated(Outcome(NEW, "switch", 2), deploy=mine).state.activations[0].deploy == mine
    # A machine that goes back is part of the deploy that it goes back to.
    known = replace(STATE, activations=(replace(STATE.activations[0], deploy=earlier),))
    back = Outcome(OLD, "switch", 1, Activated(OLD, "switch", 1, 0, 50))
    assert updated(back, known).state.activations[0].deploy == earlier
    assert updated(back, known, deploy=mine).state.activations[0].deploy == mine


def test_nothing_new_is_not_written():
    found = updated(Outcome(OLD, "switch", 1))
    assert found.state == STATE
    assert (found.changed, found.writes_record) == (False, False)


def test_a_system_of_somebody_else_is_adopted():
    found = updated(Outcome(NEW, "switch", 2))
    assert found.state.deployed == Activated(NEW, "switch", 2, 0, 99)
    assert (found.changed, found.writes_record) == (True, True)


def test_nothing_is_adopted_while_the_cache_is_gone():
    found = updated(Outcome(NEW, "switch", 2), None, is_cached=False)
    assert found.state.activations == ()
    assert (found.changed, found.writes_record) == (False, False)


@pytest.mark.parametrize(("action", "writes"), [("switch", True), ("boot", True), ("dry-activate", False)])
def test_a_record_that_is_incomplete_is_written(action, writes):
    found = updated(Outcome(OLD, action, 1), recorded=False)
    assert (found.changed, found.writes_record) == (writes, writes)


def test_the_first_state_of_a_machine():
    found = updated(Outcome(OLD, "switch", 1, Activated(OLD, "switch", 1, 0, 10)), None)
    activations = tuple(map(of_checkout, STATE.activations))
    assert found.state == replace(STATE, revision=0, activations=activations, members=("target", "other"))


def test_inputs_that_were_not_told_are_kept():
    assert updated(Outcome(OLD, "switch", 1), inputs={}).state.inputs == STATE.inputs
    new = {"state_version": "24.05", "ssh_public_key": "ssh-ed25519 AAAA"}
    assert updated(Outcome(OLD, "switch", 1), inputs=new).state.inputs == Remembered(**new)


def test_an_unknown_system_is_not_replaced():
    check_known(STATE, OLD, "target")
    check_known(STATE, None, "target")
    for state in (STATE, None):
        with pytest.raises(OpsError, match=NEW) as refused:
            check_known(state, NEW, "target")
        assert "State: nothing was activated" in str(refused.value)
