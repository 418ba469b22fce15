# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activates a toplevel on a NixOS machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_ACTIVATE
from ansible_collections.nix.ops.plugins.plugin_utils import activation, difference, generations, nix_cli
from ansible_collections.nix.ops.plugins.plugin_utils.activation import Activation, ActivationFailed
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.generations import Description
from ansible_collections.nix.ops.plugins.plugin_utils.ops_action import OpsAction


class ActionModule(OpsAction):
    """The action behind ``nix.ops.nixos_activate``."""

    SPECIFICATION = NIXOS_ACTIVATE

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Activate, unless the machine stands there already."""
        toplevel, action, profile = options["toplevel"], options["action"], options["profile"]
        activation.check_names(toplevel, profile)
        machine = self.machine()
        found = generations.describe(machine, profile=profile, closure=self.wants_diff, units=self.wants_diff)
        needed = options["force"] or not found.standing.stands_at(toplevel, action)
        result: dict[str, Any] = {
            "changed": needed and action != "dry-activate",
            "toplevel": toplevel,
            "old_toplevel": found.standing.running,
            "old_generation": found.standing.generation,
            "generation": found.standing.generation,
        }
        if self.wants_diff:
            result["diff"] = {"prepared": self._difference(found, toplevel)}
        if self.check and action != "dry-activate":
            return result
        if not needed:
            return result
        say = self.live()
        done = activation.activate(
            machine,
            toplevel,
            action,
            profile=profile,
            holder=self.holder,
            on_line=say,
            patience=options["reconnect_timeout"],
        )
        if action != "dry-activate":
            say("activation finished successfully")
        return {**result, "changed": done.changed, **_answer(done)}

    def describe_failure(self, error: OpsError) -> dict[str, Any]:
        """Add what is known of an activation that failed."""
        found = super().describe_failure(error)
        if isinstance(error, ActivationFailed):
            found |= {"changed": error.activation.changed, **_answer(error.activation)}
        return found

    def _difference(self, found: Description, toplevel: str) -> str:
        if not Path(toplevel).exists():
            old = found.standing.running or "nothing"
            return "" if old == toplevel else f"system: {old} → {toplevel}\n"
        new = nix_cli.requisites([toplevel], env=self.environment)
        packages = difference.packages(found.closure, new)
        units = difference.units(found.units, difference.units_of(toplevel))
        if units:
            units = ("units whose files differ (which of them are restarted is decided on the machine):", *units)
        return difference.Difference(packages, units).text()


def _answer(done: Activation) -> dict[str, Any]:
    return {
        "toplevel": done.toplevel,
        "generation": done.after.generation,
        "old_generation": done.before.generation,
        "old_toplevel": done.before.running,
        "running": done.after.running,
        "boots": done.after.boot_default,
        "exit_code": done.exit_code,
        "step": done.step,
        "units": {kind: list(units) for kind, units in asdict(done.units).items()},
        "failed_units": list(done.after.failed_units),
        "output": done.output,
    }
