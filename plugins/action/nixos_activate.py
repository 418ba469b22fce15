# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activates a toplevel on a NixOS machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_ACTIVATE
from ansible_collections.nix.ops.plugins.plugin_utils import activation, difference, fact_cache, generations, nix_cli
from ansible_collections.nix.ops.plugins.plugin_utils import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.activation import (
    Activation,
    ActivationFailed,
    Policy,
)
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.evaluation import Remembered
from ansible_collections.nix.ops.plugins.plugin_utils.generations import Description
from ansible_collections.nix.ops.plugins.plugin_utils.state import Acknowledged, Activated, State
from ansible_collections.nix.ops.plugins.plugin_utils.state_action import StateAction

# After these the machine runs another system, and another sshd may be in it.
_ACKNOWLEDGED = ("switch", "test")

_END = {
    "test": "test activation finished; the machine still boots what it booted before",
    "dry-activate": "dry activation finished; nothing was activated",
}


class ActionModule(StateAction):
    """The action behind ``nix.ops.nixos_activate``."""

    SPECIFICATION = NIXOS_ACTIVATE

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Activate, unless the machine stands there already."""
        toplevel, action = options["toplevel"], options["action"]
        activation.check_names(toplevel, options["profile"])
        if options["remember"] and not self.check:
            fact_cache.check()
        standing = generations.standing_of(options["found"])
        described = None
        if standing is None or (self.wants_diff and not standing.stands_at(toplevel, action)):
            described = self._described(options["profile"])
            standing = described.standing
        needed = options["force"] or not standing.stands_at(toplevel, action)
        result: dict[str, Any] = {
            "changed": needed and action != "dry-activate",
            "toplevel": toplevel,
            "action": action,
            "old_toplevel": standing.running,
            "old_generation": standing.generation,
            "generation": standing.generation,
        }
        if self.wants_diff:
            result["diff"] = {"prepared": self._difference(described, toplevel) if described else ""}
        if self.check and action != "dry-activate":
            return result
        latest = None
        if needed and not options["replace_unknown"]:
            self._check_known(options["remember"], standing.running)
        if needed:
            done = self._activate(options)
            if done.exit_code == 4:
                failed = ", ".join(done.units.failed or done.after.failed_units)
                self._display.warning(f"{self.place}: units failed: {failed}")
            result |= {"changed": done.changed, **_answer(done)}
            if action in _ACKNOWLEDGED and options["rollback"] == "auto":
                result["acknowledged"] = self._acknowledged()
            if action != "dry-activate":
                latest = Activated(toplevel, action, done.after.generation, done.exit_code, int(time.time()))
                self.live()("activation finished successfully")
        if options["remember"] and not self.check:
            result |= self._remember(options["remember"], latest, result)
            self.live()(_END.get(action, "deployment finished successfully"))
        return result

    def _described(self, profile: str) -> Description:
        return generations.describe(self.machine(), profile=profile, closure=self.wants_diff, units=self.wants_diff)

    def _check_known(self, remember: dict[str, Any] | None, running: str | None) -> None:
        state = self.cached_state(remember["uuid"]) if remember else None
        if running is None or running in [one.toplevel for one in (state.activations if state else ())]:
            return
        raise OpsError(
            f"the machine runs {running}, which nothing that is remembered of it knows",
            machine=self.place,
            state="nothing was activated",
            next_step="Find out who deployed that. To replace it all the same, set 'replace_unknown' to true.",
        )

    def _activate(self, options: dict[str, Any]) -> Activation:
        remember = options["remember"]
        return activation.activate(
            self.machine(),
            options["toplevel"],
            options["action"],
            profile=options["profile"],
            holder=self.holder,
            deployment=remember["uuid"] if remember else None,
            policy=Policy(options["rollback"] == "auto", options["confirm_timeout"], options["failed_units"]),
            confirm=self.acknowledge,
            on_line=self.live(),
            patience=options["reconnect_timeout"],
        )

    def _acknowledged(self) -> dict[str, Any] | None:
        told = self.ways.told if self.ways else None
        return {"address": told.address, "port": told.port or 22} if told else None

    def _remember(
        self, remember: dict[str, Any], latest: Activated | None, result: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Add what was activated to the state, and write what the machine's record lacks."""
        uuid = remember["uuid"]
        state = self.cached_state(uuid) or State(uuid, remember["deployment"], remember["machine"])
        if remember["inputs"]:
            state = replace(state, inputs=Remembered(**remember["inputs"]))
        adopted = latest is None and states.is_news(state, result["toplevel"], result["action"])
        if adopted:
            # It stood there already, by someone else's work.
            latest = Activated(result["toplevel"], result["action"], result["generation"], 0, int(time.time()))
        if latest is not None:
            state = states.activated(state, latest, remember["members"])
        where = result.get("acknowledged")
        if where is not None:
            state = replace(state, acknowledged=Acknowledged(where["address"], where["port"], int(time.time())))
        incomplete = not remember["recorded"] and result["action"] != "dry-activate"
        if latest is not None or incomplete:
            state = self.write_record(state)
        changed = result["changed"] or adopted or incomplete
        return {"changed": changed, "ansible_facts": self.state_fact(state)}

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
        "action": done.action,
        "generation": done.after.generation,
        "old_generation": done.before.generation,
        "old_toplevel": done.before.running,
        "running": done.after.running,
        "boots": done.after.boot_default,
        "exit_code": done.exit_code,
        "step": done.step,
        "rolled_back": done.rolled_back != "no",
        "units": {kind: list(units) for kind, units in asdict(done.units).items()},
        "failed_units": list(done.after.failed_units),
        "output": done.output,
    }
