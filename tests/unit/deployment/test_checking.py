# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How machines are judged by what they answer, or by their silence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import checking
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.checking import Limits
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Activated, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.checkup import Checkup, Disk
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Description, Standing

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
OLD = "/nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05"
NEW = "/nix/store/7m1k4yd0l7dpf3l1w1ssn0b1bpkmnkhl-nixos-system-target-24.05"
LIMITS = Limits(90, 5)
GIB = 1024 * 1024
CHECKUP = Checkup(1000, (0.08, 0.03, 0.01), 2, 86400, (Disk("/", 20 * GIB, 9 * GIB, 55, 12),), ())
STANDING = Standing(OLD, OLD, OLD, 12, OLD, boot_id="1")
FOUND = Description(
    standing=STANDING,
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
    checkup=CHECKUP,
)
DEPLOYED = Activated(OLD, "switch", 12, 0, 1000)
STATE = State(UUID, "example", "target", activations=(DEPLOYED,))


def judged(
    found: Description = FOUND, state: State | None = STATE, off: int = 0, host_key: str | None = "known"
) -> dict[str, Any]:
    return checking.of_answer(found, state, LIMITS, off=off, host_key=host_key)


def standing(**changed: Any) -> Description:
    return replace(FOUND, standing=replace(STANDING, **changed))


def disks(*there: Disk) -> Description:
    return replace(FOUND, checkup=replace(CHECKUP, disks=there))


def test_a_machine_that_is_well() -> None:
    found = judged()
    assert (found["status"], found["problems"], found["notes"]) == (0, [], [])
    assert (found["exists"], found["up"], found["reachable"], found["disks_ok"]) == (True,) * 4
    assert found["drifted"] is False and found["deployed"] == OLD


@pytest.mark.parametrize(
    ("found", "problem", "status", "note"),
    [
        (disks(Disk("/", 100, 9, 91, None)), "disks", 8, "/ is 91 % full, 9 KiB left"),
        (disks(Disk("/a b", GIB, 9 * 1024, 99, 3)), "disks", 8, "/a b is 99 % full, 9 MiB left"),
        (disks(Disk("/", 100, 90, 10, 91)), "disks", 8, "91 % of the inodes of / are used"),
        (standing(failed_units=("a.service",)), "units", 16, None),
        (replace(FOUND, activating=True), "activating", 0, "an activation is at work"),
        (standing(trial=OLD), "activating", 0, "waits to be reached after its boot"),
        (standing(running=NEW), "drift", 0, f"runs {NEW}, boots {OLD}\ndeployed was {OLD}"),
        (standing(boot_default=NEW, profile=NEW), "drift", 0, f"runs {OLD}, boots {NEW}\ndeployed was {OLD}"),
        (replace(FOUND, missing_keys=("db",)), "keys", 0, "lacks keys: db"),
        (standing(reboot_parts=("kernel",)), "reboot", 0, "needs a reboot for kernel"),
    ],
)
def test_each_problem_is_told(found: Description, problem: str, status: int, note: str | None) -> None:
    told = judged(found)
    assert (told["problems"], told["status"], told["notes"]) == ([problem], status, note.split("\n") if note else [])


def test_disks_that_are_as_full_as_they_may_be() -> None:
    assert judged(disks(Disk("/", 100, 10, 90, 90)))["disks_ok"] is True


def test_an_old_system_that_was_deployed_once_is_no_longer_what_was_deployed() -> None:
    state = replace(STATE, activations=(replace(DEPLOYED, toplevel=NEW), DEPLOYED))
    assert judged(state=state)["problems"] == ["drift"]


def test_a_system_that_was_deployed_to_be_booted_next_needs_a_reboot() -> None:
    state = replace(STATE, activations=(replace(DEPLOYED, toplevel=NEW, action="boot"), DEPLOYED))
    told = judged(standing(boot_default=NEW, profile=NEW), state)
    assert (told["problems"], told["notes"]) == (["reboot"], ["needs a reboot"])


