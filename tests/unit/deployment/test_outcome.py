# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of an activation, and of a machine that needed none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment.outcome import Outcome, check_known, update
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Acknowledged, Activated, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
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
}
STATE = State(UUID, "example", "target", Remembered("24.05"), 1, (Activated(OLD, "switch", 1, 0, 10),))


def updated(outcome, state=STATE, *, is_cached=True, **remember):
    return update(state, REMEMBER | remember, outcome, now=99, is_cached=is_cached)


def test_an_activation_is_added():
    latest = Activated(NEW, "switch", 2, 0, 50)
    found = updated(Outcome(NEW, "switch", 2, latest, {"address": "target.example.org", "port": 22}))
    assert found.state.activations == (latest, *STATE.activations)
    assert found.state.acknowledged == Acknowledged("target.example.org", 22, 99)
    assert found.state.members == ("target", "other")
    # The result of the activation tells by itself whether it has changed anything.
    assert (found.changed, found.writes_record) == (False, True)


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
    assert found.state == replace(STATE, revision=0, members=("target", "other"))


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
