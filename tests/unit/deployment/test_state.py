# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of a machine: read from what can't be trusted, and put together from two places."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import record as records
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import (
    Acknowledged,
    Activated,
    DamagedState,
    State,
    Status,
)
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Remembered

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJvOb0Q6cGJqK5Wn3v3m5v1zq0uPq2bR0pGQbW1xY2Zs nix.ops key of target in example"
)


def toplevel(name):
    return f"/nix/store/{name[0] * 32}-nixos-system-{name}"


def activation(name, time=1, exit_code=0):
    return Activated(toplevel(name), "switch", 2, exit_code, time)


STATE = State(
    UUID,
    "example",
    "target",
    inputs=Remembered("24.05", KEY),
    revision=3,
    activations=(activation("b", time=20), activation("a", time=10)),
    acknowledged=Acknowledged("target.example.org", 22, 20),
    members=("target", "beta"),
)


def written(state=STATE):
    """What another process reads of it."""
    return json.loads(json.dumps(states.as_json(state)))


def test_what_is_written_is_read_back():
    assert states.read(written(), UUID) == STATE
    assert states.read(written(State(UUID, "example", "target")), UUID) == State(UUID, "example", "target")
    assert states.read(None, UUID) is None


def test_a_deploy_has_an_id_since_later():
    deployed = replace(STATE, activations=(replace(STATE.activations[0], deploy="20261122-165500-a1b2"),))
    assert states.read(written(deployed), UUID) == deployed
    document = written()
    del document["activations"][0]["deploy"]
    assert states.read(document, UUID) == STATE
    document["activations"][0]["deploy"] = "../../etc"
    with pytest.raises(DamagedState, match="deploy"):
        states.read(document, UUID)


def test_it_holds_no_secret():
    assert set(written()) == {
        "schema",
        "uuid",
        "deployment",
        "machine",
        "inputs",
        "revision",
        "activations",
        "acknowledged",
        "members",
    }


def test_a_newer_schema_is_refused_by_name():
    with pytest.raises(OpsError, match=r"a newer nix\.ops") as refused:
        states.read({"schema": states.SCHEMA + 1, "whatever": "a newer one has"}, UUID)
    assert not isinstance(refused.value, DamagedState)
    assert "Upgrade" in str(refused.value)


@pytest.mark.parametrize(
    "damage",
    [
        {"schema": None},
        {"schema": True},
        {"schema": "1"},
        {"uuid": "another"},
        {"deployment": "../../etc"},
        {"deployment": None},
        {"machine": "a b"},
        {"machine": "x" * 300},
        {"inputs": None},
        {"inputs": {"state_version": '24.05"; evil'}},
        {"inputs": {"state_version": 24.05}},
        {"inputs": {"ssh_public_key": f"{KEY}\nssh-ed25519 another"}},
        {"inputs": {"ssh_public_key": f'command="evil" {KEY}'}},
        {"inputs": {"ssh_public_key": "ssh-ed25519 short"}},
        {"revision": -1},
        {"revision": 1.5},
        {"revision": True},
        {"revision": 10**30},
        {"activations": {}},
        {"activations": ["one"]},
        {"activations": [{**written()["activations"][0], "toplevel": "/etc/passwd"}]},
        {"activations": written()["activations"] * 30},
        {"activations": [{**written()["activations"][0], "rolled_back": "no"}]},
        {"activations": [{**written()["activations"][0], "time": states.LATEST + 1}]},
        {"acknowledged": "target.example.org"},
        {"acknowledged": {"address": "-oProxyCommand=evil", "port": 22, "time": 1}},
        {"acknowledged": {"address": "target", "port": 70000, "time": 1}},
        {"acknowledged": {"address": "target", "port": "22", "time": 1}},
        {"acknowledged": {"address": "target", "port": 22, "time": states.LATEST + 1}},
        {"members": ["a", 1]},
        {"members": ["a b"]},
        {"members": ["a"] * 501},
    ],
)
def test_what_is_not_as_it_should_be_is_damaged(damage):
    with pytest.raises(DamagedState):
        states.read({**written(), **damage}, UUID)


