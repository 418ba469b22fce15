# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports deployments of NixOps on the controller."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_IMPORT
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import (
    creation,
    discovery,
    importing,
    nixops_file,
    places,
    prerequisites,
)
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.importing import Import
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.nixops_file import Exported
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation, nixpkgs, source
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network


class ActionModule(OpsAction):
    """The action behind ``nix.ops.deployment_import``."""

    SPECIFICATION = DEPLOYMENT_IMPORT
    _requires_connection = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Check all of the file, then write what belongs to each of its deployments."""
        path, directory = os.path.abspath(options["file"]), os.getcwd()
        chosen = importing.choose(nixops_file.load(path), options["deployment"], options["name"])
        prerequisites.check(self.environment)
        known = discovery.everywhere(self.variables.get("hostvars") or {}, directory, self._loader.load_from_file)
        planned = [self._plan(one, directory, known, options) for one in chosen]
        # The first one may write an ansible.cfg, which the others use as well.
        facts = importing.check_cache(planned[0])
        planned[1:] = [importing.without_settings(one) for one in planned[1:]]
        told: list[dict[str, Any]] = []
        for one in planned:
            try:
                told.append(self._import(one, facts))
            except OpsError as error:
                if told:
                    error.state = f"imported were {', '.join(before['name'] for before in told)}"
                raise
        if nixops_file.is_open(path):
            self.warn(f"{path} contains private keys, and others can read it: remove it, or chmod 600 {path}")
        result = {"changed": True, "deployments": told}
        if self.wants_diff:
            result["diff"] = [part for one in planned for part in _differences(one)]
        return result

    def _plan(
        self, exported: Exported, directory: str, known: Sequence[Deployment], options: Mapping[str, Any]
    ) -> Import:
        path = os.path.join(directory, f"{exported.name}{source.SOURCE_SUFFIX}")
        importing.check_new(exported, path, known)
        given = importing.options(exported, options, directory)
        config = creation.config(directory, directory, exported.uuid, given)
        network = source.network_of_source(path, config)
        creation.check_files(directory, network)
        if not network.flake and not nixpkgs.is_named(network.nix_path):
            config["nix_path"] = [self._nixpkgs(network.name, directory), *config.get("nix_path", [])]
        return importing.plan(exported, path, config, with_keys=options["keys"])

    def _nixpkgs(self, name: str, directory: str) -> str:
        found = nixpkgs.find(directory, {**os.environ, **self.environment})
        chosen = nixpkgs.choose(found, None, directory)
        self.live(name)(f"takes nixpkgs from {chosen}")
        return chosen.entry

    def _import(self, planned: Import, facts: str | None) -> dict[str, Any]:
        say = self.live(planned.name)
        if self.check:
            say(f"would import {importing.describe_deployment(planned)}")
        else:
            importing.write(planned, facts)
            for line in importing.describe_written(planned):
                say(line)
        machines = self._machines(planned)
        left = list(importing.describe(planned, machines))
        for line in (*left, *planned.plan.hints):
            say(line)
        if machines is not None:
            say(f"next: ansible-playbook -i {os.path.basename(planned.path)} nix.ops.deploy --check --diff")
        return {
            "uuid": planned.exported.uuid,
            "name": planned.name,
            "path": planned.path,
            "machines": sorted(planned.states),
            "evaluates": machines is not None,
            "remembered": {name: asdict(state.inputs) for name, state in planned.states.items()},
            "written": [file.path for file in planned.plan.files],
            "left": left,
            "hints": list(planned.plan.hints),
        }

    def _machines(self, planned: Import) -> list[str] | None:
        """Return the machines of the network; None if it does not evaluate, or is not written yet."""
        if self.check:
            return None
        try:
            network: Network = source.read_source(planned.path, self._loader.load_from_file)
            return list(evaluation.definitions(network, env=self.environment).definitions)
        except OpsError as error:
            error.state = "the deployment was imported, and nothing is deployed"
            error.next_step = "Correct the network, then run: ansible-playbook nix.ops.deploy --check --diff"
            self.warn(f"{planned.name}: the network does not evaluate yet: {error}")
            return None


def _differences(planned: Import) -> list[dict[str, str]]:
    """Return what is written, without secrets."""
    shown = {file.path: file.shown for file in planned.plan.files}
    if planned.known_hosts:
        lines = [f"{name} {key}\n" for name, keys in planned.known_hosts.items() for key in keys]
        shown[str(places.known_hosts(planned.exported.uuid))] = "".join(lines)
    remembered = {name: state.inputs.as_json() for name, state in planned.states.items()}
    shown["the fact cache"] = json.dumps(remembered, indent=2) + "\n"
    return [{"before": "", "after": text, "before_header": path, "after_header": path} for path, text in shown.items()]
