# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a rollout."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.activation import plan
from ansible_collections.nix.ops.plugins.plugin_utils.activation.plan import Ending, Found, Need, Wish
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing

OLD = "/nix/store/00000000000000000000000000000000-old"
SMALL = "/nix/store/22222222222222222222222222222222-small"
NEW = "/nix/store/11111111111111111111111111111111-new"


def found(
    running: str = OLD, profile: str | None = None, *, standing: dict[str, Any] | None = None, **more: Any
) -> Found:
    """A machine that runs a toplevel, boots it, and is known."""
    boots = profile or running
    # What is booted differs from what boots next in the same parts.
    parts = more.get("reboot_parts", ()) if running == boots else ()
    details = {"boot_id": "1", "reboot_parts": parts, **(standing or {})}
    return Found(Standing(running, running, boots, 1, boots, **details), **{"known": [OLD, NEW], **more})


@pytest.mark.parametrize(
    ("wish", "machine", "does"),
    [
        (Wish(NEW), found(NEW), "nothing"),
        (Wish(NEW), found(OLD), "copy, switch"),
        (Wish(NEW, "boot"), found(OLD), "copy, boot"),
        (Wish(NEW, "boot"), found(OLD, NEW), "nothing"),
        (Wish(NEW, "switch"), found(OLD, NEW), "switch"),
        (Wish(NEW, "test"), found(NEW, OLD), "nothing"),
        (Wish(NEW, "switch"), found(NEW, OLD), "switch"),
        (Wish(NEW, "dry-activate"), found(NEW), "dry-activate"),
        (Wish(NEW, "dry-activate"), found(OLD), "copy, dry-activate"),
        (Wish(NEW, force=True), found(NEW), "switch, alwaysActivate"),
        (Wish(NEW), found(NEW, activating=True), "switch, an activation is running"),
        (Wish(NEW), found(NEW, standing={"boot_unfinished": True}), "switch, boot entry is missing"),
        (Wish(NEW), found(NEW, standing={"trial": NEW}), "acknowledge the booted system"),
        (Wish(NEW), found(NEW, standing={"trial": OLD}), "nothing"),
        (Wish(NEW), found(NEW, recorded=False), "write the record"),
        (Wish(NEW), found(NEW, known=[OLD]), "write the record"),
        (Wish(NEW), found(NEW, reboot_parts=("kernel",)), "nothing"),
        (Wish(NEW, reboot="when_needed"), found(NEW, reboot_parts=("kernel", "initrd")), "reboot (kernel, initrd)"),
        (Wish(NEW, reboot="when_needed"), found(NEW), "nothing"),
        (Wish(NEW, reboot="when_needed"), found(OLD, reboot_parts=("kernel",)), "copy, switch, reboot (kernel)"),
        (Wish(NEW, reboot="always"), found(NEW), "reboot (all)"),
        (Wish(NEW, "test", "always"), found(NEW), "nothing"),
        (Wish(NEW, "boot", "when_needed"), found(OLD, NEW), "reboot (all)"),
        (Wish(NEW, specialisation="small", runs=SMALL), found(OLD), "copy, switch, specialisation small"),
        (Wish(NEW, specialisation="small", runs=SMALL), found(NEW), "switch, specialisation small"),
        (Wish(NEW, specialisation="small", runs=SMALL), found(SMALL, NEW), "nothing"),
        (Wish(NEW, specialisation="small", runs=SMALL), found(SMALL, OLD), "copy, switch, specialisation small"),
        (Wish(NEW, "test", specialisation="small", runs=SMALL), found(SMALL, NEW), "nothing"),
        (Wish(NEW, specialisation="small"), found(SMALL, NEW), "switch, specialisation small"),
        (Wish(NEW), found(SMALL, NEW), "switch"),
    ],
)
def test_what_a_deploy_does(wish: Wish, machine: Found, does: str) -> None:
    need = plan.need(wish, machine)
    assert need.summary() == does
    assert bool(need) == (does != "nothing")


@pytest.mark.parametrize(
    ("need", "copies", "activates", "does"),
    [
        (Need(NEW, True, "switch", ("kernel",), ("alwaysActivate",)), True, False, "copy, without its activation"),
        (Need(NEW, True, "switch", ("kernel",)), False, True, "switch, reboot (kernel)"),
        (Need(NEW, True, "switch", ("kernel",)), True, True, "copy, switch, reboot (kernel)"),
        (Need(NEW, True, "dry-activate"), True, False, "copy, without its activation"),
        (Need(NEW, False, "switch"), True, False, "without its activation"),
        (Need(NEW, False, None, ("kernel",)), True, False, "without its activation"),
        (Need(NEW, False, None, (), ("acknowledge the booted system",)), True, False, "without its activation"),
        (Need(NEW), True, False, "nothing"),
        (Need(NEW), False, True, "nothing"),
    ],
)
def test_what_the_run_leaves_out_is_not_in_the_plan(need: Need, copies: bool, activates: bool, does: str) -> None:
    left = plan.leave_out(need, copies=copies, activates=activates)
    assert left.summary() == does
    # The machine is told to be up to date if it needs nothing.
    assert bool(left) == bool(need)


