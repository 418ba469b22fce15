# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `nix.ops.create` writes: a deployment's source, Ansible's configuration, a place for what is kept."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network
from ansible_collections.nix.ops.plugins.plugin_utils.network.source import SOURCE_SUFFIX

PLUGIN = "nix.ops.network"
CONFIGURATION = "ansible.cfg"

# Where the collection keeps things beside a source: links to what was built, keys, cached facts.
KEPT = ".nix-ops"
FACTS = f"{KEPT}/facts"

_COMMENT = "# A deployment of nix.ops; deploy it with: ansible-playbook -i {source} nix.ops.deploy\n"
_HIDDEN = "(hidden)"

# An entry of the Nix path that is no path.
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*:")


@dataclass(frozen=True)
class File:
    """A file to be written.

    :param shown: its text as it may be shown, without secrets.
    """

    path: str
    text: str
    shown: str
    private: bool = False


@dataclass(frozen=True)
class Settings:
    """The settings of Ansible that a deployment depends on.

    :param file: the file that sets them; none where they come from elsewhere.
    :param cache: the fact cache plugin.
    :param timeout: after how many seconds it forgets.
    :param inventory: the sources of the inventory.
    :param enabled: the inventory plugins.
    :param strict: whether a source that can't be read ends the run.
    """

    file: str | None
    cache: str
    timeout: float
    inventory: Sequence[str]
    enabled: Sequence[str]
    strict: bool


