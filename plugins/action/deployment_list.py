# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists the deployments of the inventory and of a directory."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_LIST
from ansible_collections.nix.ops.plugins.plugin_utils import display
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import discovery, fact_cache
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.table import Align, Column, table
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation

_COLUMNS = (
    Column("UUID"),
    Column("Name"),
    Column("Description"),
    Column("# Machines", Align.RIGHT),
    Column("Type", Align.CENTRE),
)


class ActionModule(OpsAction):
    """The action behind ``nix.ops.deployment_list``."""

    SPECIFICATION = DEPLOYMENT_LIST
    _requires_connection = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Describe each deployment, without a machine being asked."""
        directory = os.path.abspath(options["directory"] or "")
        hosts = self.variables.get("hostvars") or {}
        there = discovery.everywhere(hosts, directory, self._loader.load_from_file)
        if there:
            self._warn_of_cache(there[0].uuid)
        found = [self._describe(one) for one in there]
        document = json.dumps(found, indent=2, ensure_ascii=False)
        if not self._task.no_log:
            display.show(document if options["format"] == "json" else _table(found))
        if options["file"]:
            display.write(os.path.abspath(options["file"]), f"{document}\n")
        return {"changed": False, "deployments": found}

    def _warn_of_cache(self, uuid: str) -> None:
        try:
            fact_cache.check(uuid)
        except OpsError as error:
            self.warn(f"machines that were deployed may not be counted: {error}")

    def _describe(self, one: Deployment) -> dict[str, Any]:
        description, machines, problem = "", [], one.problem
        if one.network:
            try:
                evaluated = evaluation.definitions(one.network, env=self.environment)
                description, machines = evaluated.description, list(evaluated.definitions)
            except OpsError as error:
                problem = str(error)
        if problem:
            self.warn(f"{one.path}: {problem}")
        count = len(discovery.deployed(one, machines, self.warn))
        return {
            "uuid": one.uuid,
            "name": one.name,
            "description": description,
            "machines": count,
            "type": "none" if count else "",
            "path": one.path,
        }


def _table(found: list[dict[str, Any]]) -> str:
    return table(
        _COLUMNS, [[one["uuid"], one["name"], one["description"], str(one["machines"]), one["type"]] for one in found]
    )
