# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activates a toplevel on a NixOS machine."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_ACTIVATE
from ansible_collections.nix.ops.plugins.plugin_utils import display
from ansible_collections.nix.ops.plugins.plugin_utils.activation import (
    acknowledgement,
    decision,
    difference,
    health,
    protocol,
    result,
    settings,
    specialisation,
)
from ansible_collections.nix.ops.plugins.plugin_utils.activation.decision import Decision
from ansible_collections.nix.ops.plugins.plugin_utils.activation.protocol import (
    Access,
    Activation,
    ActivationFailed,
    Goal,
    Policy,
)
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import checkout, fact_cache, outcome
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import record as records
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.outcome import Outcome
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.keys import delivery
from ansible_collections.nix.ops.plugins.plugin_utils.keys.delivery import Delivery
from ansible_collections.nix.ops.plugins.plugin_utils.keys.task import KeysAction
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Description, Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import IDENTITY, UNTOUCHED, ConnectionLost
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.signals import told_if_ended

# The name of an option in a message.
_OPTION = re.compile(r"'([a-z_]+)'")

# What the boot entry of a system is told of, not its specialisation.
_OF_BOOT = ("generation", "boots", "ansible_facts", "reboot_needed", "reboot_parts")

_END = {
    "test": "test activation finished; the machine still boots what it booted before",
    "dry-activate": "dry activation finished; nothing was activated",
}