def config(directory: str, start: str, uuid: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Compose the options of a source; relative paths, which start elsewhere, will start from it.

    :param directory: where the source will be.
    :param start: where relative paths start that were given.
    :param uuid: the deployment's UUID where none was given.
    :param given: what was given, plain values.
    """

    def path(one: str) -> str:
        there = os.path.relpath(os.path.join(start, one), directory)
        # A path of another place is left as it is; and a leading tilde would be a home.
        return one if os.path.isabs(one) and there.startswith("..") else f"./{there}" if there[0] == "~" else there

    def entry(one: str) -> str:
        prefix, equals, place = one.rpartition("=")
        return one if _REMOTE.match(place) or os.path.isabs(place) else f"{prefix}{equals}{path(place)}"

    def flake(one: str) -> str:
        return os.path.join(".", path(one)) if one.startswith(".") else one

    wanted = {
        "name": given["deployment"],
        "uuid": given["uuid"] or uuid,
        "files": [path(one) for one in given["networks"] or ()],
        "flake": flake(given["flake"]) if given["flake"] else None,
        "arguments": given["arguments"],
        "nix_path": [entry(one) for one in given["nix_path"]],
        "options": given["options"],
    }
    return {option: value for option, value in wanted.items() if value}


def check_files(network: Network) -> None:
    """Refuse files that are not there, or are no network.

    :raises OpsError: where one is not.
    """
    for file in network.files:
        if not Path(file).exists():
            raise OpsError(f"{file} does not exist", state="nothing was written", next_step="Correct the file's name.")
        if file.endswith(SOURCE_SUFFIX):
            raise OpsError(
                f"{file} names a network, and is none itself",
                state="nothing was written",
                next_step="Give the .nix files that it names.",
            )


def source(path: str, config: Mapping[str, Any]) -> File:
    """Compose the source of a deployment.

    :param config: its options beside ``plugin``, plain values.
    """
    return File(path, _yaml(path, config), _yaml(path, _without_secrets(config)), private=bool(config.get("arguments")))


def configuration(path: str, source_name: str, enabled: Sequence[str]) -> File:
    """Compose the configuration of Ansible with which a deployment needs no options.

    :param enabled: the inventory plugins that are enabled now.
    """
    sections = _lines(source_name, enabled)
    text = "\n\n".join("\n".join([f"[{name}]", *lines.values()]) for name, lines in sections.items()) + "\n"
    return File(path, text, text)


def lacking(settings: Settings, path: str) -> list[str]:
    """Tell which lines of the configuration are missing from one that is there already.

    :param path: the deployment's source. Where the inventory has other sources, it is no part of what is missing.
    """
    lines = _lines(os.path.basename(path), settings.enabled)
    forgets = settings.cache in ("memory", "ansible.builtin.memory")
    missing = {
        "inventory": not settings.inventory,
        "fact_caching": forgets,
        "fact_caching_connection": forgets,
        "fact_caching_timeout": settings.timeout != 0,
        "enable_plugins": PLUGIN not in settings.enabled,
        "any_unparsed_is_failed": not settings.strict,
    }
    found = []
    for section, options in lines.items():
        wanted = [line for option, line in options.items() if missing[option]]
        found += [f"[{section}]", *wanted] if wanted else []
    return found


def hints(settings: Settings, path: str) -> list[str]:
    """Tell what a user has to do so that Ansible finds a deployment, where a configuration is there already.

    :param path: the deployment's source.
    """
    found = []
    if lines := lacking(settings, path):
        found = [f"{settings.file or CONFIGURATION} is left alone; these lines are missing there:", *lines]
    name, places = os.path.basename(path), map(os.path.realpath, settings.inventory)
    if settings.inventory and not {os.path.realpath(path), os.path.realpath(os.path.dirname(path))} & set(places):
        found.append(f"choose it with -i {name}, or add {name} to 'inventory' in {settings.file or CONFIGURATION}")
    return found


def write(directory: str, files: Sequence[File]) -> None:
    """Write files that are not there yet, the last one last, all or none; and make the place for what is kept.

    :raises OpsError: where one is there already, or can't be written.
    """
    done: list[str] = []
    try:
        _keep_place(directory)
        for file in files:
            _write(file)
            done.append(file.path)
    except FileExistsError as error:
        _undo(done)
        raise OpsError(
            f"{error.filename2 or error.filename} exists already",
            state="nothing was written",
            next_step="Run the same again, to see what it is.",
        ) from error
    except OSError as error:
        _undo(done)
        raise OpsError(
            f"{directory}: {error.strerror}: {error.filename2 or error.filename}",
            state="no deployment was created",
            next_step="Create it where you may write.",
        ) from error


def _undo(paths: Sequence[str]) -> None:
    for path in paths:
        with suppress(OSError):
            Path(path).unlink()


def _keep_place(directory: str) -> None:
    kept = Path(directory, KEPT)
    # An explicit chmod, since the umask may take more away than others' rights.
    for place in (kept, Path(directory, FACTS)):
        if not place.exists():
            place.mkdir(exist_ok=True)
            place.chmod(0o700)
    ignore = kept / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")


def _write(file: File) -> None:
    with _temporary(os.path.dirname(file.path)) as (handle, path):
        with open(handle, "w", encoding="utf-8") as opened:
            opened.write(file.text)
            opened.flush()
            os.fchmod(opened.fileno(), 0o600 if file.private else 0o666 & ~_umask())
            os.fsync(opened.fileno())
        # Unlike a rename, a link never takes the place of a file that is there.
        os.link(path, file.path)


@contextmanager
def _temporary(directory: str) -> Iterator[tuple[int, str]]:
    handle, path = tempfile.mkstemp(dir=directory, prefix=".nix-ops-")
    try:
        yield handle, path
    finally:
        Path(path).unlink()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _lines(source_name: str, enabled: Sequence[str]) -> dict[str, dict[str, str]]:
    plugins = ", ".join([PLUGIN, *(one for one in enabled if one != PLUGIN)])
    return {
        "defaults": {
            "inventory": f"inventory = {source_name}",
            "fact_caching": "fact_caching = ansible.builtin.jsonfile",
            "fact_caching_connection": f"fact_caching_connection = {FACTS}",
            "fact_caching_timeout": "fact_caching_timeout = 0",
        },
        "inventory": {
            "enable_plugins": f"enable_plugins = {plugins}",
            "any_unparsed_is_failed": "any_unparsed_is_failed = true",
        },
    }


def _yaml(path: str, config: Mapping[str, Any]) -> str:
    comment = _COMMENT.format(source=os.path.basename(path))
    dumped = yaml.dump(
        {"plugin": PLUGIN, **config},
        Dumper=_Indented,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=float("inf"),
    )
    return f"---\n{comment}{dumped}"


def _without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    hidden = dict.fromkeys(config.get("arguments", {}), _HIDDEN)
    return {**config, "arguments": hidden} if hidden else dict(config)


class _Indented(yaml.SafeDumper):
    """Indents the elements of a list, as people write it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Ignore ``indentless``, which is how lists come to stand under their key."""
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        """Write a value that occurs twice twice."""
        return True
