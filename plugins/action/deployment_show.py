# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows what a network says."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_SHOW
from ansible_collections.nix.ops.plugins.plugin_utils import display
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import discovery
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.table import Column, table
from ansible_collections.nix.ops.plugins.plugin_utils.deployment_action import DeploymentAction, readable
from ansible_collections.nix.ops.plugins.plugin_utils.network import inspection
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Remembered

_ARGUMENTS = (Column("Argument"), Column("Value"), Column("Files"))


class ActionModule(DeploymentAction):
    """The action behind ``nix.ops.deployment_show``."""

    SPECIFICATION = DEPLOYMENT_SHOW

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Evaluate what is asked for, and show it."""
        deployment = self.chosen(options)
        shown = self._ask(deployment, options)
        document = json.dumps(shown, indent=2, ensure_ascii=False)
        if not self._task.no_log:
            is_table = options["show"] == "arguments" and options["format"] == "table"
            display.show(_table(shown) if is_table else document)
        if options["file"]:
            display.write(os.path.abspath(options["file"]), f"{document}\n")
        return {"changed": False, options["show"]: shown}

    def _ask(self, deployment: Deployment, options: dict[str, Any]) -> Any:
        network, env, say = readable(deployment), self.environment, self.live(deployment.name)
        if options["show"] == "arguments":
            return inspection.arguments(network, env=env, on_line=say)
        known = self._remembered(deployment)
        if options["show"] == "physical":
            return inspection.physical(network, remembered=known, env=env, on_line=say)
        machine, option = options["machine"], options["option"]
        return inspection.option(network, machine, option, remembered=known, env=env, on_line=say)

    def _remembered(self, deployment: Deployment) -> dict[str, Remembered]:
        """Return the inputs with which a deploy would evaluate the machines."""
        states = discovery.all_remembered(deployment, self.warn)
        return {state.machine: state.inputs for state in states.values()}


def _table(found: list[dict[str, Any]]) -> str:
    def value(one: dict[str, Any]) -> str:
        if one["given"]:
            return "given" if one["files"] else "given, and not used"
        return "missing" if one["needed"] else "its default"

    return table(_ARGUMENTS, [[one["name"], value(one), "\n".join(one["files"])] for one in found])
