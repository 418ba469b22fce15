# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reboots a NixOS machine."""

from __future__ import annotations

from functools import partial
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_REBOOT
from ansible_collections.nix.ops.plugins.plugin_utils.activation import acknowledgement, health, restart
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.keys import delivery
from ansible_collections.nix.ops.plugins.plugin_utils.keys.delivery import Delivery
from ansible_collections.nix.ops.plugins.plugin_utils.keys.sending import Sent
from ansible_collections.nix.ops.plugins.plugin_utils.keys.task import KeysAction
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing


class ActionModule(KeysAction):
    """The action behind ``nix.ops.nixos_reboot``."""

    SPECIFICATION = NIXOS_REBOOT

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Reboot the machine, and wait until it can be used again."""
        if options["reboot_timeout"] < 1:
            raise OpsError("reboot_timeout has to be at least 1", next_step="Correct 'reboot_timeout'.")
        checks = health.read(options["health_checks"] or {})
        keys = self.delivery(options["keys"]) if options["keys"] else None
        found = description.describe(self.transport.machine())
        before, boots = found.standing, restart.boots(found.standing)
        restart.check(found, self.transport.name)
        self._tell_what_boots(before, boots)
        answer: dict[str, Any] = {"changed": True, "boots": boots, "boot_id_before": before.boot_id}
        if self.check:
            return answer
        if keys:
            # A key without content is better found while the machine has all of its keys.
            keys.check()
        sent: list[Sent] = []
        access = acknowledgement.access(
            self.transport, checks, self.live(), partial(_send, keys, sent) if keys else None
        )
        self.transport.forbid_retries()
        done = restart.restart(
            self.transport.machine(),
            before,
            access,
            hard=options["hard"],
            timeout=options["reboot_timeout"],
            holder=self.holder,
            on_line=self.live(),
        )
        if boots and done.after.running != boots:
            self.warn(f"{self.transport.name}: its boot menu named {boots}, and it has booted {done.after.running}")
        if done.after.failed_units:
            self.warn(f"{self.transport.name}: units failed: {', '.join(done.after.failed_units)}")
        return {
            **answer,
            "booted": done.after.running,
            "boot_id": done.after.boot_id,
            "seconds": round(done.seconds),
            "failed_units": list(done.after.failed_units),
            "key_changes": delivery.as_json(sent[-1]) if sent else {},
        }

    def _tell_what_boots(self, before: Standing, boots: str | None) -> None:
        if boots is None:
            self.warn(f"{self.transport.name} {before.sentence()}")
        elif boots != before.running:
            self.live()(f"it {before.sentence()}")
        if self.check:
            self.live()(f"would reboot into {boots or 'a system that is not known'}")


def _send(keys: Delivery, sent: list[Sent]) -> None:
    sent.append(keys.send())
