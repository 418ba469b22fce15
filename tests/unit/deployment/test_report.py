# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a deployment's machines are told, from what was found and what is remembered."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import discovery, fact_cache
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import report as reports
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.report import Machine, Report
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Acknowledged, Activated, State, Status
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Definition, Derivation, Evaluation, Network

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
OLD = "/nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05"
NEW = "/nix/store/7m1k4yd0l7dpf3l1w1ssn0b1bpkmnkhl-nixos-system-target-24.05"
NETWORK = Network("example", UUID, files=("/net/target.nix", "/net/config.nix"), arguments={"b": "secret", "a": 1})
NOON = int(time.mktime((2026, 1, 2, 12, 0, 0, 0, 0, -1)))
SWITCHED = Activated(OLD, "switch", 12, 0, NOON)

MACHINE = Machine(
    name="target",
    host="target",
    status=Status.OUTDATED,
    type="none",
    address="192.0.2.1",
    running=OLD,
    wanted=NEW,
    generation=12,
    nixos_version="24.05",
    last=SWITCHED,
    failed_units=(),
    boots=OLD,
    boots_generation=12,
    reboot_parts=(),
    reachable=True,
)


def text(*machines, notes=()):
    return reports.as_text(Report(NETWORK, "/net/example.network.yml", "Described", machines, notes))


def cells(**changed):
    """The cells of a machine's row, from its address on."""
    line = text(replace(MACHINE, **changed)).split("\n")[-2]
    return [cell.strip() for cell in line.strip("|").split("|")][3:]


def test_looks_as_nixops_prints_it():
    assert text(MACHINE, notes=("target needs a reboot.",)).split("\n") == [
        "Network name: example",
        "Network UUID: 9e8652aa-e64a-11f1-b7ab-02fc00000001",
        "Network description: Described",
        "Nix expressions: /net/target.nix /net/config.nix",
        "Nix arguments: a, b",
        "",
        "+--------+----------+------+-----------+----------------------+------------------+",
        "| Name   |  Status  | Type | Address   | Runs                 | Last deploy      |",
        "+--------+----------+------+-----------+----------------------+------------------+",
        "| target | Outdated | none | 192.0.2.1 | 24.05, generation 12 | 2026-01-02 12:00 |",
        "+--------+----------+------+-----------+----------------------+------------------+",
        "",
        "target needs a reboot.",
    ]


@pytest.mark.parametrize(
    ("changed", "runs"),
    [
        ({"reachable": None}, "not asked"),
        ({"reachable": None, "problem": "it said no"}, "no answer"),
        ({"reachable": False}, "unreachable"),
        ({"reachable": False, "host_key": "unknown"}, "host key unknown"),
        ({"running": None}, "no NixOS"),
        ({"generation": None}, "24.05"),
    ],
)
def test_what_it_runs(changed, runs):
    assert cells(**changed)[1] == runs


@pytest.mark.parametrize(
    ("changed", "last"),
    [
        ({"exit_code": 4}, "2026-01-02 12:00, exit code 4"),
        ({"exit_code": None}, "2026-01-02 12:00, end unknown"),
        ({"action": "boot", "exit_code": 1}, "2026-01-02 12:00, boot, exit code 1"),
    ],
)
def test_last_deployment(changed, last):
    assert cells(last=replace(SWITCHED, **changed))[2] == last


def definition(name):
    return Definition(name, "none", f"{name}.example.org", 22, None, (), (), (), True, False, (), (), "24.05")


@pytest.fixture
def report(monkeypatch):
    """Reports on a network of machines with a fact cache of states, both by name."""

    def made(names, cached, found=None, hosts=None):
        answer = Evaluation("", {name: definition(name) for name in names}, {})
        monkeypatch.setattr(evaluation, "definitions", lambda *_one, **_more: answer)
        wanted = {name: Derivation("/nix/store/x.drv", NEW) for name in names}
        monkeypatch.setattr(
            evaluation, "instantiate_each", lambda _one, some, **_more: ({name: wanted[name] for name in some}, {})
        )
        monkeypatch.setattr(
            fact_cache, "entry", lambda host: {UUID: states.as_json(cached[host])} if host in cached else {}
        )
        one = Deployment("/net/example.network.yml", "example", UUID, NETWORK, hosts=hosts or {})
        return reports.report(one, found or {}, env={}, on_line=print, warn=print)

    return made


def state(name, *members, **changed):
    return State(UUID, "example", name, revision=1, activations=(SWITCHED,), members=members, **changed)


def test_in_the_order_of_numbers(report):
    assert [one.name for one in report(["m10", "m9", "a"], {}).machines] == ["a", "m9", "m10"]


def test_address(report):
    here = Acknowledged("2001:db8::1", 2222, NOON)
    cached = {"seen": state("seen", acknowledged=here)}
    found = {"found": {"running": OLD, "address": "192.0.2.7", "port": 22}}
    told = {one.name: one.address for one in report(["new", "seen", "found"], cached, found).machines}
    assert told == {"new": "new.example.org", "seen": "[2001:db8::1]:2222", "found": "192.0.2.7"}


def test_machine_that_was_asked_in_vain(report):
    found = {"a": {"failed": True, "msg": "its disk is broken\nNext: ..."}, "b": {"unreachable": True, "msg": "lost"}}
    told = report(["a", "b"], {}, found)
    assert [(one.reachable, one.problem) for one in told.machines] == [
        (None, "its disk is broken\nNext: ..."),
        (False, "lost"),
    ]
    assert told.notes == ("a: its disk is broken.",)