@pytest.mark.parametrize("value", ["text", 3, [], [written()], True])
def test_what_is_no_document_is_damaged(value):
    with pytest.raises(DamagedState):
        states.read(value, UUID)


def test_without_a_cache_the_record_tells_all_but_where_the_machine_is():
    assert states.merge(None, STATE) == replace(STATE, acknowledged=None)
    assert states.merge(STATE, None) == STATE
    assert states.merge(None, None) is None


def test_the_inputs_are_those_of_the_cache_where_it_knows_them():
    forged = replace(STATE, inputs=Remembered("19.03", KEY.replace("J", "K")))
    merged = states.merge(STATE, forged)
    assert merged is not None and merged.inputs == STATE.inputs
    half = replace(STATE, inputs=Remembered("24.05", None))
    merged = states.merge(half, STATE)
    assert merged is not None and merged.inputs == STATE.inputs


def test_the_outcomes_are_those_written_last():
    older, newer = replace(STATE, revision=4), replace(STATE, revision=5, activations=(activation("c"),))
    for cached, recorded in ((older, newer), (newer, older)):
        merged = states.merge(cached, recorded)
        assert merged is not None and merged.activations == newer.activations
    # Of two that are as new, the machine itself is right.
    equal = replace(STATE, activations=())
    merged = states.merge(STATE, equal)
    assert merged is not None and merged.activations == ()


def test_a_record_never_decides_where_a_machine_is_reached_nor_who_the_members_are():
    forged = replace(
        STATE, revision=99, acknowledged=Acknowledged("beta.example.org", 22, 99), members=("target", "invented")
    )
    merged = states.merge(STATE, forged)
    assert merged is not None
    assert merged.acknowledged == STATE.acknowledged
    assert merged.members == STATE.members
    alone = states.merge(None, forged)
    assert alone is not None and alone.acknowledged is None


def test_the_latest_activation_comes_first_and_not_all_are_kept():
    state = STATE
    for time in range(30):
        state = states.activated(state, activation("c", time=100 + time), ["target"])
    assert state.deployed == activation("c", time=129)
    assert len(state.activations) == 20
    assert states.read(written(state), UUID) == state


def test_of_many_machines_each_remembers_its_neighbours():
    many = [f"machine{number:03}" for number in range(120)]
    told = {
        name: states.activated(replace(STATE, machine=name), activation("c"), many).members
        for name in (*many, "machine005.example.org", "zeta")
    }
    assert told["machine000"] == tuple(many[1:51])
    assert told["machine118"] == (many[119], *many[:49])
    # The names of hosts may be others than those of machines.
    assert told["machine005.example.org"] == tuple(many[6:56])
    assert told["zeta"] == tuple(many[:50])
    assert all(sum(name in one for one in told.values()) >= 50 for name in many)
    assert states.activated(STATE, activation("c"), many[:50]).members == tuple(many[:50])


def test_what_two_runs_did_at_once_is_all_remembered():
    ours = states.activated(STATE, activation("c", time=30), ["target"])
    theirs = replace(STATE, revision=7, activations=(activation("d", time=31), *STATE.activations))
    united = states.unite(ours, theirs)
    assert [one.toplevel for one in united.activations] == [toplevel(name) for name in "cdba"]
    assert united.revision == 7
    assert states.unite(ours, None) == ours


