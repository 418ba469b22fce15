# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports how a command has ended on each machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_COMMANDS
from ansible_collections.nix.ops.plugins.plugin_utils import display
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import patterns
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.table import Align, Column, table
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, first_line

_COLUMNS = (Column("Name"), Column("Exit code", Align.RIGHT), Column("Notes"))


class ActionModule(OpsAction):
    """The action behind ``nix.ops.deployment_commands``."""

    SPECIFICATION = DEPLOYMENT_COMMANDS
    _requires_connection = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Show each exit code, and fail if a command has failed."""
        if options["pattern"] is not None:
            patterns.check("ssh_for_each_machines", options["pattern"], self.variables)
        if not options["found"]:
            raise OpsError("no machine ran the command", next_step="Name a network with -i.")
        machines = [_machine(host, result) for host, result in options["found"].items()]
        document = json.dumps({"machines": machines}, indent=2, ensure_ascii=False)
        if not self._task.no_log and not self.check:
            rows = [[one["name"], _shown(one["exit_code"]), one["problem"] or ""] for one in machines]
            display.show(document if options["format"] == "json" else table(_COLUMNS, rows))
        if options["file"]:
            display.write(os.path.abspath(options["file"]), f"{document}\n")
        result: dict[str, Any] = {
            "changed": False,
            "machines": machines,
            # As of nixops ssh-for-each.
            "status": max((one["exit_code"] or 0 for one in machines), default=0),
        }
        if bad := [one["name"] for one in machines if one["problem"]]:
            error = OpsError(
                f"the command has failed on {len(bad)} of {len(machines)} machines: {', '.join(bad)}",
                state="the other machines have run it",
                next_step="Read what the machines said above.",
            )
            result |= self.describe_failure(error)
            self.tell(error)
        return result


def _machine(host: str, result: Mapping[str, Any]) -> dict[str, Any]:
    has_failed = result.get("failed") or result.get("unreachable") or "command" not in result
    problem = first_line(result.get("msg") or "it was not asked").removeprefix(f"{host}: ") if has_failed else None
    return {"name": host, "exit_code": result.get("exit_code"), "output": result.get("output", ""), "problem": problem}


def _shown(exit_code: int | None) -> str:
    return "" if exit_code is None else str(exit_code)
