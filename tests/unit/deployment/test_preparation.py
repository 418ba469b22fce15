# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a machine is reached, what is joined of it, and which inputs it gets."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import preparation
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.preparation import KeyOptions, Purpose, Subject
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.record import Record
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Acknowledged, Activated, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.connection import Addresses, Endpoint
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Description, Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Remembered
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
SUBJECT = Subject(UUID, "example", "target")
OLD, NEW = (f"/nix/store/{letter * 32}-nixos-system-target" for letter in "ab")
STATE = State(UUID, "example", "target", Remembered("24.05"), 3, (Activated(OLD, "switch", 1, 0, 10),))
FOUND = Description(
    Standing(running=OLD, booted=OLD, profile=OLD, generation=1, boot_default=OLD),
    nixos_version="24.05",
    system_state="running",
    has_nix=True,
    generations=(),
    closure=(),
    units={},
    files={},
    booted_parts={},
    release="24.05",
    owners=(),
    record=None,
    activating=False,
)
WAS, IS = Endpoint("192.0.2.1", 22), Endpoint("192.0.2.2", None)


class Connection:
    """Leads where it is told."""

    host = IS.address

    def set_option(self, name, value):
        pass


def lead_to(now=WAS):
    """The addresses of a machine that is said to be at another place than before; the connection leads to one."""
    addresses = Addresses(Connection(), IS, WAS)
    while addresses.now != now:
        addresses.turn()
    return addresses


def record(name="target", **other):
    return "3 " + json.dumps(states.as_json(replace(STATE, machine=name)) | other)


@pytest.fixture
def said():
    return []


