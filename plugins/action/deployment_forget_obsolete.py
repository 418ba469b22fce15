# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forgets the machines that have left a network."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_FORGET_OBSOLETE
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import fact_cache, forgetting
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.deployment_action import DeploymentAction


class ActionModule(DeploymentAction):
    """The action behind ``nix.ops.deployment_forget_obsolete``."""

    SPECIFICATION = DEPLOYMENT_FORGET_OBSOLETE

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Forget the machines that have left each of the networks."""
        wanted = {os.path.realpath(one) for one in options["networks"]}
        known = [one for one in self.known({"directory": None}) if os.path.realpath(one.path) in wanted]
        forgotten = {one.uuid: self._forget(one) for one in known}
        return {"changed": any(forgotten.values()), "forgotten": forgotten}

    def _forget(self, deployment: Deployment) -> list[str]:
        """Forget the machines that have left a network, and return their names."""
        obsolete = forgetting.obsolete(deployment, self.environment, self.warn)
        for host, machine in obsolete.items():
            removal = forgetting.of_machine(deployment.uuid, deployment.name, machine, deployment.path)
            say = self.live(machine)
            if self.check:
                say("has left the network, and would be forgotten")
                continue
            fact_cache.forget(host, deployment.uuid)
            forgetting.remove(removal)
            say("has left the network, and is forgotten; the machine itself stays as it is")
            say(f"its own record stays too: {forgetting.place_of_record(deployment.uuid)}")
        return sorted(obsolete.values())