BATCH = ["beta", "gamma"]
RUN = ["alpha", *BATCH, "omega"]


@pytest.mark.parametrize(
    ("failed", "allowed", "fatal", "revert", "ending"),
    [
        ([], 0, True, "run", Ending()),
        (["gamma"], 50, False, "run", Ending(("gamma",))),
        (["gamma"], 49, False, "run", Ending(("gamma",), True, ("alpha", "beta"), (), ("omega",))),
        (["gamma"], 0, False, "batch", Ending(("gamma",), True, ("beta",), ("alpha",), ("omega",))),
        (["gamma"], 100, True, "batch", Ending(("gamma",), True, ("beta",), ("alpha",), ("omega",))),
        (["beta", "gamma"], 100, False, "run", Ending(("beta", "gamma"), True, ("alpha",), (), ("omega",))),
        (["gamma"], 0, False, "never", Ending(("gamma",), True, (), ("alpha", "beta"), ("omega",))),
    ],
)
def test_how_a_batch_ends(failed: list[str], allowed: float, fatal: bool, revert: str, ending: Ending) -> None:
    assert plan.ending(BATCH, RUN, failed, "omega".__ne__, allowed=allowed, fatal=fatal, revert=revert) == ending


def test_outcomes_in_a_line() -> None:
    need = Need(NEW, True, "switch")
    good = {"action": "switch", "toplevel": NEW, "generation": 3, "changed": True}
    assert plan.outcome(need, good) == f"runs and boots {NEW}, generation 3"
    assert plan.outcome(need, {**good, "rebooted": True}) == f"runs and boots {NEW}, generation 3, rebooted"
    assert plan.outcome(need, {**good, "action": "boot"}) == f"boots next {NEW}, generation 3"
    # The profile has another generation then.
    assert plan.outcome(need, {**good, "action": "test"}) == f"runs {NEW}"
    assert plan.outcome(need, {**good, "action": "dry-activate"}) == f"would run {NEW}"
    assert plan.outcome(need, {"failed": True}) == "failed"
    assert plan.outcome(need, {}) == plan.outcome(need, {"skipped": True}) == "not activated"
    assert plan.outcome(Need(NEW), {}) == "up to date"
    assert plan.outcome(need, good, reverted=True) == "runs and boots again what it did before this deploy"


def test_an_outcome_says_whether_a_reboot_is_needed() -> None:
    need = Need(NEW, True, "switch")
    good = {"action": "switch", "toplevel": NEW, "generation": 3, "reboot_parts": ["kernel", "initrd"]}
    wants = "; needs a reboot for: kernel, initrd"
    assert plan.outcome(need, good) == f"runs and boots {NEW}, generation 3{wants}"
    assert plan.outcome(need, {**good, "action": "boot"}) == f"boots next {NEW}, generation 3{wants}"
    # The parts are those of the profile.
    assert plan.outcome(need, {**good, "action": "test"}) == f"runs {NEW}"
    settled = Standing(NEW, OLD, NEW, 3, NEW, reboot_parts=("kernel", "initrd"))
    assert plan.outcome(Need(NEW), {}, standing=settled) == f"up to date{wants}"
    assert plan.outcome(Need(NEW), {}, standing=Standing(NEW, NEW, NEW, 3, NEW)) == "up to date"
    waits = Standing(OLD, OLD, NEW, 3, NEW)
    assert plan.outcome(Need(NEW), {}, standing=waits) == f"up to date; runs {OLD} until it reboots"


@pytest.mark.parametrize(
    ("serial", "batches"),
    [
        ([1], ["a", "b", "c", "d", "e"]),
        ([2], ["ab", "cd", "e"]),
        (["40%"], ["ab", "cd", "e"]),
        ([1, "2"], ["a", "bc", "de"]),
        ([1, "100%"], ["a", "bcde"]),
        (["1%"], ["a", "b", "c", "d", "e"]),
        ([10], ["abcde"]),
        ([0], ["abcde"]),
        ([], ["abcde"]),
    ],
)
def test_batches_are_counted_as_ansible_makes_them(serial: list[int | str], batches: list[str]) -> None:
    found = [plan.batch_number(list(one), list("abcde"), serial) for one in batches]
    assert found == [(number, len(batches)) for number in range(1, len(batches) + 1)]
    # Of a batch some machines may be lost before.
    assert plan.batch_number([batches[-1][-1]], list("abcde"), serial) == (len(batches), len(batches))