@pytest.mark.parametrize(
    ("state", "wanted", "running", "status"),
    [
        (STATE, toplevel("b"), toplevel("b"), Status.UP_TO_DATE),
        (STATE, toplevel("c"), toplevel("b"), Status.OUTDATED),
        # Someone went back to what was deployed before.
        (STATE, toplevel("b"), toplevel("a"), Status.OUTDATED),
        (STATE, toplevel("b"), toplevel("x"), Status.DRIFTED),
        (STATE, None, toplevel("b"), Status.OBSOLETE),
        # The latest was rolled back.
        (
            replace(STATE, activations=(replace(activation("c"), rolled_back=True), *STATE.activations)),
            toplevel("b"),
            None,
            Status.UP_TO_DATE,
        ),
        # Not asked: what is remembered counts.
        (STATE, toplevel("b"), None, Status.UP_TO_DATE),
        (STATE, toplevel("c"), None, Status.OUTDATED),
        (None, toplevel("b"), toplevel("b"), Status.NEW),
        (None, None, None, Status.OBSOLETE),
        # It was deployed, and there was nothing to do.
        (replace(STATE, activations=()), toplevel("b"), toplevel("b"), Status.UP_TO_DATE),
        (replace(STATE, activations=()), toplevel("b"), toplevel("a"), Status.NEW),
        (replace(STATE, activations=()), toplevel("b"), None, Status.NEW),
    ],
)
def test_the_status_compares_toplevels(state, wanted, running, status):
    assert states.status(state, states.Seen(running), wanted=wanted) is status


FOREIGN = activation("foreign").toplevel
OLD_ONE, NEW_ONE = activation("old", time=1), activation("new", time=2)
AFTER = {name: replace(STATE, activations=(replace(NEW_ONE, action=name), OLD_ONE)) for name in states.ACTIONS}


@pytest.mark.parametrize(
    ("action", "seen", "status"),
    [
        ("switch", states.Seen(NEW_ONE.toplevel, NEW_ONE.toplevel), Status.UP_TO_DATE),
        ("switch", states.Seen(NEW_ONE.toplevel), Status.UP_TO_DATE),
        ("switch", states.Seen(NEW_ONE.toplevel, NEW_ONE.toplevel, unsettled=True), Status.ACTIVATING),
        ("switch", states.Seen(OLD_ONE.toplevel, OLD_ONE.toplevel, unsettled=True), Status.ACTIVATING),
        ("switch", states.Seen(NEW_ONE.toplevel, OLD_ONE.toplevel), Status.BOOTS_ANOTHER),
        ("switch", states.Seen(NEW_ONE.toplevel, unwritten=True), Status.BOOTS_ANOTHER),
        ("boot", states.Seen(OLD_ONE.toplevel, NEW_ONE.toplevel), Status.BOOTS_ANOTHER),
        ("boot", states.Seen(NEW_ONE.toplevel, NEW_ONE.toplevel), Status.UP_TO_DATE),
        ("boot", states.Seen(FOREIGN, NEW_ONE.toplevel), Status.BOOTS_ANOTHER),
        ("switch", states.Seen(FOREIGN, NEW_ONE.toplevel), Status.DRIFTED),
        ("switch", states.Seen(OLD_ONE.toplevel, NEW_ONE.toplevel), Status.BOOTS_ANOTHER),
        ("test", states.Seen(NEW_ONE.toplevel, OLD_ONE.toplevel), Status.TEST),
        ("test", states.Seen(NEW_ONE.toplevel, NEW_ONE.toplevel), Status.UP_TO_DATE),
        ("test", states.Seen(OLD_ONE.toplevel, OLD_ONE.toplevel), Status.OUTDATED),
        # Not asked.
        ("switch", states.Seen(), Status.UP_TO_DATE),
        ("boot", states.Seen(), Status.BOOTS_ANOTHER),
        ("test", states.Seen(), Status.TEST),
    ],
)
def test_the_status_tells_what_boots(action, seen, status):
    assert states.status(AFTER[action], seen, wanted=NEW_ONE.toplevel) is status


def test_a_record_is_read_as_the_machine_printed_it():
    line = f"3 {json.dumps(written())}"
    assert records.read(line, UUID) == records.Record(3, STATE)
    assert records.read(None, UUID) is None


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"schema": 1}', "[" * 100_000, '{"schema": 1, "uuid": "a"}'])
def test_a_damaged_record_has_a_revision_and_no_state(text):
    record = records.read(f"7 {text}", UUID)
    assert record is not None
    assert (record.revision, record.state) == (7, None)
    assert record.damage


