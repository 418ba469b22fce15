# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads networks from `.network.yml` sources, or from a single `.nix` file."""

from __future__ import annotations

import difflib
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network
from ansible_collections.nix.ops.plugins.plugin_utils.network.settings import check_harmless, search_path

SOURCE_SUFFIX = ".network.yml"
FILE_SUFFIX = ".nix"

# A file of the Nix search path.
_SEARCHED = re.compile(r"<([^<>]+)>")

# A flake in a directory: its scheme, its path and its parameters.
_DIRECTORY_FLAKE = re.compile(r"(path:|git\+file:)?([^#?]*)(.*)", re.DOTALL)

# The namespace of UUIDs that are derived from a name: the same name has the same UUID everywhere.
_DEPLOYMENTS = uuid.UUID("0f3a51c0-6a4e-5d0f-9c55-7d2a2f0f9d3b")


def read_source(path: str, load: Callable[[str], Any]) -> Network:
    """Read the network of a source.

    :param path: a file ending in `.network.yml` or `.nix`.
    :param load: reads a YAML file, vaults included.
    :raises OpsError: if the file has another suffix, or is not valid.
    """
    path = _absolute("", path)
    if not path.endswith((SOURCE_SUFFIX, FILE_SUFFIX)):
        raise OpsError(f"{path} is not a network", next_step=f"Name a file ending in {SOURCE_SUFFIX} or {FILE_SUFFIX}.")
    if not Path(path).exists():
        raise OpsError(f"{path} does not exist")
    if path.endswith(FILE_SUFFIX):
        return network_of_file(path)
    config = load(path)
    if not isinstance(config, Mapping):
        raise OpsError(f"{path} is not a mapping of options")
    return network_of_source(path, config)


def network_of_file(path: str) -> Network:
    """Return the network that consists of one file.

    :raises OpsError: if a source beside the file names it together with other files.
    """
    path = _absolute("", path)
    for source in sorted(Path(path).parent.glob("*" + SOURCE_SUFFIX)):
        files = _files_named_by(source)
        if len(files) > 1 and os.path.realpath(path) in map(os.path.realpath, files):
            raise OpsError(
                f"{path} is only a part of the network that {source} names",
                next_step=f"Use -i {source}: a part of a network could deploy a machine without its sshd.",
            )
    return Network(name := Path(path).stem, _uuid_of(name), files=(path,))


