# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports which machines are up and well."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_CHECK
from ansible_collections.nix.ops.plugins.plugin_utils import display
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import checking, patterns
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError


class ActionModule(OpsAction):
    """The action behind ``nix.ops.deployment_check``."""

    SPECIFICATION = DEPLOYMENT_CHECK
    _requires_connection = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Show what was found of each machine."""
        if options["pattern"] is not None:
            patterns.check("check_machines", options["pattern"], self.variables)
        if not options["found"]:
            raise OpsError(
                "no machine was asked",
                next_step="Name a network with -i, or list what there is with nix.ops.list.",
            )
        found = checking.report(options["found"])
        document = json.dumps(found, indent=2, ensure_ascii=False)
        if not self._task.no_log:
            display.show(document if options["format"] == "json" else checking.as_text(found))
        if options["file"]:
            display.write(os.path.abspath(options["file"]), f"{document}\n")
        result: dict[str, Any] = {"changed": False, **found}
        if error := _failure(options):
            result |= self.describe_failure(error)
            self.tell(error)
        return result


def _failure(options: dict[str, Any]) -> OpsError | None:
    if unchecked := checking.unchecked(options["found"]):
        return OpsError(
            "Some machines were not checked.",
            output="\n".join(unchecked),
            state="nothing was changed",
            next_step="Correct what the lines above name, then run the same again.",
        )
    if wrong := checking.wrong(checking.report(options["found"]), options["fail_on"]):
        return OpsError(
            "Some machines match fail_on.",
            output="\n".join(wrong),
            state="nothing was changed",
            next_step="Correct what the notes of the table name.",
        )
    return None