@pytest.fixture
def reach(monkeypatch, said):
    """Reach a machine that gives these answers one after the other."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def run(*answers, addresses=None, timeout=0.0):
        left = list(answers)

        def describe(machine, *, profile: str, record, check, keys, generations):
            assert record == UUID and not check and keys is None and not generations
            answer = left.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return replace(FOUND, record=answer)

        monkeypatch.setattr(description, "describe", describe)
        machine = Machine("target", lambda *words: pytest.fail("nothing else is run"), {})
        found = preparation.reach(machine, addresses, SUBJECT, timeout=timeout, on_line=said.append)
        assert not left
        return found[1]

    return run


def test_a_machine_is_described_with_its_record(reach, said):
    assert reach(record()).state == STATE
    assert reach(None) is None
    assert said == []


def test_the_ssh_server_of_a_new_machine_is_waited_for(reach, said):
    lost = ConnectionLost("Connection refused")
    assert reach(lost, lost, None, timeout=60) is None
    assert said == ["waiting for SSH..."]
    with pytest.raises(ConnectionLost):
        reach(lost, timeout=0)


@pytest.mark.parametrize(
    ("timeout", "since", "until"),
    [
        (60, None, 160),
        (60, 100, 160),
        (60, 70, 130),
        # The last of many machines that can't be reached.
        (60, 30, 110),
        (5, 30, 105),
        (0, 30, 100),
        # A clock that was read on another computer.
        (60, 5000, 160),
    ],
)
def test_all_machines_together_are_waited_for_once(timeout, since, until):
    assert preparation.wait_until(timeout, since, now=100) == until


@pytest.mark.parametrize(
    "what", ["Permission denied (publickey)", "Host key verification failed", "Too many authentication failures"]
)
def test_a_refusal_is_final(reach, what):
    with pytest.raises(ConnectionLost):
        reach(ConnectionLost(what), timeout=60)


def test_a_stranger_at_the_old_address_is_left_alone(reach, said):
    addresses = lead_to()
    assert reach(None, record(), addresses=addresses).state == STATE
    assert addresses.now == IS
    assert said == ["what answers at 192.0.2.1 port 22 has no record of this deployment; trying 192.0.2.2 port 22"]


def test_another_machine_of_the_deployment_is_refused(reach):
    with pytest.raises(OpsError, match=r"at 192\.0\.2\.1 port 22 has a record that it is other of this deployment"):
        reach(record("other"), addresses=lead_to())


OTHER = "4d0b5c2e-0000-4000-8000-000000000002"


@pytest.mark.parametrize(
    ("owners", "latest", "is_refused"),
    [
        ((), None, False),
        ((UUID,), UUID, False),
        ((OTHER,), OTHER, True),
        ((OTHER,), None, True),
        ((UUID, OTHER), OTHER, True),
        ((UUID, OTHER), UUID, False),
        ((UUID, OTHER), None, False),
        # The record of this deployment could not be written.
        ((OTHER,), UUID, False),
    ],
)
def test_a_machine_of_another_deployment_is_refused(owners, latest, is_refused):
    last = f"{latest} {OLD} switch 0 50 no" if latest else None
    found = replace(FOUND, owners=owners, standing=replace(FOUND.standing, last_activation=last))
    target = Machine("target", lambda *_words: Completed((), 0, "", ""), {})
    if not is_refused:
        preparation.check_owner(found, target, None, SUBJECT)
        return
    with pytest.raises(OpsError, match=f"belongs to the deployment {OTHER}") as refused:
        preparation.check_owner(found, target, None, SUBJECT)
    assert "deploy_take_over=true" in str(refused.value)


def test_a_damaged_record_is_told(reach, said):
    assert reach("3 {").state is None
    assert said == ["the machine's own record is damaged (it is not JSON): it is written anew"]


def join(said, cached=STATE, recorded=STATE, last=None, **found):
    told = Record(3, recorded) if recorded else None
    found = {"standing": replace(FOUND.standing, last_activation=last), **found}
    return preparation.join(cached, replace(FOUND, **found), told, SUBJECT, on_line=said.append)


def test_what_is_remembered_is_joined(said):
    assert join(said) == STATE
    assert join(said, recorded=None) == STATE
    assert join(said, replace(STATE, deployment="renamed")) == STATE
    assert said == []
    assert join(said, None) == STATE
    assert said[0].startswith("what is remembered of it was found on the machine (last deployed 1970-01-01")
    assert join(said, None, None) == State(UUID, "example", "target")


def test_an_interrupted_activation_is_told_until_it_is_recorded(said):
    last = f"{UUID} {NEW} switch - 20 no"
    known = join(said, last=last)
    assert known.deployed == Activated(NEW, "switch", None, None, 20)
    assert [NEW in line for line in said] == [True, False]
    assert said[1] == f"it runs and boots {OLD}"
    # A report has cached it, and the machine's own record does not have it yet.
    assert join(said, known, STATE, last=last) == known
    assert len(said) == 4
    assert join(said, known, known, last=last) == known
    assert join(said, known, None, last=last) == known
    assert len(said) == 4


@pytest.mark.parametrize(
    ("code", "back", "what"),
    [
        ("0", "yes", "was rolled back after its run had ended"),
        ("0", "reboot", "was rolled back after its run had ended"),
        ("-", "yes", "was rolled back after its run had ended"),
        ("4", "no", "failed with exit code 4 after its run had ended"),
        ("0", "no", "was completed after its run had ended"),
        ("-", "no", "was interrupted"),
    ],
)
def test_what_became_of_an_activation_after_its_run_is_told(said, code, back, what):
    join(said, last=f"{UUID} {NEW} switch {code} 20 {back}")
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(20))
    assert said == [f"an earlier activation of {NEW}, at {began}, {what}", f"it runs and boots {OLD}"]


def test_what_became_of_an_activation_that_is_recorded_is_not_told(said):
    assert join(said, last=f"{UUID} {OLD} switch 0 10 no") == STATE
    assert said == []
    join(said, last=f"{UUID} {OLD} switch 0 10 reboot")
    assert "was rolled back after its run had ended" in said[0]


def test_an_activation_at_work_has_not_ended(said):
    assert join(said, last=f"{UUID} {NEW} switch - 20 no", activating=True) == STATE
    assert said == []


def test_a_boot_entry_that_was_not_written_is_told(said):
    join(said, standing=replace(FOUND.standing, boot_unfinished=True))
    assert said == [f"the boot entry of {OLD} was not written yet"]


def decide(said, key, known=None, release="24.05", purpose=Purpose.REMEMBER):
    return preparation.decide_inputs(known or Remembered(), release, SUBJECT, key, purpose=purpose, on_line=said.append)


def test_the_first_release_becomes_the_state_version(said):
    no_key = KeyOptions(None, True, {})
    assert decide(said, no_key) == (Remembered("24.05"), False)
    assert decide(said, no_key, Remembered("23.11")) == (Remembered("23.11"), False)
    assert decide(said, no_key, release=None) == (Remembered(), False)
    assert said == ["setting state version to 24.05", "cannot determine NixOS version"]


def test_what_is_not_remembered_is_not_said_to_be_set(said):
    no_key = KeyOptions(None, False, {})
    assert decide(said, no_key, purpose=Purpose.REPORT) == (Remembered("24.05"), False)
    decide(said, no_key, release=None, purpose=Purpose.REPORT)
    assert said == []
    decide(said, no_key, Remembered("23.11"), purpose=Purpose.PREVIEW)
    assert decide(said, no_key, purpose=Purpose.PREVIEW) == (Remembered("24.05"), False)
    assert said == ["the state version will be 24.05"]


def test_a_key_pair_is_made_once(said, tmp_path, monkeypatch):
    monkeypatch.delenv("AWX_PRIVATE_DATA_DIR", raising=False)
    key = KeyOptions(str(tmp_path / "target"), True, {})
    inputs, made = decide(said, key)
    assert made and inputs.ssh_public_key.endswith("nix.ops key of target in example")
    assert decide(said, key) == (inputs, False)
    # The private key that is there counts more than what is remembered.
    assert decide(said, key, Remembered("24.05", "ssh-ed25519 other")) == (inputs, False)
    assert said.count("generating new SSH key pair... done") == 1


@pytest.mark.parametrize(("may_generate", "variables"), [(False, {}), (True, {"awx_job_id": 1})])
def test_no_key_pair_is_made(said, tmp_path, may_generate, variables):
    key = KeyOptions(str(tmp_path / "target"), may_generate, variables)
    assert decide(said, key) == (Remembered("24.05"), False)
    assert decide(said, key, Remembered("24.05", "ssh-ed25519 x")) == (Remembered("24.05", "ssh-ed25519 x"), False)
    assert not list(tmp_path.iterdir())


def test_an_acknowledgement_keeps_its_time_at_the_same_place():
    then = Acknowledged("192.0.2.1", 22, 10)
    assert preparation.acknowledge(then, None, now=99) == then
    assert preparation.acknowledge(then, lead_to(), now=99) == then
    assert preparation.acknowledge(then, lead_to(IS), now=99) == Acknowledged("192.0.2.2", 22, 99)
    assert preparation.acknowledge(None, lead_to(IS), now=99) == Acknowledged("192.0.2.2", 22, 99)


def test_a_record_is_complete_with_the_same_inputs_and_revision():
    assert preparation.is_recorded(Record(3, STATE), STATE)
    assert not preparation.is_recorded(None, STATE)
    assert not preparation.is_recorded(Record(3, None, "damaged"), STATE)
    assert not preparation.is_recorded(Record(3, STATE), replace(STATE, revision=4))
    assert not preparation.is_recorded(Record(3, STATE), replace(STATE, inputs=Remembered("23.11")))
    # An activation was found that no run has recorded.
    found = replace(STATE, activations=(Activated(NEW, "switch", None, None, 20), *STATE.activations))
    assert not preparation.is_recorded(Record(3, STATE), found)
