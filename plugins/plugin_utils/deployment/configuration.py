# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings of Ansible a deployment depends on, and the ``ansible.cfg`` that has them."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible import constants
from ansible.config.manager import ConfigManager

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import places
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

NAME = "ansible.cfg"
PLUGIN = "nix.ops.network"

# Ansible's inventory if none is set.
_NO_INVENTORY = "/etc/ansible/hosts"

# How many machines a deploy works on at a time. Ansible's default of 5 makes the others wait.
_FORKS = 20

# Seconds between two looks at whether a worker has ended. Ansible's default of 0.001 keeps a processor busy that the
# deploy needs.
_POLL = 0.01

# Fact caches that end with the run.
FORGETFUL = ("memory", "ansible.builtin.memory")

# Ansible reads "; …" as a comment and $NAME as a variable.
_NOT_READ_BACK = (";", "$", "\n")


@dataclass(frozen=True)
class Settings:
    """The settings of Ansible that a deployment depends on.

    :param file: the file that sets them; None if they come from elsewhere.
    :param cache: the fact cache plugin.
    :param connection: where the plugin keeps facts; None if that is not set.
    :param timeout: seconds after which facts expire.
    :param inventory: the sources of the inventory.
    :param enabled: the inventory plugins.
    :param strict: whether a source that can't be read ends the run.
    """

    file: str | None
    cache: str
    connection: str | None
    timeout: float
    inventory: Sequence[str]
    enabled: Sequence[str]
    strict: bool


def of_this_run() -> Settings:
    """Return the settings of this run."""
    return _settings(constants.config)


def of_directory(directory: str) -> Settings | None:
    """Return the settings of runs in a directory; None if no configuration file is in use there."""
    own, used = os.path.join(directory, NAME), constants.CONFIG_FILE
    if used and directory == os.getcwd():
        return of_this_run()
    if Path(own).exists() and not is_writable_by_all(directory):
        return _settings(ConfigManager(own))
    return None if used in (None, os.path.join(os.getcwd(), NAME)) else of_this_run()


def is_writable_by_all(directory: str) -> bool:
    """Return whether everyone may write to a directory: Ansible ignores a configuration file there."""
    return bool(Path(directory).stat().st_mode & stat.S_IWOTH)


def compose(source: str, uuid: str, enabled: Sequence[str]) -> str:
    """Compose the ``ansible.cfg`` with which a deployment needs no options.

    :param source: the path of the deployment's source.
    :param uuid: the deployment's UUID.
    :param enabled: the inventory plugins that are enabled now.
    :raises OpsError: if the directory of the facts can't be written into an ``ansible.cfg``.
    """
    facts = places.facts(uuid)
    if any(text in facts for text in _NOT_READ_BACK):
        raise OpsError(
            f"{facts!r} can't be written into {NAME}",
            state="nothing was written",
            next_step="Set XDG_STATE_HOME to a path without ';', '$' and line breaks.",
        )
    sections = _lines(source, uuid, enabled)
    # An existing configuration without these is not incomplete.
    sections["defaults"]["forks"] = f"forks = {_FORKS}"
    sections["defaults"]["internal_poll_interval"] = f"internal_poll_interval = {_POLL}"
    return "\n\n".join("\n".join([f"[{name}]", *lines.values()]) for name, lines in sections.items()) + "\n"


def lines_of_cache(uuid: str) -> str:
    """Return the lines of ``ansible.cfg`` that make the fact cache keep the deployment state."""
    lines = _lines("", uuid, ())["defaults"]
    return "\n".join(["[defaults]", *(line for option, line in lines.items() if option != "inventory")])


def find_missing(settings: Settings, source: str, uuid: str) -> list[str]:
    """Return the lines that a configuration lacks.

    :param source: the path of the deployment's source. An inventory with other sources is not incomplete.
    :param uuid: the deployment's UUID.
    """
    forgets = settings.cache in FORGETFUL
    missing = {
        "inventory": not settings.inventory,
        "fact_caching": forgets,
        "fact_caching_connection": forgets or places.is_old_facts(settings.connection or ""),
        "fact_caching_timeout": settings.timeout != 0,
        "enable_plugins": PLUGIN not in settings.enabled,
        "any_unparsed_is_failed": not settings.strict,
    }
    found = []
    for section, options in _lines(source, uuid, settings.enabled).items():
        wanted = [line for option, line in options.items() if missing[option]]
        found += [f"[{section}]", *wanted] if wanted else []
    return found


def hints(settings: Settings, source: str, uuid: str) -> list[str]:
    """Return what the user has to do so that Ansible finds a deployment with an existing configuration.

    :param source: the path of the deployment's source.
    :param uuid: the deployment's UUID.
    """
    found = []
    if lines := find_missing(settings, source, uuid):
        found = [f"{settings.file or NAME} is left alone; these lines are missing there:", *lines]
    name, known = os.path.basename(source), map(os.path.realpath, settings.inventory)
    if settings.inventory and not {os.path.realpath(source), os.path.realpath(os.path.dirname(source))} & set(known):
        found.append(f"choose it with -i {name}, or add {name} to 'inventory' in {settings.file or NAME}")
    return found


def _lines(source: str, uuid: str, enabled: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return for each section its lines, by the name of the option."""
    plugins = ", ".join([PLUGIN, *(one for one in enabled if one != PLUGIN)])
    return {
        "defaults": {
            "inventory": f"inventory = {os.path.basename(source)}",
            "fact_caching": "fact_caching = ansible.builtin.jsonfile",
            "fact_caching_connection": f"fact_caching_connection = {places.facts(uuid)}",
            "fact_caching_timeout": "fact_caching_timeout = 0",
        },
        "inventory": {
            "enable_plugins": f"enable_plugins = {plugins}",
            "any_unparsed_is_failed": "any_unparsed_is_failed = true",
        },
    }


def _settings(manager: ConfigManager) -> Settings:
    sources = manager.get_config_value("DEFAULT_HOST_LIST") or []
    return Settings(
        file=manager.get_config_value("CONFIG_FILE"),
        cache=manager.get_config_value("CACHE_PLUGIN"),
        connection=manager.get_config_value("CACHE_PLUGIN_CONNECTION"),
        timeout=float(manager.get_config_value("CACHE_PLUGIN_TIMEOUT")),
        inventory=[one for one in sources if one != _NO_INVENTORY or Path(one).exists()],
        enabled=manager.get_config_value("INVENTORY_ENABLED"),
        strict=manager.get_config_value("INVENTORY_ANY_UNPARSED_IS_FAILED"),
    )
