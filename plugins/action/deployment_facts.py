# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a machine what it runs, and puts together what is remembered of it."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_FACTS
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import record as records
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import ssh_keys
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.record import Record
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Acknowledged, Activated, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Remembered
from ansible_collections.nix.ops.plugins.plugin_utils.state_action import StateAction

# An SSH server that is there and says no will say so again.
_FINAL = ("permission denied", "host key", "too many authentication failures")


class ActionModule(StateAction):
    """The action behind ``nix.ops.deployment_facts``."""

    SPECIFICATION = DEPLOYMENT_FACTS

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Ask the machine once, merge, and decide the inputs that are still unknown."""
        uuid, name = options["uuid"], options["machine"]
        # Who only looks makes nothing that could be lost.
        cached = self.cached_state(uuid, keeps=options["provision"] and not self.check)
        found, record = self._reach(uuid, name, options["timeout"] if cached is None else 0)
        merged = states.merge(cached, record.state if record else None)
        if cached is None and merged is not None:
            self.live()(f"what is remembered of it was found on the machine ({_last(merged)})")
        known = merged or State(uuid, options["deployment"], name)
        last = None if found.activating else records.read_last(found.last_activation, uuid)
        self._tell_interrupted(known, last, found)
        known = states.found(known, last)
        inputs, generated = self._inputs(known.inputs, found, options)
        state = replace(known, deployment=options["deployment"], inputs=inputs, acknowledged=self._acknowledged(known))
        answer = {
            "changed": generated,
            "inputs": asdict(inputs),
            "state": states.as_json(state),
            "recorded": record is not None and record.state is not None and _same(record.state, state),
            "address": state.acknowledged.address if state.acknowledged else None,
            "port": state.acknowledged.port if state.acknowledged else None,
            **description.as_json(found),
        }
        if self.check:
            # Ansible would keep facts of check mode as well.
            return answer
        return {**answer, **self.state_fact(state)}

    def _reach(self, uuid: str, name: str, timeout: float) -> tuple[Description, Record | None]:
        """Describe the machine, at whichever of its addresses it is found."""
        machine = self.machine()
        if timeout:
            self.live()("waiting for SSH...")
        deadline = time.monotonic() + timeout
        while True:
            try:
                found = description.describe(machine, record=uuid)
            except ConnectionLost as lost:
                if time.monotonic() > deadline or any(text in str(lost).lower() for text in _FINAL):
                    raise
                # A refused connection answers at once; the machine is given a moment.
                time.sleep(1)
                continue
            record = records.read(found.record, uuid)
            if self._is_elsewhere(record):
                continue
            self._check_is(name, record, machine)
            return found, record

    def _tell_interrupted(self, known: State, last: Activated | None, found: Description) -> None:
        """Say what nobody has seen yet: an activation that was killed, or ended by a machine that went down."""
        if last is not None and last.exit_code is None and states.found(known, last) != known:
            began = time.strftime("%Y-%m-%d %H:%M", time.localtime(last.time))
            self.live()(f"an earlier activation of {last.toplevel}, at {began}, was interrupted")
            self.live()(f"it {found.standing.sentence()}")
        if found.standing.boot_unfinished:
            self.live()(f"the boot entry of {found.standing.profile} was not written yet")

    def _is_elsewhere(self, record: Record | None) -> bool:
        """Whether who answers at the old address is another: then the new address is tried."""
        if self.addresses is None or self.addresses.now == self.addresses.told or record is not None:
            return False
        self.live()(
            f"what answers at {self.addresses.now} has no record of this deployment; trying {self.addresses.told}"
        )
        self.addresses.settle()
        return True

    def _check_is(self, name: str, record: Record | None, machine: Machine) -> None:
        if record is None:
            return
        if record.damage:
            self.live()(f"the machine's own record is damaged ({record.damage}): it is written anew")
        elif record.state is not None and record.state.machine != name:
            where = f" at {self.addresses.now}" if self.addresses else ""
            raise OpsError(
                f"the machine{where} has a record that it is {record.state.machine} of this deployment",
                machine=machine.name,
                state="nothing was touched",
                next_step="Correct deployment.targetHost. If the machine has a new name in the network, run this on it:"
                f" {records.removing(record.state.uuid)}",
            )

    def _inputs(self, known: Remembered, found: Description, options: dict[str, Any]) -> tuple[Remembered, bool]:
        say = self.live()
        version = known.state_version or found.release
        if version is None:
            say("cannot determine NixOS version")
        elif known.state_version is None:
            say(f"setting state version to {version}")
        if not options["ssh_key"]:
            return Remembered(version), False
        # The private key that is there decides: whoever puts another one there wants that.
        path = options["ssh_key"]
        public = ssh_keys.public_key(path) or known.ssh_public_key
        if public or self.check or not options["provision"]:
            return Remembered(version, public), False
        if reason := ssh_keys.why_not_kept(path, os.environ, self.variables):
            say(f"generating no SSH key pair: {reason}")
            return Remembered(version), False
        public = ssh_keys.generate(path, ssh_keys.comment(options["machine"], options["deployment"]))
        say("generating new SSH key pair... done")
        return Remembered(version, public), True

    def _acknowledged(self, known: State) -> Acknowledged | None:
        """Where the machine has just been reached; the time counts only where that is news."""
        if self.addresses is None:
            return known.acknowledged
        address, port = self.addresses.now.address, self.addresses.now.port or 22
        before = known.acknowledged
        if before is not None and (before.address, before.port) == (address, port):
            return before
        return Acknowledged(address, port, int(time.time()))


def _same(recorded: State, state: State) -> bool:
    """Whether a machine's record has all that is remembered of it."""
    return recorded.inputs == state.inputs and recorded.revision >= state.revision


def _last(state: State) -> str:
    if state.deployed is None:
        return "never deployed"
    return "last deployed " + time.strftime("%Y-%m-%d %H:%M", time.localtime(state.deployed.time))
