# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a network comes from: a `.network.yml` source, or one `.nix` file that is the network."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network

SOURCE_SUFFIX = ".network.yml"
FILE_SUFFIX = ".nix"

# The UUID of a deployment that was given none: the same name has the same one everywhere.
_DEPLOYMENTS = uuid.UUID("0f3a51c0-6a4e-5d0f-9c55-7d2a2f0f9d3b")


def read_source(path: str, load: Callable[[str], Any]) -> Network:
    """Read which network a source names.

    :param path: a file ending in `.network.yml`, or in `.nix`.
    :param load: reads a file of YAML, vaults included.
    :raises OpsError: where it is neither, or does not name a network.
    """
    path = _absolute("", path)
    if not path.endswith((SOURCE_SUFFIX, FILE_SUFFIX)):
        raise OpsError(f"{path} is no network", next_step=f"Name a file ending in {SOURCE_SUFFIX} or {FILE_SUFFIX}.")
    if not Path(path).exists():
        raise OpsError(f"{path} does not exist")
    if path.endswith(FILE_SUFFIX):
        return network_of_file(path)
    config = load(path)
    if not isinstance(config, Mapping):
        raise OpsError(f"{path} is not a mapping of options")
    return network_of_source(path, config)


def network_of_file(path: str) -> Network:
    """Take one file for the whole network.

    :raises OpsError: where a source beside it names the file together with others.
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
    """Make a network of files and of what a source would say beside them.

    :param files: absolute paths of the network's files.
    :raises OpsError: where they do not name a network.
    """
    name = name or Path(files[0]).stem
    return Network(
        name=name,
        uuid=_checked_uuid(files[0], uuid) if uuid else _uuid_of(name),
        files=tuple(files),
        arguments=_plain(arguments or {}),
        nix_path=tuple(_entry(os.path.dirname(files[0]), entry) for entry in nix_path),
        options={option: _setting(value) for option, value in (options or {}).items()},
    )


def network_of_source(path: str, config: Mapping[str, Any]) -> Network:
    """Make a network of a source's options; relative paths start from the source.

    :param path: the source.
    :param config: its options as the inventory plugin documents them.
    :raises OpsError: where they do not name a network.
    """
    path = _absolute("", path)
    directory = os.path.dirname(path)
    name = str(config.get("name") or os.path.basename(path).removesuffix(SOURCE_SUFFIX))
    return Network(
        name=name,
        uuid=_checked_uuid(path, config["uuid"]) if config.get("uuid") else _uuid_of(name),
        files=tuple(_absolute(directory, str(file)) for file in _list(path, config, "files")),
        flake=_flake(directory, str(config["flake"])) if config.get("flake") else None,
        arguments=_plain(_mapping(path, config, "arguments")),
        nix_path=tuple(_entry(directory, str(entry)) for entry in _list(path, config, "nix_path")),
        options={str(option): _setting(value) for option, value in _mapping(path, config, "options").items()},
    )


def _files_named_by(source: Path) -> list[str]:
    # Read as text: a source may hold what only Ansible can read, such as a vault.
    try:
        loaded = yaml.load(source.read_bytes(), Loader=_TagsIgnored)
    except (OSError, yaml.YAMLError):
        return []
    files = loaded.get("files") if isinstance(loaded, Mapping) else None
    return [_absolute(str(source.parent), str(file)) for file in files] if isinstance(files, list) else []


class _TagsIgnored(yaml.SafeLoader):
    """Reads a tagged value as nothing."""


_TagsIgnored.add_multi_constructor("!", lambda _loader, _tag, _node: None)


def _uuid_of(name: str) -> str:
    return str(uuid.uuid5(_DEPLOYMENTS, name))


def _checked_uuid(path: str, value: object) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError as error:
        raise OpsError(
            f"{path}: uuid is no UUID", next_step="Leave it out to have it derived from the name."
        ) from error


def _list(path: str, config: Mapping[str, Any], option: str) -> list[Any]:
    value = config.get(option) or []
    if isinstance(value, str):
        # As Ansible reads an option that is a list.
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
    """Free a value of what Ansible attaches to it."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return float(value) if isinstance(value, float) else int(value)
    return str(value)


def _setting(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _absolute(directory: str, path: str) -> str:
    return os.path.normpath(Path(directory, Path(path).expanduser()).absolute())


def _flake(directory: str, reference: str) -> str:
    """Make a reference that is a relative path absolute; a name or a URL stays as it is."""
    if reference.startswith("-"):
        raise OpsError(f"{reference!r} can not be a flake's reference")
    relative = reference.startswith((".", "~"))
    return _absolute(directory, reference) if relative else reference


def _entry(directory: str, entry: str) -> str:
    """Make an entry of the Nix path that is a path absolute."""
    prefix, equals, path = entry.rpartition("=")
    remote = re.match(r"[a-z][a-z0-9+.-]*:", path)
    return entry if remote else f"{prefix}{equals}{_absolute(directory, path)}"
