# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the objects of AWX to what definitions say."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import AWX_OBJECTS
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.awx.api import Api
from ansible_collections.nix.ops.plugins.plugin_utils.awx.setup import Wish, set_up


class ActionModule(OpsAction):
    """The action behind ``nix.ops.awx_objects``."""

    SPECIFICATION = AWX_OBJECTS
    _requires_connection = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Set AWX up, and say what the inventory has."""
        removes_all = options["state"] == "absent"
        wish = Wish(
            options["name"],
            options["organization"],
            {} if removes_all else options["definitions"],
            removes_all=removes_all,
            new_secrets=options["update_secrets"],
            within=float(options["timeout"]),
        )
        say = self.live("AWX")
        done = set_up(Api({**os.environ, **self.environment}), wish, check=self.check, say=say)
        if done.hosts is not None:
            say(f"the inventory has {len(done.hosts)} machines: {', '.join(done.hosts)}")
        result: dict[str, Any] = {"changed": bool(done.changes), "changes": done.changes, "hosts": done.hosts or []}
        if self.wants_diff and done.changes:
            result["diff"] = {"prepared": "".join(f"{line}\n" for line in done.changes)}
        return result