def test_a_record_of_a_newer_schema_is_refused():
    with pytest.raises(OpsError, match="newer"):
        records.read(f'7 {{"schema": {states.SCHEMA + 1}}}', UUID)


def test_a_record_with_a_time_that_can_not_be_is_damaged():
    document = written(replace(STATE, activations=(activation("a", time=states.LATEST + 1),)))
    record = records.read(f"7 {json.dumps(document)}", UUID)
    assert record == records.Record(7, None, "time is too far in the future")


def test_the_latest_time_has_a_date():
    assert datetime.fromtimestamp(states.LATEST).year == 4147
    latest = replace(STATE, activations=(activation("a", time=states.LATEST),))
    assert states.read(written(latest), UUID) == latest


LAST = f"{UUID} {toplevel('a')} switch 4 1767225600 no"


def test_the_last_activation_is_read_as_the_machine_printed_it():
    assert records.read_last(LAST, UUID) == Activated(toplevel("a"), "switch", None, 4, 1767225600)
    undone = Activated(toplevel("a"), "switch", None, None, 1767225600, rolled_back=True)
    assert records.read_last(LAST.replace(" 4 ", " - ").replace(" no", " reboot"), UUID) == undone
    latest = records.read_last(LAST.replace("1767225600", str(states.LATEST)), UUID)
    assert latest is not None and latest.time == states.LATEST


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        (UUID, "-"),
        (toplevel("a"), "/etc/passwd"),
        ("switch", "dry-activate"),
        (" 4 ", " 1000 "),
        (" 4 ", " -1 "),
        (" 4 ", " ² "),
        (" 4 ", "  "),
        ("1767225600", str(states.LATEST + 1)),
        ("1767225600", "9" * 900),
        ("1767225600", "-1"),
        (" no", ""),
        (" no", " no more"),
    ],
)
def test_a_last_activation_that_is_not_valid_does_not_count(part, wrong):
    assert part in LAST
    assert records.read_last(LAST.replace(part, wrong), UUID) is None
    assert records.read_last(None, UUID) is None


def last(name="b", time=20, exit_code=0, *, action="switch", rolled_back=False):
    """What the machine tells of its last activation."""
    return Activated(toplevel(name), action, None, exit_code, time, rolled_back)


def test_an_activation_that_no_run_has_recorded_is_found():
    new = last("c", 30, None)
    assert states.found(STATE, new).activations == (new, *STATE.activations)
    # The same failure of the same system, another time.
    again = last("b", 30)
    assert states.found(STATE, again).activations == (again, *STATE.activations)
    assert states.found(STATE, None) == STATE


def test_an_activation_that_is_recorded_is_not_found_again():
    assert states.found(STATE, last()) == STATE
    # The boot of a system that was only to be rebooted is a boot for the machine, and a switch for the user.
    assert states.found(STATE, last(action="boot")) == STATE
    # It is not the newest: a system of somebody else was adopted since.
    assert states.found(STATE, last("a", 10)) == STATE


def test_an_activation_recorded_by_the_clock_of_the_controller_is_not_found_again():
    assert states.found(STATE, last(time=17)) == STATE
    assert states.found(STATE, last(time=17, action="boot")) == STATE
    unseen = last(time=17, rolled_back=True)
    assert states.found(STATE, unseen).activations == (unseen, *STATE.activations)


def test_a_machine_that_went_back_later_is_recorded_to_have_gone_back():
    back = states.found(STATE, last(rolled_back=True))
    assert back.activations == (replace(STATE.activations[0], rolled_back=True), STATE.activations[1])
    assert states.found(back, last()) == back


def test_what_two_runs_recorded_of_one_activation_is_remembered_once():
    ours = states.activated(STATE, activation("c", time=30), [])
    theirs = states.found(STATE, last("c", 30, action="boot"))
    assert states.unite(ours, theirs).activations == ours.activations
