# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates a deployment: the file that names its network, and what it needs beside it."""

from __future__ import annotations

import json
import os
import stat
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.config.manager import ConfigManager

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_CREATE
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import creation, discovery
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.creation import File, Settings
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation, source
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Evaluation, Network

# What Ansible takes where nothing is set.
_NO_INVENTORY = "/etc/ansible/hosts"


class ActionModule(OpsAction):
    """The action behind ``nix.ops.deployment_create``."""

    SPECIFICATION = DEPLOYMENT_CREATE
    _requires_connection = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Evaluate the network, then write what names it; leave alone what is there."""
        directory = os.path.abspath(options["directory"] or "")
        path = os.path.join(directory, options["deployment"] + source.SOURCE_SUFFIX)
        config = creation.config(directory, os.getcwd(), str(uuid.uuid4()), _plain(options))
        network = source.network_of_source(path, config)
        there = discovery.everywhere(self.variables.get("hostvars") or {}, directory, self._loader.load_from_file)
        for one in there:
            if one.path == path or (one.name == network.name and os.path.dirname(one.path) == directory):
                return self._existing(one, network, options)
        _refuse_taken(network, there)
        return self._create(path, config, network)

    def _create(self, path: str, config: Mapping[str, Any], network: Network) -> dict[str, Any]:
        directory = os.path.dirname(path)
        if not Path(directory).is_dir():
            raise OpsError(f"there is no directory {directory}", next_step="Make it, or name another one.")
        creation.check_files(network)
        evaluated = self._evaluate(network)
        files, hints = _files(path, config)
        if network.arguments:
            hints.append(f"the arguments stand in {path} as they are: encrypt what is secret before you commit it")
        result = {
            "changed": True,
            **_answer(network, path, evaluated),
            "written": [file.path for file in files],
            "differing": [],
            "hints": hints,
        }
        if self.wants_diff:
            result["diff"] = [_difference(file) for file in files]
        if self.check:
            return result
        creation.write(directory, files)
        say = self.live(network.name)
        for line in (f"created deployment {_quoted(network.uuid)}", *(f"wrote {file.path}" for file in files), *hints):
            say(line)
        return result

    def _evaluate(self, network: Network) -> Evaluation:
        say = self.live(network.name)
        evaluated = evaluation.evaluate(network, env=self.environment, on_line=say)
        if len(evaluated.definitions) <= evaluation.EAGER:
            # A machine whose system does not evaluate is told here, and not by the first deployment.
            evaluation.instantiate(network, list(evaluated.definitions), env=self.environment, on_line=say)
        return evaluated

    def _existing(self, there: Deployment, wanted: Network, options: Mapping[str, Any]) -> dict[str, Any]:
        if there.network is None:
            raise OpsError(
                f"{there.path} exists already, and can't be read",
                output=there.problem,
                state="nothing was written",
                next_step="Correct it, or give the new deployment another name.",
            )
        if there.name != wanted.name:
            raise OpsError(
                f"{there.path} exists already, and is deployment {_quoted(there.name)}",
                state="nothing was written",
                next_step="Give the new deployment another name.",
            )
        say = self.live(there.name)
        say(f"deployment {_quoted(there.name)} exists already: UUID {there.uuid}, {_named(there)}")
        if differing := _differing(there.network, wanted, options):
            say(f"what was given differs ({', '.join(differing)}); the deployment was left as it is")
        try:
            evaluated = evaluation.evaluate(there.network, env=self.environment)
        except OpsError as error:
            self.warn(f"{there.path}: {error}")
            evaluated = Evaluation("", {}, {})
        return {
            "changed": False,
            **_answer(there.network, there.path, evaluated),
            "written": [],
            "differing": differing,
            "hints": [],
        }


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Free values of what Ansible attaches to them."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(options))
    except (TypeError, ValueError) as error:
        raise OpsError(
            f"an option can't be written as JSON: {error}", next_step="Give texts, numbers, lists and mappings."
        ) from error
    return plain


def _refuse_taken(network: Network, there: Sequence[Deployment]) -> None:
    for one in there:
        if one.uuid == network.uuid:
            raise OpsError(
                f"the UUID {network.uuid} is that of deployment {_quoted(one.name)}, {one.path}",
                state="nothing was written",
                next_step="Leave it out to have a new one made.",
            )


def _files(path: str, config: Mapping[str, Any]) -> tuple[list[File], list[str]]:
    """What is to be written, and what the user has to do himself."""
    directory = os.path.dirname(path)
    file = creation.source(path, config)
    manager = _configuration(directory)
    if manager is not None:
        return [file], creation.hints(_settings(manager), path)
    settings = _settings(constants.config)
    if _is_open(directory):
        ignored = f"everyone may write to {directory}, so Ansible would ignore an ansible.cfg there"
        return [file], [ignored, *creation.hints(settings, path)]
    configuration = os.path.join(directory, creation.CONFIGURATION)
    return [creation.configuration(configuration, os.path.basename(path), settings.enabled), file], []


def _configuration(directory: str) -> ConfigManager | None:
    """The configuration of the runs in a directory; None where there is no file of it."""
    own, used = os.path.join(directory, creation.CONFIGURATION), constants.CONFIG_FILE
    if used and directory == os.getcwd():
        return constants.config
    if Path(own).exists() and not _is_open(directory):
        return ConfigManager(own)
    return None if used in (None, os.path.join(os.getcwd(), creation.CONFIGURATION)) else constants.config


def _is_open(directory: str) -> bool:
    return bool(Path(directory).stat().st_mode & stat.S_IWOTH)


def _settings(manager: ConfigManager) -> Settings:
    sources = manager.get_config_value("DEFAULT_HOST_LIST") or []
    return Settings(
        file=manager.get_config_value("CONFIG_FILE"),
        cache=manager.get_config_value("CACHE_PLUGIN"),
        timeout=float(manager.get_config_value("CACHE_PLUGIN_TIMEOUT")),
        inventory=[one for one in sources if one != _NO_INVENTORY or Path(one).exists()],
        enabled=manager.get_config_value("INVENTORY_ENABLED"),
        strict=manager.get_config_value("INVENTORY_ANY_UNPARSED_IS_FAILED"),
    )


def _differing(there: Network, wanted: Network, options: Mapping[str, Any]) -> list[str]:
    """Which options differ from what is there; what was not given does not."""
    attributes = {"networks": "files"}
    return [
        option
        for option in ("networks", "flake", "uuid", "arguments", "nix_path", "options")
        if options[option]
        and getattr(there, attributes.get(option, option)) != getattr(wanted, attributes.get(option, option))
    ]


def _quoted(text: str) -> str:
    """Quote as NixOps does."""
    return f"\N{LEFT SINGLE QUOTATION MARK}{text}\N{RIGHT SINGLE QUOTATION MARK}"


def _named(there: Deployment) -> str:
    network, directory = there.network, os.path.dirname(there.path)
    if network is None or network.flake:
        return f"flake {network and network.flake}, named by {there.path}"
    return f"files {', '.join(os.path.relpath(file, directory) for file in network.files)}, named by {there.path}"


def _answer(network: Network, path: str, evaluated: Evaluation) -> dict[str, Any]:
    return {
        "uuid": network.uuid,
        "name": network.name,
        "path": path,
        "files": list(network.files),
        "flake": network.flake,
        "description": evaluated.description,
        "machines": sorted(evaluated.definitions),
    }


def _difference(file: File) -> dict[str, str]:
    return {"before": "", "after": file.shown, "before_header": file.path, "after_header": file.path}
