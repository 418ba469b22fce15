# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates deployments: decides what there is already, and writes the source and Ansible's configuration."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import configuration, places
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network
from ansible_collections.nix.ops.plugins.plugin_utils.network.source import SOURCE_SUFFIX, is_searched, rebase_flake
from ansible_collections.nix.ops.plugins.plugin_utils.network.source_text import dump

_COMMENT = "# A deployment of nix.ops; deploy it with: ansible-playbook -i {source} nix.ops.deploy\n"
_HIDDEN = "(hidden)"
_NOTHING_WRITTEN = "nothing was written"

# An entry of the Nix path that is a URL.
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*:")

# The options of a network that an existing deployment is compared by, and the network's attribute of each.
_COMPARED = {
    "networks": "files",
    "flake": "flake",
    "uuid": "uuid",
    "arguments": "arguments",
    "nix_path": "nix_path",
    "options": "options",
}


@dataclass(frozen=True)
class File:
    """A file to write.

    :param text: its content.
    :param shown: its content without secrets, for the user.
    :param private: whether only its owner may read it.
    """

    path: str
    text: str
    shown: str
    private: bool = False


@dataclass(frozen=True)
class Plan:
    """What the creation of a deployment writes.

    :param files: the files, the source last.
    :param directories: private directories to make.
    :param hints: what is left to do for the user, line by line.
    """

    files: tuple[File, ...]
    directories: tuple[str, ...]
    hints: tuple[str, ...]


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as plain values, without the tags that Ansible attaches.

    :raises OpsError: if a value has no equivalent in JSON.
    """
    try:
        plain: dict[str, Any] = json.loads(json.dumps(options))
    except (TypeError, ValueError) as error:
        raise OpsError(
            f"an option can't be written as JSON: {error}", next_step="Give texts, numbers, lists and mappings."
        ) from error
    return plain


def config(directory: str, start: str, uuid: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Compose the options of a source, with paths relative to the source.

    :param directory: the directory of the source.
    :param start: the directory where relative paths in the options start.
    :param uuid: the deployment's UUID if the options have none.
    :param given: the options of deployment_create as plain values.
    """

    def path(given: str) -> str:
        relative = os.path.relpath(os.path.join(start, given), directory)
        if os.path.isabs(given) and relative.startswith(".."):
            return given
        # A leading tilde would be read as a home directory.
        return f"./{relative}" if relative[0] == "~" else relative

    def entry(given: str) -> str:
        prefix, equals, place = given.rpartition("=")
        return given if _REMOTE.match(place) or os.path.isabs(place) else f"{prefix}{equals}{path(place)}"

    def flake_path(given: str) -> str:
        return given if os.path.isabs(given) or given[0] == "~" else os.path.join(".", path(given))

    wanted = {
        "name": given["deployment"],
        "uuid": given["uuid"] or uuid,
        "files": [file if is_searched(file) else path(file) for file in given["networks"] or ()],
        "flake": rebase_flake(given["flake"], flake_path) if given["flake"] else None,
        "arguments": given["arguments"],
        "nix_path": [entry(path) for path in given["nix_path"]],
        "options": given["options"],
    }
    return {option: value for option, value in wanted.items() if value}


def check_given(options: Mapping[str, Any]) -> None:
    """Check that a name, and either files or a flake, were given: a user may have given empty answers.

    :param options: the options of deployment_create.
    :raises OpsError: if one of them is missing.
    """
    if not options["deployment"]:
        raise OpsError(
            "the deployment has no name",
            state=_NOTHING_WRITTEN,
            next_step="Run the same again, and name it: -e deployment=NAME.",
        )
    if not options["networks"] and not options["flake"]:
        raise OpsError(
            f"deployment {quote(options['deployment'])} has no network files",
            state=_NOTHING_WRITTEN,
            next_step="Run the same again, and name them: -e 'networks=target.nix config.nix', or -e flake=.",
        )


def find_existing(path: str, network: Network, known: Sequence[Deployment]) -> Deployment | None:
    """Return the deployment that a source would create a second time.

    :param path: the path of the source.
    :param network: the network that the source would name.
    :param known: all deployments of the inventory and of the source's directory.
    :raises OpsError: if the source's file is another deployment or can't be read, or another deployment has the UUID.
    """
    directory = os.path.dirname(path)
    for one in known:
        if one.path == path or (one.name == network.name and os.path.dirname(one.path) == directory):
            _check_existing(one, network)
            return one
    for one in known:
        if one.uuid == network.uuid:
            raise OpsError(
                f"the UUID {network.uuid} is that of deployment {quote(one.name)}, {one.path}",
                state=_NOTHING_WRITTEN,
                next_step="Leave it out to have a new one made.",
            )
    return None


def find_differing(existing: Network, wanted: Network, options: Mapping[str, Any]) -> list[str]:
    """Return the options in which an existing deployment differs; options that were not given don't count."""
    return [
        option
        for option, attribute in _COMPARED.items()
        if options[option] and getattr(existing, attribute) != getattr(wanted, attribute)
    ]


