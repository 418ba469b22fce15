# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies a deployment on the controller."""

from __future__ import annotations

import os
import uuid
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_CLONE
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import configuration, creation, editing
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.creation import Plan, quote
from ansible_collections.nix.ops.plugins.plugin_utils.deployment_action import DeploymentAction, readable

_MACHINES = (
    "it has the same machines as before: give it others before you deploy it, for example by its arguments"
    " (nix.ops.set_args)"
)


class ActionModule(DeploymentAction):
    """The action behind ``nix.ops.deployment_clone``."""

    SPECIFICATION = DEPLOYMENT_CLONE

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Copy the source under another name and UUID; leave an existing copy as it is."""
        options = creation.plain_options(options)
        known = self.known(options)
        deployment = self.chosen(options, known)
        readable(deployment)
        file = editing.clone(deployment, options["name"], options["uuid"] or str(uuid.uuid4()))
        network = self.network_of(file.path, file.text)
        if existing := creation.find_existing(file.path, network, known):
            self.live(existing.name)(f"deployment {quote(existing.name)} exists already: {existing.path}")
            return {"changed": False, "uuid": existing.uuid, "name": existing.name, "path": file.path, "hints": []}
        settings = configuration.of_directory(os.path.dirname(file.path))
        hints = [_MACHINES]
        if network.ssh_keys:
            hints.append(f"both have their SSH keys in {network.ssh_keys}: change 'ssh_keys' in one of them")
        if settings is not None:
            hints += configuration.hints(settings, file.path, network.uuid)
        result = {"changed": True, "uuid": network.uuid, "name": network.name, "path": file.path, "hints": hints}
        if self.wants_diff:
            result["diff"] = {
                "before": "",
                "after": file.shown,
                "before_header": file.path,
                "after_header": file.path,
            }
        if not self.check:
            creation.write(os.path.dirname(file.path), Plan((file,), (), ()))
            say = self.live(network.name)
            for line in (f"created deployment {quote(network.uuid)}", f"wrote {file.path}", *hints):
                say(line)
        return result
