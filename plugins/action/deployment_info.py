# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells how deployments stand."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_INFO
from ansible_collections.nix.ops.plugins.plugin_utils import display
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import discovery, patterns, report
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError


class ActionModule(OpsAction):
    """The action behind ``nix.ops.deployment_info``."""

    SPECIFICATION = DEPLOYMENT_INFO
    _requires_connection = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Compare what each network wants with what was found and what is remembered."""
        if options["pattern"] is not None:
            patterns.check("info_machines", options["pattern"], self.variables)
        reports = [
            report.report(
                one,
                options["found"],
                env=self.environment,
                on_line=self.live(one.name),
                warn=self.warn,
            )
            for one in self._deployments(options["networks"])
        ]
        found = [report.as_json(one) for one in reports]
        document = json.dumps(found, indent=2, ensure_ascii=False)
        if not self._task.no_log:
            texts = [document] if options["format"] == "json" else map(report.as_text, reports)
            display.show("\n\n".join(texts))
        if options["file"]:
            display.write(os.path.abspath(options["file"]), f"{document}\n")
        result: dict[str, Any] = {"changed": False, "deployments": found}
        wrong = [line for one in reports for line in report.wrong(one, options["fail_on"], options["found"])]
        if wrong:
            error = OpsError(
                "Some machines match fail_on.",
                output="\n".join(wrong),
                state="nothing was changed",
                next_step="Preview with --check --diff what a deploy would change, then deploy.",
            )
            result |= self.describe_failure(error)
            self.tell(error)
        return result

    def _deployments(self, sources: list[str] | None) -> list[Deployment]:
        there = discovery.of_inventory(self.variables.get("hostvars") or {}, self._loader.load_from_file)
        if sources is not None:
            wanted = [os.path.abspath(source) for source in sources]
            there = [one for one in there if one.path in wanted]
        if not there:
            raise OpsError(
                "the inventory has no machine of a network",
                next_step="Name a network with -i, or list what there is with nix.ops.list.",
            )
        return sorted(there, key=lambda one: (one.name, one.uuid))