def describe_existing(existing: Deployment, differing: Sequence[str]) -> list[str]:
    """Return lines that tell the user of an existing deployment.

    :param differing: the options in which it differs from what was given.
    """
    network, directory = existing.network, os.path.dirname(existing.path)
    if network is None or network.flake:
        named = f"flake {network and network.flake}"
    else:
        named = f"files {', '.join(os.path.relpath(file, directory) for file in network.files)}"
    lines = [
        f"deployment {quote(existing.name)} exists already: UUID {existing.uuid}, {named}, named by {existing.path}"
    ]
    if differing:
        lines.append(f"what was given differs ({', '.join(differing)}); the deployment was left as it is")
    return lines


def check_files(directory: str, network: Network) -> None:
    """Check that the source's directory and the network's files exist.

    :param directory: the directory of the source.
    :raises OpsError: if one is missing, or a file is a source itself.
    """
    if not Path(directory).is_dir():
        raise OpsError(f"there is no directory {directory}", next_step="Make it, or name another one.")
    for file in network.files:
        if not Path(file).exists():
            raise OpsError(f"{file} does not exist", state=_NOTHING_WRITTEN, next_step="Correct the file's name.")
        if file.endswith(SOURCE_SUFFIX):
            raise OpsError(
                f"{file} is a source, not a network file",
                state=_NOTHING_WRITTEN,
                next_step="Give the .nix files that it names.",
            )


def plan(path: str, config: Mapping[str, Any], uuid: str) -> Plan:
    """Decide what to write for a new deployment: its source, and an ``ansible.cfg`` if none is in use.

    :param path: the path of the source.
    :param config: the options of the source, plain values.
    :param uuid: the deployment's UUID.
    """
    directory = os.path.dirname(path)
    file = source(path, config)
    secrets = [f"the arguments stand in {path} as they are: encrypt what is secret before you commit it"]
    secrets = secrets if file.private else []
    settings = configuration.of_directory(directory)
    if settings is not None:
        return Plan((file,), (), (*configuration.hints(settings, path, uuid), *secrets))
    settings = configuration.of_this_run()
    if configuration.is_writable_by_all(directory):
        ignored = f"everyone may write to {directory}, so Ansible would ignore an {configuration.NAME} there"
        return Plan((file,), (), (ignored, *configuration.hints(settings, path, uuid), *secrets))
    text = configuration.compose(path, uuid, settings.enabled)
    cfg = File(os.path.join(directory, configuration.NAME), text, text)
    return Plan((cfg, file), (places.facts(uuid),), tuple(secrets))


def source(path: str, config: Mapping[str, Any]) -> File:
    """Compose the source of a deployment.

    :param config: the options beside ``plugin``, plain values.
    """
    return File(path, _yaml(path, config), _yaml(path, _without_secrets(config)), private=bool(config.get("arguments")))


def write(directory: str, plan: Plan) -> None:
    """Write all files of a plan or none, and never over an existing file.

    :param directory: the directory of the source.
    :raises OpsError: if a file exists already or can't be written.
    """
    done: list[str] = []
    try:
        for private in plan.directories:
            places.make_private(private)
        for file in plan.files:
            _write(file)
            done.append(file.path)
    except FileExistsError as error:
        _undo(done)
        raise OpsError(
            f"{error.filename2 or error.filename} exists already",
            state=_NOTHING_WRITTEN,
            next_step="Run the same again, to see what it is.",
        ) from error
    except OSError as error:
        _undo(done)
        raise OpsError(
            f"{directory}: {error.strerror}: {error.filename2 or error.filename}",
            state="no deployment was created",
            next_step="Create it where you may write.",
        ) from error


def quote(text: str) -> str:
    """Quote a text as NixOps does."""
    return f"\N{LEFT SINGLE QUOTATION MARK}{text}\N{RIGHT SINGLE QUOTATION MARK}"


def _check_existing(existing: Deployment, wanted: Network) -> None:
    if existing.network is None:
        raise OpsError(
            f"{existing.path} exists already, and can't be read",
            output=existing.problem,
            state=_NOTHING_WRITTEN,
            next_step="Correct it, or give the new deployment another name.",
        )
    if existing.name != wanted.name:
        raise OpsError(
            f"{existing.path} exists already, and is deployment {quote(existing.name)}",
            state=_NOTHING_WRITTEN,
            next_step="Give the new deployment another name.",
        )


def _undo(paths: Sequence[str]) -> None:
    for path in paths:
        with suppress(OSError):
            Path(path).unlink()


def _write(file: File) -> None:
    with _temporary(os.path.dirname(file.path)) as (handle, path):
        with open(handle, "w", encoding="utf-8") as opened:
            opened.write(file.text)
            opened.flush()
            os.fchmod(opened.fileno(), 0o600 if file.private else 0o666 & ~_umask())
            os.fsync(opened.fileno())
        # Unlike a rename, a link never replaces an existing file.
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


def _yaml(path: str, config: Mapping[str, Any]) -> str:
    comment = _COMMENT.format(source=os.path.basename(path))
    dumped = dump({"plugin": configuration.PLUGIN, **config})
    return f"---\n{comment}{dumped}"


def _without_secrets(config: Mapping[str, Any]) -> dict[str, Any]:
    hidden = dict.fromkeys(config.get("arguments", {}), _HIDDEN)
    return {**config, "arguments": hidden} if hidden else dict(config)