def network_of_files(
    files: Sequence[str],
    *,
    name: str | None = None,
    uuid: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    nix_path: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Network:
    """Return a network of files, with the options that a source has.

    :param files: absolute paths of the network files.
    :raises OpsError: if an option is not valid.
    """
    name = name or Path(files[0]).stem
    return Network(
        name=name,
        uuid=checked_uuid(files[0], uuid) if uuid else _uuid_of(name),
        files=tuple(files),
        arguments=_plain(arguments or {}),
        nix_path=tuple(_entry(os.path.dirname(files[0]), entry) for entry in nix_path),
        options=_settings(files[0], options or {}),
    )


def network_of_source(path: str, config: Mapping[str, Any]) -> Network:
    """Return the network of a source's options. Relative paths are relative to the source.

    :param path: the source.
    :param config: its options, as the inventory plugin documents them.
    :raises OpsError: if an option is not valid.
    """
    path = _absolute("", path)
    directory = os.path.dirname(path)
    name = str(config.get("name") or os.path.basename(path).removesuffix(SOURCE_SUFFIX))
    nix_path = tuple(_entry(directory, str(entry)) for entry in _list(path, config, "nix_path"))
    return Network(
        name=name,
        uuid=checked_uuid(path, config["uuid"]) if config.get("uuid") else _uuid_of(name),
        files=tuple(_file(directory, str(file), nix_path) for file in _list(path, config, "files")),
        flake=_flake(directory, str(config["flake"])) if config.get("flake") else None,
        arguments=_plain(_mapping(path, config, "arguments")),
        nix_path=nix_path,
        options=_settings(path, _mapping(path, config, "options")),
        ssh_keys=_absolute(directory, str(config["ssh_keys"])) if config.get("ssh_keys") else None,
    )


def unknown_options(unknown: Sequence[str], documented: Sequence[str]) -> OpsError:
    """Return the error for options that a source can't have, with the nearest name for each.

    :param unknown: the options.
    :param documented: the options that a source can have.
    """
    nearest = {one: difflib.get_close_matches(one.lower(), documented, n=1) for one in unknown}
    meant = [f"{near[0]!r} for {one!r}" for one, near in nearest.items() if near]
    return OpsError(
        f"there is no option {', '.join(map(repr, unknown))}",
        state="nothing was evaluated",
        next_step=f"Write {', '.join(meant)}." if meant else f"Use one of these: {', '.join(documented)}.",
    )


def _files_named_by(source: Path) -> list[str]:
    # Without Ansible's loader: this source is not the one in use, and may contain vaults.
    try:
        loaded = yaml.load(source.read_bytes(), Loader=_TagsIgnored)
    except (OSError, yaml.YAMLError):
        return []
    files = loaded.get("files") if isinstance(loaded, Mapping) else None
    return [_absolute(str(source.parent), str(file)) for file in files] if isinstance(files, list) else []


class _TagsIgnored(yaml.SafeLoader):
    """Reads every tagged value as None."""


_TagsIgnored.add_multi_constructor("!", lambda _loader, _tag, _node: None)


def _uuid_of(name: str) -> str:
    return str(uuid.uuid5(_DEPLOYMENTS, name))


def checked_uuid(path: str, value: object) -> str:
    """Return a UUID in its usual form.

    :param path: the source, for the message.
    :raises OpsError: if it is not a UUID.
    """
    try:
        return str(uuid.UUID(str(value)))
    except ValueError as error:
        raise OpsError(
            f"{path}: uuid is not a UUID", next_step="Remove it to derive the UUID from the name."
        ) from error


def _list(path: str, config: Mapping[str, Any], option: str) -> list[Any]:
    value = config.get(option) or []
    if isinstance(value, str):
        # Ansible splits list options the same way.
        value = [one.strip() for one in value.split(",")]
    if not isinstance(value, list):
        raise OpsError(f"{path}: {option} is not a list")
    return value


def _mapping(path: str, config: Mapping[str, Any], option: str) -> Mapping[str, Any]:
    value = config.get(option) or {}
    if not isinstance(value, Mapping):
        raise OpsError(f"{path}: {option} is not a mapping")
    return value


def _plain(value: Any) -> Any:
    """Return a value without Ansible's tags."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return float(value) if isinstance(value, float) else int(value)
    return str(value)


def _settings(path: str, options: Mapping[Any, Any]) -> dict[str, str]:
    check_harmless(path, map(str, options))
    return {str(option): _setting(value) for option, value in options.items()}


def _setting(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _absolute(directory: str, path: str) -> str:
    return os.path.normpath(Path(directory, Path(path).expanduser()).absolute())


def is_searched(file: str) -> bool:
    """Return whether a network file is one of the Nix search path, such as ``<production/network.nix>``."""
    return _SEARCHED.fullmatch(file) is not None


def _file(directory: str, file: str, nix_path: Sequence[str]) -> str:
    """Return the absolute path of a network file.

    :param nix_path: entries of the search path that come before NIX_PATH.
    :raises OpsError: if a file of the search path is not found.
    """
    searched = _SEARCHED.fullmatch(file)
    if searched is None:
        return _absolute(directory, file)
    for entry in search_path(nix_path, os.environ):
        prefix, place = entry["prefix"], entry["path"]
        if prefix and searched[1] != prefix and not searched[1].startswith(f"{prefix}/"):
            continue
        path = os.path.join(place, searched[1].removeprefix(prefix).lstrip("/"))
        if Path(path).exists():
            return _absolute("", path)
    name = searched[1].partition("/")[0]
    raise OpsError(
        f"{file} is not in the Nix search path",
        state="nothing was evaluated",
        next_step=f"Name the place of {name!r} by 'nix_path' of the source, as in {name}=./DIRECTORY.",
    )


def rebase_flake(reference: str, rebase: Callable[[str], str]) -> str:
    """Change the path in a flake reference, if it has one. Other references stay as they are.

    :param rebase: returns the path to write instead.
    """
    found = _DIRECTORY_FLAKE.fullmatch(reference)
    scheme, path, parameters = found.groups() if found else (None, "", "")
    if not path or (scheme is None and not path.startswith((".", "~", "/"))):
        return reference
    # An authority, as in git+file:///srv/flake, is empty.
    path = path[2:] if path.startswith("///") else path
    return f"{scheme or ''}{rebase(path)}{parameters}"


def _flake(directory: str, reference: str) -> str:
    """Make the path in a flake reference absolute. Nix can't read a flake behind a symbolic link."""
    if reference.startswith("-"):
        raise OpsError(f"{reference!r} is not a valid flake reference")
    return rebase_flake(reference, lambda path: os.path.realpath(_absolute(directory, path)))


def _entry(directory: str, entry: str) -> str:
    """Make the path of an entry of the Nix path absolute. URLs stay as they are."""
    prefix, equals, path = entry.rpartition("=")
    remote = re.match(r"[a-z][a-z0-9+.-]*:", path)
    return entry if remote else f"{prefix}{equals}{_absolute(directory, path)}"