def test_a_system_on_test_has_not_drifted() -> None:
    state = replace(STATE, activations=(replace(DEPLOYED, toplevel=NEW, action="test"), DEPLOYED))
    assert judged(standing(running=NEW), state)["drifted"] is False


@pytest.mark.parametrize("state", [None, State(UUID, "example", "target")])
def test_what_was_never_deployed_can_not_drift(state: State | None) -> None:
    told = judged(standing(running=NEW), state)
    assert (told["drifted"], told["deployed"], told["problems"]) == (None, None, [])


@pytest.mark.parametrize(("clock", "off"), [(1000, 0), (1003, 0), (999, -1), (1004, 1), (4600, 3597), (0, -1000)])
def test_a_clock_is_compared_with_the_time_of_the_question(clock: int, off: int) -> None:
    assert checking.clock_off(clock, 1000.9, 1003.2) == off


@pytest.mark.parametrize(("off", "note"), [(6, ["its clock is 6 s ahead"]), (-6, ["its clock is 6 s behind"]), (5, [])])
def test_a_clock_that_is_off(off: int, note: list[str]) -> None:
    assert judged(off=off)["notes"] == note


def test_a_host_key_that_nobody_checks() -> None:
    assert judged(host_key="unchecked")["problems"] == ["host_key"]
    assert judged(host_key=None)["problems"] == []


@pytest.mark.parametrize(
    ("exists", "up", "status", "problems"),
    [
        (True, False, 2, ["down", "unreachable"]),
        (True, True, 4, ["unreachable"]),
        (False, False, 1, ["missing", "down", "unreachable"]),
        # It is there, though nobody has deployed it.
        (False, True, 4, ["unreachable"]),
        (None, False, 2, ["down", "unreachable"]),
    ],
)
def test_the_bits_of_nixops_for_a_machine_that_is_silent(
    exists: bool | None, up: bool, status: int, problems: list[str]
) -> None:
    told = checking.of_silence(exists=exists, up=up)
    assert (told["status"], told["problems"]) == (status, problems)


def test_the_table_and_what_fails() -> None:
    found = {
        "web": {**judged(standing(failed_units=("a.service",))), "changed": False, "failed": False},
        "db": {**checking.of_silence(exists=True, up=False, why="no route"), "unreachable": True, "msg": "no"},
    }
    report = checking.report(found)
    assert report["status"] == 18
    assert [sorted(set(one) & {"changed", "failed", "unreachable", "msg"}) for one in report["machines"]] == [[], []]
    assert checking.as_text(report).split("\n") == [
        "+------+--------+-----+-----------+----------+----------------+--------------------+----------+",
        "| Name | Exists | Up  | Reachable | Disks OK | Load avg.      | Units              | Notes    |",
        "+------+--------+-----+-----------+----------+----------------+--------------------+----------+",
        "| web  |  Yes   | Yes |    Yes    |   Yes    | 0.08 0.03 0.01 | a.service [failed] |          |",
        "| db   |  Yes   | No  |    N/A    |   N/A    |                |                    | no route |",
        "+------+--------+-----+-----------+----------+----------------+--------------------+----------+",
    ]
    assert checking.wrong(report, []) == []
    assert checking.wrong(report, ["unreachable", "disks"]) == ["db: unreachable"]
    assert checking.wrong(report, ["any"]) == ["web: units", "db: down, unreachable"]


def test_a_check_that_failed_itself_is_not_told_as_a_machine() -> None:
    found = {"web": {"failed": True, "msg": "disk_fill is 0\nNext: correct it"}, "db": {}}
    assert checking.report(found)["machines"] == []
    assert checking.unchecked(found) == ["web: disk_fill is 0", "db: it was not asked"]


@pytest.mark.parametrize("limits", [Limits(0, 5), Limits(101, 5), Limits(90, -1)])
def test_limits_that_are_none_are_refused(limits: Limits) -> None:
    with pytest.raises(OpsError):
        limits.check()