class ActionModule(KeysAction):
    """The action behind ``nix.ops.nixos_activate``."""

    SPECIFICATION = NIXOS_ACTIVATE
    USED: Mapping[str, Collection[str]] = {
        **KeysAction.USED,
        "found": {*description.OF_STANDING, *IDENTITY, "activating"},
    }

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Activate unless the machine is at the goal already, and remember the outcome."""
        return self._specialise(options) if options["specialisation"] else self._perform(options)

    def _specialise(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Run a specialisation of a system, and boot the system."""
        name, action = options["specialisation"], options["action"]
        if action == "boot" or options["reboot"] != "never":
            raise OpsError(
                "a system boots without its specialisation",
                state="nothing was touched",
                next_step="Leave out 'specialisation', or set 'action' to switch and 'reboot' to never.",
            )
        self.transport.expect(options["expected"] or options["found"])
        runs = specialisation.find(self.transport.machine(), options["toplevel"], name)
        first = "test" if action == "switch" else action
        done = self._perform({**options, "toplevel": runs, "action": first}, is_last=action != "switch")
        if action == "switch":
            # The keys were sent. If it was activated, what an earlier task has found is no longer so.
            found = {} if "exit_code" in done else options["found"]
            booted = self._perform({**options, "action": "boot", "keys": None, "force": False, "found": found})
            done = {**booted, **done, **{one: booted[one] for one in booted if one in _OF_BOOT}} | {
                "changed": done["changed"] or booted["changed"]
            }
        return {**done, "toplevel": options["toplevel"], "action": action, "specialisation": name}

    def _perform(self, options: dict[str, Any], *, is_last: bool = True) -> dict[str, Any]:
        """Activate a toplevel.

        :param is_last: whether nothing else is activated after it.
        """
        goal = Goal(options["toplevel"], options["action"], options["profile"], options["generation"])
        goal.check()
        health.read(options["health_checks"] or {})
        keys = self._keys(options["keys"], preview=self.check or goal.action == "dry-activate")
        self.transport.expect(options["expected"] or options["found"])
        self.transport.set_destination(options["address"], options["port"])
        if options["remember"] and not self.check:
            outcome.check_deploy(options["remember"]["deploy"])
            fact_cache.check(options["remember"]["uuid"])
        standing, described = self._found(goal, options["found"])
        is_activating = bool((described and described.activating) or options["found"].get("activating"))
        decided = decision.decide(
            standing, goal, force=options["force"], is_activating=is_activating, reboot=options["reboot"]
        )
        answer = result.expected(goal, standing, decided)
        if self.wants_diff:
            text = difference.text(described, goal.toplevel, self.environment) if described else ""
            answer["diff"] = {"prepared": text}
        if keys and (self.check or goal.action == "dry-activate"):
            self._preview(keys, goal, decided, standing, answer)
        if self.check and goal.action != "dry-activate":
            return answer
        sends = keys if goal.action != "dry-activate" else None
        done = self._bring(goal, decided, standing, sends, options)
        if done:
            answer |= {**result.as_json(done), "action": goal.action, **self._acknowledged(done, goal, options)}
        # The machine's record says what runs, even if keys can't be sent now.
        if options["remember"] and not self.check:
            answer |= self._remember(options["remember"], standing, done, answer)
        if sends:
            self._send_after(sends, goal, done.after if done else standing, is_activated=done is not None)
            answer |= {"changed": answer["changed"] or bool(sends.sent), "key_changes": delivery.as_json(sends.sent)}
        if options["remember"] and not self.check and is_last:
            self.live()(_END.get(goal.action, "deployment finished successfully"))
        return answer

    def _keys(self, options: Mapping[str, Any] | None, *, preview: bool) -> Delivery | None:
        if options is None:
            return None
        keys = self.delivery(options)
        if not preview:
            keys.check()
        return keys

    def _preview(
        self, keys: Delivery, goal: Goal, decided: Decision, standing: Standing, answer: dict[str, Any]
    ) -> None:
        # A dry activation shows what a switch would do.
        action = "switch" if goal.action == "dry-activate" else goal.action
        stays = action == "boot" and decided.reboot == "never"
        running = standing.running if stays else goal.toplevel
        found = keys.preview(whole=decision.is_settled(action, goal.toplevel, running))
        answer["key_changes"] = delivery.as_json(found.sent, found.unknown)
        answer["changed"] = answer["changed"] or (self.check and bool(found.sent))
        if self.wants_diff:
            text = answer["diff"]["prepared"]
            answer["diff"] = {"prepared": text + delivery.difference(found.sent, found.unknown)}

    def _bring(
        self, goal: Goal, decided: Decision, standing: Standing, keys: Delivery | None, options: Mapping[str, Any]
    ) -> Activation | None:
        """Bring the machine to the goal, if it is not there, with the keys that it needs for that."""
        checks = health.read(options["health_checks"] or {})
        access = acknowledgement.access(self.transport, checks, self.live(), keys.send if keys else None)
        if standing.on_trial and goal.action != "dry-activate":
            # What runs may lack users of the goal's keys.
            arrive = partial(keys.send, lenient=True) if keys else None
            acknowledgement.keep_trial(
                self.transport.name,
                standing,
                replace(access, arrive=arrive),
                timeout=options["reboot_timeout"],
                on_line=self.live(),
            )
        if not decided.goal:
            return None
        try:
            if keys:
                keys.send_before()
            return self._reach(decided.goal, decided, standing, access, options)
        except (ConnectionLost, OpsError) as failure:
            if keys and not isinstance(failure, ActivationFailed):
                keys.take_back()
            raise

    def _send_after(self, keys: Delivery, goal: Goal, now: Standing, *, is_activated: bool) -> None:
        """Send what is left after an activation, or all keys if there was none."""
        # A system that only boots next has not made its users yet, and what still runs needs the keys that it had.
        whole, lenient = decision.is_settled(goal.action, goal.toplevel, now.running), now.running != goal.toplevel
        try:
            if is_activated:
                keys.send_after(whole=whole, lenient=lenient)
            else:
                keys.send(whole=whole, lenient=lenient)
        except (ConnectionLost, OpsError) as failure:
            if is_activated:
                keys_are = (
                    failure.state if failure.state and failure.state != UNTOUCHED else "its keys may be the old ones"
                )
                failure.state = f"the system was activated; {keys_are}"
            raise
        for line in delivery.remaining(keys.sent):
            self.live()(line)

    def _found(self, goal: Goal, found: Mapping[str, Any]) -> tuple[Standing, Description | None]:
        """Return what the machine stands at; asks the machine if that is not known, or a difference is to be shown."""
        standing = description.standing_of(found)
        if standing is not None and (not self.wants_diff or standing.stands_at(goal.toplevel, goal.action)):
            return standing, None
        described = description.describe(self.transport.machine(), profile=goal.profile, contents=self.wants_diff)
        return described.standing, described

    def _reach(
        self, goal: Goal, decided: Decision, standing: Standing, access: Access, options: Mapping[str, Any]
    ) -> Activation:
        """Activate what was decided; remember it also if it fails."""
        try:
            with told_if_ended(_ended(self.transport.name, options["rollback"])) as tell:
                return self._activate(goal, decided, standing, access, options, tell)
        except ActivationFailed as failed:
            if options["remember"] and goal.action != "dry-activate":
                self._remember_failure(options["remember"], goal.action, failed.activation)
            raise

    def _activate(
        self,
        goal: Goal,
        decided: Decision,
        standing: Standing,
        access: Access,
        options: Mapping[str, Any],
        tell_if_ended: LineSink,
    ) -> Activation:
        remember = options["remember"]
        if not decided.only_reboots and not options["replace_unknown"]:
            state = self._cached(remember["uuid"]) if remember else None
            outcome.check_known(state, standing.running, self.transport.name)
        policy = Policy(
            options["rollback"] == "auto",
            options["switch_timeout"],
            options["confirm_timeout"],
            options["failed_units"],
            decided.reboot,
            options["reboot_timeout"],
            options["boot_timeout"],
            keeps_keys=bool(options["keys"] and options["keys"]["keep_old"]),
        )
        machine = self.transport.machine(
            None if options["sync"] else {**self.environment, "NIXOS_NO_SYNC": "1"},
        )
        self.transport.forbid_retries()
        done = protocol.activate(
            machine,
            goal,
            policy,
            access,
            holder=self.holder,
            deployment=remember["uuid"] if remember else None,
            on_line=self.live(),
            on_course=lambda state: tell_if_ended(_ended(machine.name, options["rollback"], state)),
            patience=options["reconnect_timeout"],
        )
        if done.exit_code == 4:
            self.warn(f"{self.transport.name}: units failed: {', '.join(done.failed_units or done.units.failed)}")
        if done.foreign_units:
            foreign = ", ".join(done.foreign_units)
            self.warn(f"{self.transport.name}: units failed that are not of this system: {foreign}")
        if goal.action != "dry-activate":
            self.live()("activation finished successfully")
        return done

    def _acknowledged(self, done: Activation, goal: Goal, options: Mapping[str, Any]) -> dict[str, Any]:
        rolls_back = options["rollback"] == "auto"
        if not decision.is_acknowledged(goal.action, rolls_back=rolls_back, rebooted=done.rebooted):
            return {}
        addresses = self.transport.addresses
        told = addresses.told if addresses else None
        return {"acknowledged": {"address": told.address, "port": told.port or 22} if told else None}

    def _cached(self, uuid: str) -> State | None:
        return fact_cache.read_state(self.host, uuid, on_line=self.live())

    def _remember(
        self, remember: Mapping[str, Any], standing: Standing, done: Activation | None, answer: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write the outcome into the machine's record and return it as a fact."""
        cached, gone = None, None
        try:
            cached = self._cached(remember["uuid"])
        except OpsError as failure:
            # The cache was there when the task began. The machine's record gets the outcome all the same.
            gone = failure
        latest = None
        if done is not None and answer["action"] != "dry-activate":
            latest = outcome.of_activation(done, answer["action"], remember["uuid"], now=int(time.time()))
        new = Outcome(
            answer["toplevel"],
            answer["action"],
            answer["generation"],
            latest,
            answer.get("acknowledged"),
            outcome.before(done.before if done else standing, remember["uuid"]),
        )
        origin = checkout.origin(self.variables)
        update = outcome.update(cached, remember, new, origin=origin, now=int(time.time()), is_cached=gone is None)
        state = update.state
        if update.writes_record:
            self.transport.forbid_retries()
            state = records.write_or_warn(self.transport.machine(), state, self.host, self.warn)
        facts = (
            fact_cache.no_facts(self.host, gone, self.warn) if gone else fact_cache.facts(self.host, state, self.warn)
        )
        return {"changed": answer["changed"] or update.changed, **facts}

    def _remember_failure(self, remember: Mapping[str, Any], action: str, done: Activation) -> None:
        """Write an activation that failed into the machine's record. Ansible drops the facts of a failed task."""
        try:
            cached = self._cached(remember["uuid"])
        except OpsError:
            cached = None
        latest = outcome.of_activation(done, action, remember["uuid"], now=int(time.time()))
        previous = outcome.before(done.before, remember["uuid"])
        new = Outcome(done.toplevel, action, done.after.generation, latest, previous=previous)
        origin, is_cached = checkout.origin(self.variables), cached is not None
        state = outcome.update(cached, remember, new, origin=origin, now=int(time.time()), is_cached=is_cached).state
        try:
            records.write(self.transport.machine(), state)
        except (ConnectionLost, OpsError) as failure:
            self.warn(
                f"{self.host}: its own record could not be written: {failure}\n"
                "The next deployment finds the machine's note of this activation, and writes the record."
            )

    def describe_failure(self, error: OpsError) -> dict[str, Any]:
        """Add the result of an activation that failed."""
        if isinstance(error, ActivationFailed):
            # The rest was shown while it happened, and is in the result.
            error.output = error.journal or None
        if error.next_step:
            error.next_step = _OPTION.sub(self._variable, error.next_step)
        found = super().describe_failure(error)
        if isinstance(error, ActivationFailed):
            found |= result.as_json(error.activation)
        return found

    def _variable(self, option: re.Match[str]) -> str:
        """Return under which name the user sets an option of this task: a role or a deploy has variables for that."""
        name = option[1]
        if self._task._role is None or name not in self.SPECIFICATION["argument_spec"]:
            return option[0]
        of_role = f"activate_{name}"
        roles = [role.get_name() for role in self._task.get_dep_chain() or ()]
        return settings.OF_ROLES.get(of_role, of_role) if "nix.ops.deploy" in roles else of_role


def _ended(machine: str, rollback: str, state: str | None = None) -> str:
    """Return what the user is told if the run ends during an activation.

    :param state: what the machine does by itself; None if it is not known whether the activation has begun.
    """
    back = "; without an acknowledgement the machine goes back" if rollback == "auto" else ""
    ended = OpsError(
        "this run has ended while it activates a system there",
        machine=machine,
        state=state or f"if the activation has begun, it goes on by itself{back}",
        next_step="Run the same again. It follows the activation to its end, or tells how it ended.",
    )
    return display.plain(str(ended))
