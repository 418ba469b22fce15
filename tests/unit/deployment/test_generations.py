# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generations as they are listed."""

from __future__ import annotations

from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import generations, history
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Activated, State

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
OLD, NEW, STRANGE = (f"/nix/store/{letter * 32}-nixos-system-target" for letter in "abc")
DEPLOY = "20261122-165500-a1b2"
STATE = State(
    UUID, "net", "target", activations=(Activated(NEW, "switch", 2, 0, 9, origin="me@laptop", deploy=DEPLOY),)
)


def found(running: str = NEW, **other: Any) -> dict[str, Any]:
    """What a machine has answered."""
    stands = {"running": running, "booted": OLD, "profile": NEW, "generation": 2, "boot_default": NEW, "trial": None}
    rest = {"boot_unfinished": False, "failed_units": [], "boot_id": "1", "reboot_parts": []}
    listed = [
        {"number": 1, "toplevel": OLD, "created": 0, "nixos_version": None, "kernel": None},
        {"number": 2, "toplevel": NEW, "created": 60, "nixos_version": "24.05", "kernel": "6.6.32"},
    ]
    return {**stands, **rest, "generations": listed, "state": states.as_json(STATE), **other}


def lines(**machines: dict[str, Any]) -> list[str]:
    return generations.as_text(generations.listed(machines)).split("\n")


def test_the_newest_generation_comes_first_and_each_names_its_deploy():
    head, row, older = (lines(target=found())[number] for number in (1, 3, 4))
    assert [cell.strip() for cell in head.strip("|").split("|")] == [
        *("Machine", "Generation", "Date", "NixOS", "Kernel", "Deploy", "State")
    ]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["target", "2", history.moment(60), "24.05", "6.6.32", DEPLOY, "current"]
    assert [cell.strip() for cell in older.strip("|").split("|")][3:] == ["", "", "", "booted"]
    assert [cell.strip() for cell in lines(target=found())[-2].strip("|").split("|")] == [
        DEPLOY,
        "target",
        "by me@laptop",
    ]


def test_machines_that_tell_nothing_or_run_something_else_are_named():
    told = lines(a={"unreachable": True, "msg": "a: no route\nNext: Look."}, b=found(STRANGE), c=found(OLD))
    assert told[-2:] == ["a: a: no route", f"b runs {STRANGE}, which is not a generation."]
    assert any("running, booted" in line for line in told)
    [a, b, _c] = generations.listed({"a": {}, "b": found(), "c": found()})["machines"]
    assert (a["problem"], a["generations"], b["problem"]) == ("it was not asked", [], None)
    assert generations.listed({"a": {}})["deploys"] == []
