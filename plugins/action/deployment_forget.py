# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forgets a machine of a deployment."""

from __future__ import annotations

from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_FORGET
from ansible_collections.nix.ops.plugins.plugin_utils import display
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import fact_cache, forgetting, preparation
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.preparation import Subject
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import source
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import check_name


class ActionModule(OpsAction):
    """The action behind ``nix.ops.deployment_forget``."""

    SPECIFICATION = DEPLOYMENT_FORGET

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Remove the machine's own record, then what the controller keeps: its key is needed until then."""
        uuid = source.checked_uuid(options["network"], options["uuid"])
        check_name(options["machine"])
        subject = Subject(uuid, options["deployment"], options["machine"])
        has_record = False if options["offline"] else self._has_record(subject)
        removal = forgetting.of_machine(uuid, subject.deployment, subject.name, options["network"])
        others = fact_cache.entry(self.host)
        is_cached = others.pop(uuid, None) is not None
        result = {
            "changed": has_record or is_cached or bool(removal.paths()),
            "removed": removal.paths(),
            "recorded": has_record,
        }
        say = self.live()
        if not result["changed"]:
            return result
        if self.check:
            for line in (*removal.paths(), *(["its own record"] if has_record else [])):
                say(f"would remove {line}")
            return result
        if options["ask"]:
            self._ask()
        if has_record:
            forgetting.on_machine(self.transport.machine(), uuid)
        forgetting.remove(removal)
        say("forgotten; the machine itself stays as it is")
        if options["offline"]:
            say(f"its own record was left: it is in {forgetting.place_of_record(uuid)} there")
        return {**result, "ansible_facts": {fact_cache.FACT: others}} if is_cached else result

    def _ask(self) -> None:
        """Have the user confirm that the machine is forgotten."""
        answer = display.ask(f"Forget {self.host}? Its key and its state are removed; it stays as it is (y/N)")
        if (answer or "").lower() not in ("y", "yes"):
            why = "the user did not confirm"
            if answer is None:
                why = "the user can't confirm, since this run has no terminal"
            raise OpsError(
                why,
                machine=self.host,
                state="nothing was forgotten",
                next_step="Answer with y, or give -e destroy_confirm=true.",
            )

    def _has_record(self, subject: Subject) -> bool:
        """Return whether the machine has a record, and refuse another machine of the deployment."""
        machine, addresses = self.transport.machine(), self.transport.addresses
        found, record = preparation.reach(machine, addresses, subject, timeout=0, on_line=self.live())
        if found.activating:
            raise forgetting.busy(machine.name)
        return record is not None
