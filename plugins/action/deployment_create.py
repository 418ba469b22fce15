# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates a deployment on the controller."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_CREATE
from ansible_collections.nix.ops.plugins.plugin_utils import display, nix
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import creation, discovery, prerequisites
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.creation import File
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation, nixpkgs, source
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Evaluation, Network
from ansible_collections.nix.ops.plugins.plugin_utils.network.nixpkgs import Nixpkgs

_HOST_KEYS = (
    "the first deploy shows the host keys that ssh does not know; compare them with the machines' own, then accept them"
    " with -e deploy_accept_new_host_keys=true"
)


class ActionModule(OpsAction):
    """The action behind ``nix.ops.deployment_create``."""

    SPECIFICATION = DEPLOYMENT_CREATE
    _requires_connection = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Evaluate the network, then write its source; leave an existing deployment as it is."""
        creation.check_given(options)
        directory = os.path.abspath(options["directory"] or "")
        path = os.path.join(directory, options["deployment"] + source.SOURCE_SUFFIX)
        config = creation.config(directory, os.getcwd(), str(uuid.uuid4()), creation.plain_options(options))
        network = source.network_of_source(path, config)
        known = discovery.everywhere(self.variables.get("hostvars") or {}, directory, self._loader.load_from_file)
        existing = creation.find_existing(path, network, known)
        if existing is not None and existing.network is not None:
            differing = creation.find_differing(existing.network, network, options)
            for line in creation.describe_existing(existing, differing):
                self.live(existing.name)(line)
            evaluated = self._evaluate_existing(existing.path, existing.network)
            answer = _answer(existing.network, existing.path, evaluated, differing=differing)
            return {"changed": False, "nixpkgs": None, **answer}
        creation.check_files(directory, network)
        prerequisites.check(self.environment)
        chosen = None
        if not network.flake and not nixpkgs.is_named(network.nix_path):
            chosen = self._nixpkgs(network.name, directory, ask=options["ask"])
            config["nix_path"] = [chosen.entry, *config.get("nix_path", [])]
            network = source.network_of_source(path, config)
        return {**self._create(path, config, network), "nixpkgs": chosen.entry if chosen else None}

    def _nixpkgs(self, name: str, directory: str, *, ask: bool) -> Nixpkgs:
        """Return the nixpkgs for the source, which the user chooses if there are several or none."""
        found = nixpkgs.find(directory, {**os.environ, **self.environment})
        answer = display.ask(nixpkgs.question(found)) if ask and len(found) != 1 else None
        chosen = nixpkgs.choose(found, answer, directory)
        others = "".join(f"; also found: {one}" for one in found if one != chosen and answer is None)
        self.live(name)(f"takes nixpkgs from {chosen}{others}")
        return chosen

    def _create(self, path: str, config: Mapping[str, Any], network: Network) -> dict[str, Any]:
        directory = os.path.dirname(path)
        evaluated = self._evaluate(network)
        plan = creation.plan(path, config, network.uuid)
        written = [file.path for file in plan.files]
        result = {"changed": True, **_answer(network, path, evaluated, written=written, hints=plan.hints)}
        if self.wants_diff:
            result["diff"] = [_difference(file) for file in plan.files]
        if self.check:
            return result
        creation.write(directory, plan)
        say = self.live(network.name)
        say(f"created deployment {creation.quote(network.uuid)}")
        has_keys = all(one.ssh_host_keys for one in evaluated.definitions.values())
        missing = prerequisites.hints({**os.environ, **self.environment})
        wrote = [f"wrote {file}" for file in written]
        for line in (*wrote, *(() if has_keys else (_HOST_KEYS,)), *missing, *plan.hints):
            say(line)
        return result

    def _evaluate(self, network: Network) -> Evaluation:
        say = self.live(network.name)
        evaluated = evaluation.evaluate(network, env=self.environment, on_line=say)
        if len(evaluated.definitions) <= evaluation.EAGER:
            # Shows errors of a machine's system now, before the first deployment.
            evaluation.instantiate(network, list(evaluated.definitions), env=self.environment, on_line=say)
        return evaluated

    def describe_failure(self, error: OpsError) -> dict[str, Any]:
        """Say how to name the place of nixpkgs."""
        nix.explain_search_path(error, "Name its place: -e nix_path={entry}.")
        return super().describe_failure(error)

    def _evaluate_existing(self, path: str, network: Network) -> Evaluation:
        try:
            return evaluation.evaluate(network, env=self.environment)
        except OpsError as error:
            self.warn(f"{path}: {error}")
            return Evaluation("", {}, {})


def _answer(
    network: Network,
    path: str,
    evaluated: Evaluation,
    *,
    written: Sequence[str] = (),
    differing: Sequence[str] = (),
    hints: Sequence[str] = (),
) -> dict[str, Any]:
    return {
        "uuid": network.uuid,
        "name": network.name,
        "path": path,
        "files": list(network.files),
        "flake": network.flake,
        "description": evaluated.description,
        "machines": sorted(evaluated.definitions),
        "written": list(written),
        "differing": list(differing),
        "hints": list(hints),
    }


def _difference(file: File) -> dict[str, str]:
    return {"before": "", "after": file.shown, "before_header": file.path, "after_header": file.path}
