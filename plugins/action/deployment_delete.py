# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deletes a deployment on the controller."""

from __future__ import annotations

from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_DELETE
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import editing, fact_cache, forgetting
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.creation import quote
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.deployment_action import DeploymentAction, readable
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError


class ActionModule(DeploymentAction):
    """The action behind ``nix.ops.deployment_delete``."""

    SPECIFICATION = DEPLOYMENT_DELETE

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Remove the source and what the controller keeps, unless machines exist."""
        deployment = self.chosen(options)
        readable(deployment)
        editing.read(deployment)
        machines = self._machines(deployment, force=options["force"])
        removal = forgetting.of_deployment(deployment, keeps_keys=bool(machines))
        result = {
            "changed": True,
            "uuid": deployment.uuid,
            "name": deployment.name,
            "removed": removal.paths(),
            "machines": sorted(machines),
        }
        say = self.live(deployment.name)
        if self.check:
            for path in removal.paths():
                say(f"would remove {path}")
            return result
        for host in machines:
            fact_cache.forget(host, deployment.uuid)
        forgetting.remove(removal)
        say(f"deleted deployment {quote(deployment.uuid)}")
        for line in (*(f"removed {path}" for path in removal.paths()), *forgetting.left(deployment, machines)):
            say(line)
        return result

    def _machines(self, deployment: Deployment, *, force: bool) -> list[str]:
        """Return the hosts of the machines that exist, which only ``force`` allows."""
        try:
            machines = list(forgetting.machines_of(deployment, self.environment, self.warn))
        except OpsError as error:
            if not force:
                raise forgetting.unknown_machines(deployment, error) from error
            self.warn(f"it is not known which machines exist: {error.what}")
            return sorted(deployment.hosts.values())
        if not force:
            forgetting.check_no_machines(deployment, machines)
        return machines
