# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command on a machine, live."""

from __future__ import annotations

from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_COMMAND
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import commands


class ActionModule(OpsAction):
    """The action behind ``nix.ops.nixos_command``."""

    SPECIFICATION = NIXOS_COMMAND

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Run the command, and fail if it does."""
        command = options["command"]
        if not command.strip():
            raise OpsError("the command is empty", next_step="Give the command, as a line of shell.")
        if options["timeout"] < 1:
            raise OpsError("timeout has to be at least 1", next_step="Correct 'timeout'.")
        if self.check:
            self.live()(f"would run: {command}")
            return {"changed": True, "command": command}
        ran = commands.run(
            self.transport.machine(),
            command,
            on_line=self.live(),
            patience=options["reconnect_timeout"],
            within=options["timeout"],
        )
        result = {"changed": True, "command": command, "exit_code": ran.exit_code, "output": ran.output}
        if ran.exit_code != 0:
            how = "was killed" if ran.exit_code is None else f"ended with exit code {ran.exit_code}"
            error = OpsError(
                f"the command {how}",
                machine=self.transport.name,
                state="what it did until then is done",
                next_step="Read the lines above, then run the same again.",
                exit_code=ran.exit_code,
            )
            result |= self.describe_failure(error)
            self.tell(error)
        return result
