# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine needs to reach a goal, and how an activation is written down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.activation import result
from ansible_collections.nix.ops.plugins.plugin_utils.activation.decision import (
    Decision,
    decide,
    is_acknowledged,
    is_settled,
)
from ansible_collections.nix.ops.plugins.plugin_utils.activation.protocol import Activation, Goal, Units
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing

OLD, NEW = (f"/nix/store/{letter * 32}-nixos-system-target" for letter in "ab")
SWITCH = Goal(NEW, "switch", "/nix/var/nix/profiles/system")
AT_OLD = Standing(running=OLD, booted=OLD, profile=OLD, generation=1, boot_default=OLD)
AT_NEW = Standing(running=NEW, booted=NEW, profile=NEW, generation=2, boot_default=NEW)
BOOTS_NEW = replace(AT_NEW, running=OLD, booted=OLD)
TESTS_NEW = replace(AT_OLD, running=NEW)


def decided(standing, action="switch", **options):
    wanted = {"force": False, "is_activating": False, "reboot": "never", **options}
    return decide(standing, replace(SWITCH, action=action), **wanted)


@pytest.mark.parametrize(
    ("standing", "action", "activates"),
    [
        (AT_OLD, "switch", True),
        (AT_OLD, "boot", True),
        (AT_OLD, "test", True),
        (AT_NEW, "switch", False),
        (AT_NEW, "boot", False),
        (AT_NEW, "test", False),
        (BOOTS_NEW, "switch", True),
        (BOOTS_NEW, "boot", False),
        (BOOTS_NEW, "test", True),
        (TESTS_NEW, "switch", True),
        (TESTS_NEW, "boot", True),
        (TESTS_NEW, "test", False),
        (replace(AT_NEW, boot_unfinished=True), "switch", True),
        (replace(AT_NEW, boot_unfinished=True), "test", False),
    ],
)
def test_a_machine_that_is_at_the_goal_needs_nothing(standing, action, activates):
    found = decided(standing, action)
    assert found == (Decision(replace(SWITCH, action=action)) if activates else Decision(None))
    assert found.changes is activates


@pytest.mark.parametrize("option", ["force", "is_activating"])
def test_a_machine_at_the_goal_may_need_an_activation_all_the_same(option):
    assert decided(AT_NEW, **{option: True}) == Decision(SWITCH)


@pytest.mark.parametrize("standing", [AT_OLD, AT_NEW])
def test_a_dry_activation_is_always_made_and_changes_nothing(standing):
    found = decided(standing, "dry-activate", reboot="always")
    assert found == Decision(replace(SWITCH, action="dry-activate"), "never")
    assert not found.changes


@pytest.mark.parametrize(
    ("standing", "action", "reboot", "reboots"),
    [
        (AT_NEW, "switch", "never", False),
        (AT_NEW, "switch", "when_needed", False),
        (AT_NEW, "switch", "always", True),
        (AT_NEW, "test", "always", False),
        (replace(AT_NEW, reboot_parts=("kernel",)), "switch", "when_needed", True),
        (replace(AT_NEW, reboot_parts=("kernel",)), "switch", "never", False),
        (replace(AT_NEW, reboot_parts=("kernel",)), "test", "when_needed", False),
        (BOOTS_NEW, "boot", "when_needed", True),
        (BOOTS_NEW, "boot", "never", False),
    ],
)
def test_a_machine_at_the_goal_may_need_a_reboot(standing, action, reboot, reboots):
    found = decided(standing, action, reboot=reboot)
    # The boot entry is written once more, since it decides what boots.
    again = Decision(replace(SWITCH, action="boot"), "always", only_reboots=True)
    assert found == (again if reboots else Decision(None))


@pytest.mark.parametrize(("action", "reboot"), [("switch", "when_needed"), ("boot", "when_needed"), ("test", "never")])
def test_only_a_system_that_boots_is_rebooted_into(action, reboot):
    assert decided(AT_OLD, action, reboot="when_needed").reboot == reboot


@pytest.mark.parametrize(
    ("action", "rolls_back", "rebooted", "acknowledged"),
    [
        ("switch", True, False, True),
        ("test", True, False, True),
        ("switch", False, False, False),
        ("boot", True, False, False),
        ("boot", True, True, True),
        ("switch", False, True, True),
        ("dry-activate", True, False, False),
    ],
)
def test_what_is_acknowledged(action, rolls_back, rebooted, acknowledged):
    assert is_acknowledged(action, rolls_back=rolls_back, rebooted=rebooted) is acknowledged


def test_a_result_without_an_activation():
    assert result.expected(SWITCH, AT_OLD, decided(AT_OLD)) == {
        "changed": True,
        "toplevel": NEW,
        "action": "switch",
        "old_toplevel": OLD,
        "old_generation": 1,
        "generation": 1,
    }
    assert not result.expected(SWITCH, AT_NEW, decided(AT_NEW))["changed"]


@pytest.mark.parametrize(
    ("action", "after", "needed"),
    [
        ("switch", AT_NEW, False),
        ("switch", replace(AT_NEW, reboot_parts=("kernel",)), True),
        ("boot", BOOTS_NEW, True),
        ("test", TESTS_NEW, False),
    ],
)
def test_the_result_of_an_activation(action, after, needed):
    units = Units(restarted=("a.service",))
    done = Activation(NEW, action, AT_OLD, after, 0, "boot", units, "said", journal={"a.service": ("line",)})
    found = result.as_json(done)
    assert found["reboot_needed"] is needed
    assert found["units"]["restarted"] == ["a.service"]
    assert (found["changed"], found["rolled_back"], found["journal"]) == (True, False, {"a.service": ["line"]})
    assert (found["old_toplevel"], found["running"], found["boots"]) == (OLD, after.running, after.boot_default)


@pytest.mark.parametrize(
    ("action", "running", "settled"),
    [
        ("switch", NEW, True),
        ("boot", NEW, True),
        ("boot", OLD, False),
        ("boot", None, False),
        ("switch", OLD, False),
        # The machine boots what it booted before.
        ("test", NEW, False),
    ],
)
def test_what_only_the_old_system_needs_stays_until_the_new_one_runs_and_boots(action, running, settled):
    assert is_settled(action, NEW, running) == settled
