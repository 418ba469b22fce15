# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports deployments for NixOps."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.errors import AnsibleError

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_EXPORT
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import creation, discovery, exporting, ssh_keys
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.creation import File, Plan
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network


class ActionModule(OpsAction):
    """The action behind ``nix.ops.deployment_export``."""

    SPECIFICATION = DEPLOYMENT_EXPORT
    _requires_connection = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Write the deployments of the inventory into a file that ``nixops import`` reads."""
        path = os.path.abspath(options["file"])
        if os.path.lexists(path):
            raise OpsError(
                f"{path} exists already", state="nothing was written", next_step="Name another file, or remove it."
            )
        there = discovery.of_inventory(self.variables.get("hostvars") or {}, self._loader.load_from_file)
        if not there:
            raise OpsError(
                "the inventory has no machine of a network",
                state="nothing was written",
                next_step="Name a network with -i, or list what there is with nix.ops.list.",
            )
        exported, left = {}, {}
        for one in there:
            exported[one.uuid], left[one.uuid] = self._export(one, with_keys=options["keys"])
        document = json.dumps(exported, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        if not self.check:
            creation.write(os.path.dirname(path), Plan((File(path, document, "", private=True),), (), ()))
        told = [{"uuid": one.uuid, "name": one.name, "left": left[one.uuid]} for one in there]
        return {"changed": True, "file": path, "deployments": told}

    def _export(self, deployment: Deployment, *, with_keys: bool) -> tuple[dict[str, Any], list[str]]:
        say, network = self.live(deployment.name), deployment.network
        if network is None:
            raise OpsError(f"{deployment.path} can't be read", output=deployment.problem, state="nothing was written")
        evaluated = evaluation.definitions(network, env=self.environment, on_line=say)
        machines = sorted(evaluated.definitions)
        known = {name: discovery.remembered(deployment.host(name), network.uuid, say) for name in machines}
        states = {name: state for name, state in known.items() if state is not None}
        keys = {name: key for name in machines if (key := self._private_key(network, name))} if with_keys else {}
        verb = "would export" if self.check else "exported"
        say(f"{verb} {len(machines)} machines, {len(keys)} of them with their private SSH keys")
        left = list(exporting.left(network, machines, states))
        for line in left:
            say(f"can't go along: {line}")
        return exporting.compose(network, evaluated, states, keys), left

    def _private_key(self, network: Network, machine: str) -> str | None:
        """Return the private key of a machine, which ansible-vault may have encrypted; None if it has none here.

        :raises OpsError: if it can't be read.
        """
        path = ssh_keys.path_of(network.uuid, machine, network.ssh_keys)
        if not os.path.isfile(path):
            return None
        try:
            return str(self._loader.get_text_file_contents(path))
        except AnsibleError as error:
            raise OpsError(
                f"the private key {path} can't be read",
                output=str(error),
                state="nothing was written",
                next_step="Give the secret of ansible-vault, or export without private keys.",
            ) from error
