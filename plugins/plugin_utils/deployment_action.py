# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of the actions that work on one deployment, on the controller alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError

from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import discovery, editing
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import source
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network


class DeploymentAction(OpsAction):
    """An action on one of the deployments of the inventory and of a directory."""

    _requires_connection = False

    def known(self, options: Mapping[str, Any]) -> list[Deployment]:
        """Find all deployments."""
        directory = os.path.abspath(options["directory"] or "")
        hosts = self.variables.get("hostvars") or {}
        return discovery.everywhere(hosts, directory, self._loader.load_from_file, self._sources())

    def chosen(self, options: Mapping[str, Any], known: list[Deployment] | None = None) -> Deployment:
        """Return the deployment that the options name.

        :raises OpsError: if it is not certain which one that is.
        """
        return editing.choose(self.known(options) if known is None else known, options["deployment"], self._sources())

    def network_of(self, path: str, text: str) -> Network:
        """Read the network of a source's text, encrypted values included.

        :raises OpsError: if it is not valid.
        """
        try:
            config = self._loader.load(text, file_name=path)
        except AnsibleError as error:
            raise OpsError(f"{path} can't be read", output=str(error), state="nothing was changed") from error
        return source.network_of_source(path, config)

    def _sources(self) -> list[str]:
        return [str(one) for one in self.variables.get("ansible_inventory_sources") or ()]


def readable(deployment: Deployment) -> Network:
    """Return the network of a deployment.

    :raises OpsError: if its source can't be read.
    """
    if deployment.network is None:
        raise OpsError(
            f"{deployment.path} can't be read",
            output=deployment.problem,
            state="nothing was changed",
            next_step="Correct it in your editor.",
        )
    return deployment.network
