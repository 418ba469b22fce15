# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells which activation is at work on a machine, and ends it safely."""

from __future__ import annotations

from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_UNLOCK
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.activation import unlock


class ActionModule(OpsAction):
    """The action behind ``nix.ops.nixos_unlock``."""

    SPECIFICATION = NIXOS_UNLOCK

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Ask who is at work; end it if the user wants that."""
        machine, say = self.transport.machine(), self.live()
        if options["end"] and not self.check:
            found, after = unlock.end(machine, holder=self.holder, on_line=say, patience=options["reconnect_timeout"])
            stands = {"running": after.standing.running, "boot_default": after.standing.boot_default}
        else:
            found, stands = unlock.look(machine), {}
            if found is not None and not options["end"]:
                raise unlock.busy(machine.name, found)
            if found is not None:
                say(found.sentence())
        if found is None:
            say("no activation is at work")
            return {"changed": False, "activation": None}
        return {"changed": True, "activation": found.as_json(), **stands}
