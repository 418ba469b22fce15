# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends a machine its keys."""

from __future__ import annotations

from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_KEYS
from ansible_collections.nix.ops.plugins.plugin_utils.keys import delivery
from ansible_collections.nix.ops.plugins.plugin_utils.keys.sending import Sent
from ansible_collections.nix.ops.plugins.plugin_utils.keys.task import KeysAction


class ActionModule(KeysAction):
    """The action behind ``nix.ops.nixos_keys``."""

    SPECIFICATION = NIXOS_KEYS

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Send the keys that differ. What runs may need those that left the network, so that they stay."""
        self.transport.expect(options["expected"])
        keys = self.delivery(options)
        if options["old"]:
            back = () if self.check else keys.treat_old(options["old"])
            return {"changed": bool(back), **delivery.as_json(Sent(changed=back))}
        if self.check:
            found = keys.preview(options["names"], whole=False)
            sent, unknown = found.sent, found.unknown
        else:
            sent, unknown = keys.send(options["names"]), ()
        for line in delivery.remaining(sent):
            self.live()(line)
        answer = {"changed": bool(sent), **delivery.as_json(sent, unknown)}
        return answer | ({"diff": {"prepared": delivery.difference(sent, unknown)}} if self.wants_diff else {})