def test_keys_that_are_not_there_any_more_are_told(report):
    told = report(["a"], {}, {"a": {"running": OLD, "profile": OLD, "missing_keys": ["x", "y"]}})
    assert told.machines[0].missing_keys == ("x", "y")
    assert "a lacks keys: x, y. Send them with nix.ops.send_keys." in told.notes


def test_a_host_key_that_is_refused_is_told_with_what_to_do(report):
    message = "a: its host key is not known\n256 SHA256:x a (ED25519)\nState: untouched\nNext: Compare it."
    told = report(["a"], {}, {"a": {"unreachable": True, "msg": message, "host_key": "unknown"}})
    assert [one.host_key for one in told.machines] == ["unknown"]
    assert told.notes == ("a: its host key is not known: 256 SHA256:x a (ED25519). Next: Compare it.",)


def test_what_was_just_asked_is_newer_than_what_is_cached(report):
    asked = {"running": NEW, "state": states.as_json(state("a"))}
    [machine] = report(["a"], {}, {"a": asked}).machines
    assert (machine.status, machine.last) == (Status.UP_TO_DATE, SWITCHED)


def test_member_that_left_has_a_row_where_it_is_remembered_itself(report):
    told = report(["a"], {"a": state("a", "a", "b.lan"), "b.lan": state("b")})
    assert [(one.name, one.host, one.status) for one in told.machines] == [
        ("a", "a", Status.OUTDATED),
        ("b", "b.lan", Status.OBSOLETE),
    ]


def test_member_that_left_is_found_if_only_another_that_left_remembers_it(report):
    cached = {"a": state("a", "b"), "b": state("b", "c", "forgotten"), "c": state("c", "a", "b")}
    told = report(["a"], cached)
    assert [(one.name, one.status) for one in told.machines] == [
        ("a", Status.OUTDATED),
        ("b", Status.OBSOLETE),
        ("c", Status.OBSOLETE),
    ]
    assert told.notes == ()
    one = Deployment("/net/example.network.yml", "example", UUID, NETWORK)
    assert discovery.deployed(one, ["a"], print) == cached


def test_record_that_lies_invents_no_rows(report):
    told = report(["a", "b"], {"a": state("a", "a", "b", "evil"), "b": state("b", "b", "evil")})
    assert [one.name for one in told.machines] == ["a", "b"]
    assert told.notes == ("evil was a machine of this deployment, says what is remembered of a, b.",)


def test_machine_whose_host_was_renamed_has_not_left(report):
    told = report(["a"], {"a.lan": state("a", "a"), "a": state("a")}, hosts={"a": "a.lan"})
    assert [one.host for one in told.machines] == ["a.lan"]


def test_deployed_machines_are_counted_with_those_that_left(report):
    report([], cached := {"a": state("a", "a", "b"), "b": state("b"), "asked": State(UUID, "example", "asked")})
    one = Deployment("/net/example.network.yml", "example", UUID, NETWORK)
    assert discovery.deployed(one, ["a", "asked", "never"], print) == {name: cached[name] for name in "ab"}


def described(running, profile, **other):
    """What a machine answers that has the old system as generation 12 and the new one as generation 13."""
    generations = [{"number": 12, "toplevel": OLD, "created": 1}, {"number": 13, "toplevel": NEW, "created": 2}]
    number = {OLD: 12, NEW: 13}[profile]
    known = {"running": running, "profile": profile, "generation": number, "boot_default": None, "reboot_parts": []}
    return {**known, "boot_unfinished": False, "generations": generations, **other}


def test_the_generation_is_that_of_the_system_that_runs(report):
    other = NEW.replace("7m1k", "8m1k")
    found = {
        "both": described(NEW, NEW),
        "later": described(OLD, NEW),
        "trial": described(other, NEW),
        "menu": described(OLD, OLD, boot_default=NEW),
        # Two generations may lead to the same system.
        "again": described(OLD, OLD, generation=14),
        "unwritten": described(NEW, NEW, boot_unfinished=True),
    }
    told = report(list(found), {}, found)
    assert {one.name: (one.generation, one.boots) for one in told.machines} == {
        "both": (13, NEW),
        "later": (12, NEW),
        "trial": (None, NEW),
        "menu": (12, NEW),
        "again": (14, OLD),
        "unwritten": (13, None),
    }
    assert told.notes == (
        f"later boots another system than it runs: {NEW}, generation 13.",
        f"menu boots another system than it runs: {NEW}, generation 13.",
        f"trial boots another system than it runs: {NEW}, generation 13.",
        f"unwritten: the boot entry of its profile, {NEW}, was not written.",
    )


def test_a_reboot_that_is_needed_names_the_parts(report):
    told = report(["a"], {}, {"a": described(NEW, NEW, reboot_parts=["kernel", "initrd"])})
    assert told.notes == ("a needs a reboot for: kernel, initrd.",)
    [machine] = reports.as_json(told)["machines"]
    assert (machine["reboot_needed"], machine["reboot_parts"]) == (True, ["kernel", "initrd"])
    [machine] = reports.as_json(report(["a"], {}))["machines"]
    assert (machine["reboot_needed"], machine["reboot_parts"]) == (None, [])
