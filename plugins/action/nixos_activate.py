# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activates a toplevel on a NixOS machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_ACTIVATE
from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.activation import difference, health, protocol, reboot
from ansible_collections.nix.ops.plugins.plugin_utils.activation.health import Checks
from ansible_collections.nix.ops.plugins.plugin_utils.activation.protocol import (
    Access,
    Activation,
    ActivationFailed,
    Goal,
    Policy,
)
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import fact_cache
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Acknowledged, Activated, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import connection as connections
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.connection import Endpoint
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Description, Standing
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Remembered
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
        """Activate, unless the machine stands there already, and reboot it where that is wanted."""
        goal = Goal(options["toplevel"], options["action"], options["profile"], options["generation"])
        goal.check()
        checks = health.read(options["health_checks"] or {})
        self.destination = self._destination(options["address"], options["port"])
        if options["remember"] and not self.check:
            fact_cache.check()
        standing = description.standing_of(options["found"])
        described = None
        if standing is None or (self.wants_diff and not standing.stands_at(goal.toplevel, goal.action)):
            described = self._described(goal.profile)
            standing = described.standing
        # What stands there while an activation is at work does not stay there unless that is followed.
        at_work = bool((described and described.activating) or options["found"].get("activating"))
        needed = options["force"] or at_work or not standing.stands_at(goal.toplevel, goal.action)
        reboots = not needed and _reboots(standing, goal, options["reboot"])
        result: dict[str, Any] = {
            "changed": (needed and goal.action != "dry-activate") or reboots,
            "toplevel": goal.toplevel,
            "action": goal.action,
            "old_toplevel": standing.running,
            "old_generation": standing.generation,
            "generation": standing.generation,
        }
        if self.wants_diff:
            result["diff"] = {"prepared": self._difference(described, goal.toplevel) if described else ""}
        if self.check and goal.action != "dry-activate":
            return result
        latest = None
        access = self._access(checks)
        if standing.on_trial and goal.action != "dry-activate":
            self._keep(standing, access, options["reboot_timeout"])
        if needed and not options["replace_unknown"]:
            self._check_known(options["remember"], standing.running)
        if needed or reboots:
            # What only is rebooted has its boot entry written once more: it is what boots then.
            how = goal if needed else replace(goal, action="boot")
            done = self._activate(how, options, "always" if reboots else options["reboot"], access)
            if done.exit_code == 4:
                failed = ", ".join(done.units.failed or done.after.failed_units)
                self.warn(f"{self.place}: units failed: {failed}")
            result |= {"changed": done.changed, **_answer(done), "action": goal.action}
            if (goal.action in _ACKNOWLEDGED and options["rollback"] == "auto") or done.rebooted:
                result["acknowledged"] = self._acknowledged()
            if goal.action != "dry-activate":
                latest = Activated(goal.toplevel, goal.action, done.after.generation, done.exit_code, int(time.time()))
                self.live()("activation finished successfully")
        if options["remember"] and not self.check:
            result |= self._remember(options["remember"], latest, result)
            self.live()(_END.get(goal.action, "deployment finished successfully"))
        return result

    def _destination(self, address: str | None, port: int | None) -> Endpoint | None:
        if address is None and port is None:
            return None
        said = connections.endpoint(self._connection)
        if said is None:
            return None
        where = Endpoint(address or said.address, port or said.port)
        where.check()
        return where

    def _access(self, checks: Checks) -> Access:
        check = None
        if checks:
            machine = self.machine()
            address = self.addresses.told.address if self.addresses else None
            check = partial(health.check, checks, machine, address, on_line=self.live())
        return Access(self.confirm, self.confirm_boot, check, checks.deadline if checks else 0)

    def _keep(self, standing: Standing, access: Access, timeout: float) -> None:
        """Acknowledge what was booted by a run that is gone: the machine would boot back otherwise."""
        self.live()("it has booted this system for the first time, and waits to be reached")
        kept = reboot.keep(
            standing, timeout=timeout, confirm=access.confirm_boot, check=access.check, on_line=self.live()
        )
        if kept is not None:
            raise OpsError(
                kept[0],
                machine=self.place,
                state="the machine boots back to what it had booted before",
                next_step="Correct the configuration and deploy again.",
            )

    def _described(self, profile: str) -> Description:
        return description.describe(self.machine(), profile=profile, closure=self.wants_diff, units=self.wants_diff)

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

    def _activate(self, goal: Goal, options: dict[str, Any], reboots: str, access: Access) -> Activation:
        remember = options["remember"]
        machine = self.machine()
        self.stay()
        return protocol.activate(
            machine,
            goal,
            Policy(
                options["rollback"] == "auto",
                options["switch_timeout"],
                options["confirm_timeout"],
                options["failed_units"],
                reboots if goal.action in ("switch", "boot") else "never",
                options["reboot_timeout"],
            ),
            access,
            holder=self.holder,
            deployment=remember["uuid"] if remember else None,
            on_line=self.live(),
            patience=options["reconnect_timeout"],
        )

    def _acknowledged(self) -> dict[str, Any] | None:
        told = self.addresses.told if self.addresses else None
        return {"address": told.address, "port": told.port or 22} if told else None

    def _remember(
        self, remember: dict[str, Any], latest: Activated | None, result: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Add what was activated to the state, and write what the machine's record lacks."""
        uuid = remember["uuid"]
        state, gone = State(uuid, remember["deployment"], remember["machine"]), None
        try:
            state = self.cached_state(uuid) or state
        except OpsError as failure:
            # A cache that has gone meanwhile keeps nothing from the machine's record, which has the rest.
            gone = failure
        if remember["inputs"]:
            state = replace(state, inputs=Remembered(**remember["inputs"]))
        # Whose work stands there is not known without the cache.
        adopted = latest is None and gone is None and states.is_news(state, result["toplevel"], result["action"])
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
        return {"changed": changed, **(self.no_fact(gone) if gone else self.state_fact(state))}

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
        new = nix.requisites([toplevel], env=self.environment)
        packages = difference.packages(found.closure, new)
        units = difference.units(found.units, difference.units_of(toplevel))
        if units:
            units = ("units whose files differ (which of them are restarted is decided on the machine):", *units)
        return difference.Difference(packages, units, difference.reboot(found.booted_parts, toplevel)).text()


def _reboots(standing: Standing, goal: Goal, when: str) -> bool:
    """Whether a machine that has nothing else to do is to be rebooted."""
    if goal.action not in ("switch", "boot") or when == "never":
        return False
    return when == "always" or bool(standing.reboot_parts) or standing.running != goal.toplevel


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
        "unhealthy": list(done.unhealthy),
        "rebooted": done.rebooted,
        "reboot_needed": bool(done.after.reboot_parts)
        or (done.action in ("switch", "boot") and done.after.running != done.after.profile),
        "units": {kind: list(units) for kind, units in asdict(done.units).items()},
        "failed_units": list(done.after.failed_units),
        "journal": {unit: list(lines) for unit, lines in done.journal.items()},
        "output": done.output,
    }
