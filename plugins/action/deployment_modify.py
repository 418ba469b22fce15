# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes a deployment on the controller."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_MODIFY
from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import creation, editing
from ansible_collections.nix.ops.plugins.plugin_utils.deployment_action import DeploymentAction, readable
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation

# Options without an influence on whether the network evaluates.
_NAMES = {"name", "uuid"}


class ActionModule(DeploymentAction):
    """The action behind ``nix.ops.deployment_modify``."""

    SPECIFICATION = DEPLOYMENT_MODIFY

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Edit the source, evaluate what it says then, and write it."""
        options = creation.plain_options(options)
        known = self.known(options)
        deployment = self.chosen(options, known)
        readable(deployment)
        if options["name"]:
            editing.check_name(options["name"], deployment, known)
        edits = editing.edits(deployment, os.getcwd(), options)
        change = editing.change(deployment, edits)
        network = self.network_of(change.path, change.after)
        say = self.live(network.name)
        if set(change.options) - _NAMES:
            creation.check_files(os.path.dirname(change.path), network)
            evaluation.evaluate(network, env=self.environment, on_line=say)
        result = {
            "changed": bool(change.options),
            "uuid": network.uuid,
            "name": network.name,
            "path": change.path,
            "edited": change.options,
        }
        if self.wants_diff:
            before, after = change.shown
            result["diff"] = {
                "before": before,
                "after": after,
                "before_header": change.path,
                "after_header": change.path,
            }
        if change.options and not self.check:
            editing.write(change)
            say(f"wrote {change.path}: {', '.join(change.options)}")
        if network.name != deployment.name:
            say("its source keeps the name of its file, and its UUID stays; its group is that of the new name")
        return result

    def describe_failure(self, error: OpsError) -> dict[str, Any]:
        """Say how to name the place of nixpkgs."""
        error.state = "nothing was changed"
        nix.explain_search_path(error, "Name its place: -e nix_path={entry}.")
        return super().describe_failure(error)
