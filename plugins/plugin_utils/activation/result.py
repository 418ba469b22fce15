# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down an activation as the plain values that a module returns."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.activation.decision import Decision
from ansible_collections.nix.ops.plugins.plugin_utils.activation.protocol import Activation, Goal
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing


def expected(goal: Goal, standing: Standing, decision: Decision) -> dict[str, Any]:
    """Return the result of an activation that was not made, in check mode or because there is nothing to do."""
    return {
        "changed": decision.changes,
        "toplevel": goal.toplevel,
        "action": goal.action,
        "old_toplevel": standing.running,
        "old_generation": standing.generation,
        "generation": standing.generation,
    }


def as_json(done: Activation) -> dict[str, Any]:
    """Return the result of an activation that ended."""
    boots_another = done.action in ("switch", "boot") and done.after.running != done.after.profile
    return {
        "changed": done.changed,
        "toplevel": done.toplevel,
        "action": done.action,
        "generation": done.after.generation,
        "old_generation": done.before.generation,
        "old_toplevel": done.before.running,
        "running": done.after.running,
        "boots": done.after.boot_default,
        "exit_code": done.exit_code,
        "step": done.step,
        "rolled_back": done.rolled_back != "no",
        "unhealthy": list(done.unhealthy),
        "rebooted": done.rebooted,
        "reboot_needed": bool(done.after.reboot_parts) or boots_another,
        "reboot_parts": list(done.after.reboot_parts),
        "units": {kind: list(units) for kind, units in asdict(done.units).items()},
        "failed_units": list(done.after.failed_units),
        "foreign_units": list(done.foreign_units),
        "journal": {unit: list(lines) for unit, lines in done.journal.items()},
        "output": done.output,
    }
