# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects the contents of keys, from Ansible's variables and from the network."""

from __future__ import annotations

import base64
import binascii
import os
import stat
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils import process
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Key

# Largest content of a key in bytes.
LARGEST = 64 * 1024 * 1024

# Seconds for a key's command.
_COMMAND_SECONDS = 300

_UNTOUCHED = "no key of this machine was touched"

# Evaluates the contents of these keys: for each name `text` and `command`.
Evaluate = Callable[[Sequence[str]], Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Sources:
    """Where contents may come from.

    :param machine: the machine's name, for messages.
    :param given: the contents that Ansible's variables give, by name. They win over those of the network.
    :param evaluate: evaluates what the network gives; None without a network.
    :param directory: the directory of the network.
    :param commands: whether the network may run commands on the controller.
    :param files: ``anywhere``, or ``project`` if files have to be in the project of the network.
    """

    machine: str
    given: Mapping[str, Any]
    evaluate: Evaluate | None
    directory: str
    commands: bool = True
    files: str = "anywhere"

    def refuse(self, key: str, why: str, next_step: str) -> OpsError:
        """Return the error for a key."""
        return OpsError(f"the key {key} {why}", machine=self.machine, state=_UNTOUCHED, next_step=next_step)


def check_names(machine: str, keys: Mapping[str, str | None], given: Sequence[str]) -> None:
    """Refuse keys that nobody gives, and contents of keys that the network does not have.

    :param keys: for each key of the network the option that gives its content; None for none.
    :param given: the names of the contents that Ansible's variables give.
    :raises OpsError: naming all of them.
    """
    if missing := sorted(name for name, source in keys.items() if source is None and name not in given):
        raise OpsError(
            f"no content for the keys {', '.join(missing)}",
            machine=machine,
            state=_UNTOUCHED,
            next_step="Give it in the variable nix_keys, or set text, keyFile or keyCommand of"
            f" deployment.keys.{missing[0]}.",
        )
    if unknown := sorted(set(given) - set(keys)):
        raise OpsError(
            f"nix_keys has {', '.join(unknown)}, which deployment.keys of the network does not have",
            machine=machine,
            state=_UNTOUCHED,
            next_step=f"Correct the name, or add deployment.keys.{unknown[0]} = {{ }}; to the network.",
        )


def collect(keys: Sequence[Key], sources: Sources, *, run: bool = True) -> dict[str, bytes | None]:
    """Return the content of each key; None for one whose command is not run.

    :param run: whether to run commands.
    :raises OpsError: if a content is missing, empty or too large, can't be read, or is forbidden; it names the key.
    """
    evaluated = [key for key in keys if key.name not in sources.given and key.source in ("text", "keyCommand")]
    commands = [key.name for key in evaluated if key.source == "keyCommand"]
    if commands and not sources.commands:
        raise sources.refuse(
            commands[0],
            "comes from a command (keyCommand), and commands are forbidden here (deploy_key_commands)",
            "Give its content in the variable nix_keys, or allow commands with deploy_key_commands=true.",
        )
    wanted = [key.name for key in evaluated if run or key.source == "text"]
    found = _evaluate(sources, wanted) if wanted else {}
    contents = {key.name: _content(key, sources, found.get(key.name), run=run) for key in keys}
    for name, content in contents.items():
        if content is not None and not 0 < len(content) <= LARGEST:
            why = "is empty" if not content else f"has {len(content)} bytes, and {LARGEST} is the most"
            raise sources.refuse(name, why, "Correct its content.")
    return contents


def _evaluate(sources: Sources, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    if sources.evaluate is None:
        raise sources.refuse(names[0], "has no content", "Give it in 'contents'.")
    return sources.evaluate(names)


def _content(key: Key, sources: Sources, found: Mapping[str, Any] | None, *, run: bool) -> bytes | None:
    if key.name in sources.given:
        return _given(key, sources)
    if key.source == "keyFile" and key.file is not None:
        return _read(key.name, key.file, sources)
    if found is None and key.source == "keyCommand" and not run:
        return None
    if found and found.get("text") is not None:
        return str(found["text"]).encode("utf-8", errors="surrogateescape")
    if found and found.get("command"):
        return _run(key.name, [str(word) for word in found["command"]], sources)
    raise sources.refuse(
        key.name, "has no content", f"Give it in the variable nix_keys, or set deployment.keys.{key.name}.text."
    )


def _given(key: Key, sources: Sources) -> bytes:
    value = sources.given[key.name]
    if isinstance(value, Mapping) and set(value) == {"base64"}:
        try:
            return base64.b64decode("".join(str(value["base64"]).split()), validate=True)
        except (ValueError, binascii.Error) as error:
            # The error may show a part of the content.
            raise sources.refuse(key.name, "is not valid base64", "Correct it in the variable nix_keys.") from error
    if isinstance(value, str):
        return str(value).encode("utf-8", errors="surrogateescape")
    raise sources.refuse(
        key.name,
        f"is given as {type(value).__name__}, and has to be a text",
        "Give a text, or {base64: TEXT} for a binary content. Numbers need quotes.",
    )


def _read(name: str, file: str, sources: Sources) -> bytes:
    path = os.path.join(sources.directory, file)
    if sources.files == "project":
        path = os.path.realpath(path)
        project = project_of(sources.directory)
        if not f"{path}/".startswith(f"{project}/"):
            raise sources.refuse(
                name,
                f"is the file {path}, outside of the project {project} (deploy_key_files)",
                "Move the file into the project, or give the content in the variable nix_keys.",
            )
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise sources.refuse(name, f"is {path}, which is not a file", "Correct keyFile.")
            return opened.read(LARGEST + 1)
    except OSError as error:
        raise sources.refuse(
            name, f"can't be read: {path}: {error.strerror}", "Correct keyFile, or who may read the file."
        ) from error


def project_of(directory: str) -> str:
    """Return the Git work tree that a directory is in, or the directory."""
    real = Path(os.path.realpath(directory))
    return str(next((above for above in (real, *real.parents) if (above / ".git").exists()), real))


def _run(name: str, argv: Sequence[str], sources: Sources) -> bytes:
    deadline = time.monotonic() + _COMMAND_SECONDS
    next_step = f"Run it by hand: deployment.keys.{name}.keyCommand."

    def watch(_process: int, _printed: int) -> None:
        if time.monotonic() > deadline:
            raise sources.refuse(name, f"has a command that has not ended in {_COMMAND_SECONDS} seconds", next_step)

    # In memory, not in a file on a disk.
    printed = bytearray()

    def take(piece: bytes) -> None:
        printed.extend(piece)
        if len(printed) > LARGEST:
            raise sources.refuse(name, f"has a command that prints more than {LARGEST} bytes", next_step)

    try:
        done = process.run(argv, stdout=take, cwd=sources.directory, watch=watch)
    except (OSError, subprocess.SubprocessError) as error:
        raise sources.refuse(name, f"has a command that can't be run: {error}", next_step) from error
    if done.exit_code != 0:
        failure = sources.refuse(name, f"has a command that ended with exit code {done.exit_code}", next_step)
        failure.output = done.stderr
        raise failure
    return bytes(printed)
