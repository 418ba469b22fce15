# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists the generations of a deployment's machines."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_GENERATIONS
from ansible_collections.nix.ops.plugins.plugin_utils import display
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import generations, patterns
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError


class ActionModule(OpsAction):
    """The action behind ``nix.ops.deployment_generations``."""

    SPECIFICATION = DEPLOYMENT_GENERATIONS
    _requires_connection = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Show what the machines have told."""
        if options["pattern"] is not None:
            patterns.check("generations_machines", options["pattern"], self.variables)
        if not options["found"]:
            raise OpsError(
                "no machine of a network was asked",
                next_step="Name a network with -i, and correct generations_machines or --limit.",
            )
        listed = generations.listed(options["found"])
        document = json.dumps(listed, indent=2, ensure_ascii=False)
        if not self._task.no_log:
            display.show(document if options["format"] == "json" else generations.as_text(listed))
        if options["file"]:
            display.write(os.path.abspath(options["file"]), f"{document}\n")
        return {"changed": False, **listed}
