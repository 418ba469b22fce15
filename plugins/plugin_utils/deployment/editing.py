# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes and copies deployments: decides the edits of their sources, and writes them atomically."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import creation
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.creation import File, quote
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import source_text
from ansible_collections.nix.ops.plugins.plugin_utils.network.source import SOURCE_SUFFIX
from ansible_collections.nix.ops.plugins.plugin_utils.network.source_text import ABSENT, Edit

_NOTHING_CHANGED = "nothing was changed"

# Options with paths, and the options of deployment_create without values.
_PLACES = ("networks", "flake", "nix_path")
_NO_OPTIONS: dict[str, Any] = {
    "uuid": None,
    "networks": [],
    "flake": None,
    "arguments": {},
    "nix_path": [],
    "options": {},
}

# A name that a Nix function can have for an argument.
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_'-]*")

# Seconds to wait for another run that edits in the same directory.
_BUSY = 10


@dataclass(frozen=True)
class Change:
    """An edit of a source.

    :param edits: the options that change.
    :param before: its text.
    :param after: its new text.
    """

    path: str
    edits: tuple[Edit, ...]
    before: str
    after: str

    @property
    def options(self) -> list[str]:
        """The options that change."""
        return source_text.differing(self.before, self.after, self.path)

    @property
    def shown(self) -> tuple[str, str]:
        """Both texts without the values of arguments, for the user."""
        new = {edit.path[-1] for edit in self.edits if edit.path[0] == "arguments"}
        return _hidden(self.path, self.before, ()), _hidden(self.path, self.after, new)


def choose(known: Sequence[Deployment], wanted: str | None, sources: Iterable[str]) -> Deployment:
    """Return the deployment that the user means.

    :param known: the deployments of the inventory and of the current directory.
    :param wanted: a name or a UUID; None for the only deployment of the inventory, or else the only one.
    :param sources: the sources of the inventory. One that does not evaluate has no hosts.
    :raises OpsError: if there is none, or more than one.
    """
    found = [one for one in known if wanted in (None, one.name, one.uuid)]
    if wanted is None and len(found) > 1:
        given = set(map(os.path.realpath, sources))
        found = [one for one in known if one.hosts or os.path.realpath(one.path) in given] or found
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{one.name} ({one.path})" for one in found or known)
    if found:
        what = f"there are {len(found)} deployments{f' {quote(wanted)}' if wanted else ''}: {names}"
        next_step = "Name one of them: -e deployment=NAME, or its UUID."
    else:
        what = f"there is no deployment {quote(wanted)}, only {names}" if wanted and known else "there is no deployment"
        next_step = "Name its source with -i NAME.network.yml, or create it with nix.ops.create."
    raise OpsError(what, state=_NOTHING_CHANGED, next_step=next_step)


def read(deployment: Deployment) -> str:
    """Return the text of a deployment's source, with the ends of its lines as they are.

    :raises OpsError: if it is not a source, or can't be read.
    """
    path = deployment.path
    if not path.endswith(SOURCE_SUFFIX):
        raise OpsError(
            f"{path} is a network file without a source, so nothing can be written",
            state=_NOTHING_CHANGED,
            next_step=f"Create a source of it: nix.ops.create -e deployment={deployment.name} -e networks={path}",
        )
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise OpsError(
            f"{path} can't be read", output=str(error), state=_NOTHING_CHANGED, next_step="Correct it."
        ) from error


def edits(deployment: Deployment, start: str, given: Mapping[str, Any]) -> list[Edit]:
    """Return the edits of a source for what the user gives.

    :param start: the directory where relative paths in the options start.
    :param given: the options of deployment_modify as plain values.
    :raises OpsError: if an argument's name is not valid.
    """
    found = []
    if given["name"] and given["name"] != deployment.name:
        found.append(Edit(("name",), given["name"]))
        # A UUID that is derived from the name would change with it.
        found.append(Edit(("uuid",), deployment.uuid))
    wanted = creation.config(
        os.path.dirname(deployment.path),
        start,
        deployment.uuid,
        {**_NO_OPTIONS, **{name: given[name] or _NO_OPTIONS[name] for name in _PLACES}, "deployment": deployment.name},
    )
    for option, other in (("files", "flake"), ("flake", "files")):
        if option in wanted:
            found += [Edit((other,), ABSENT), Edit((option,), wanted[option])]
    if given["nix_path"] is not None:
        found.append(Edit(("nix_path",), wanted.get("nix_path", ABSENT)))
    found += [
        Edit(("options", name), ABSENT if value is None else value) for name, value in (given["options"] or {}).items()
    ]
    for name in (*given["arguments"], *given["unset"]):
        if not _ARGUMENT.fullmatch(name):
            raise OpsError(
                f"{name!r} is not a valid name of an argument",
                state=_NOTHING_CHANGED,
                next_step="Give the names that the network's function has: nix.ops.show_arguments shows them.",
            )
    found += [Edit(("arguments", name), ABSENT) for name in given["unset"] if name not in given["arguments"]]
    return found + [Edit(("arguments", name), value) for name, value in given["arguments"].items()]


def change(deployment: Deployment, wanted: Sequence[Edit]) -> Change:
    """Edit the text of a deployment's source. Nothing is written.

    :raises OpsError: if it can't be edited safely.
    """
    text = read(deployment)
    return Change(deployment.path, tuple(wanted), text, source_text.edit(text, wanted, deployment.path))


def check_name(name: str, deployment: Deployment, known: Sequence[Deployment]) -> None:
    """Refuse a name that another deployment has.

    :param known: the deployments of the inventory and of the source's directory.
    """
    for one in known:
        if one.name == name and one.path != deployment.path:
            raise OpsError(
                f"{one.path} is deployment {quote(name)} already",
                state=_NOTHING_CHANGED,
                next_step="Give it another name.",
            )


def clone(deployment: Deployment, name: str, uuid: str) -> File:
    """Copy a deployment's source, with its comments, under another name and UUID.

    :param name: the name of the copy.
    :raises OpsError: if it can't be edited safely.
    """
    text = read(deployment)
    path = os.path.join(os.path.dirname(deployment.path), name + SOURCE_SUFFIX)
    new = source_text.edit(text, [Edit(("name",), name), Edit(("uuid",), uuid)], deployment.path)
    is_private = not stat.S_IMODE(os.stat(deployment.path).st_mode) & 0o077
    return File(path, new, _hidden(path, new, ()), private=is_private)


def write(change: Change) -> None:
    """Replace the source as a whole, if it is still what was read.

    Its mode and owner stay. With new arguments, its owner alone may read it, as after a creation.

    :raises OpsError: if it was changed meanwhile, or can't be written.
    """
    path = os.path.realpath(change.path)
    adds_arguments = any(edit.path[0] == "arguments" and edit.value is not ABSENT for edit in change.edits)
    try:
        with _locked(os.path.dirname(path)), open(path, encoding="utf-8", newline="") as file:
            if file.read() != change.before:
                raise OpsError(
                    f"{change.path} was changed meanwhile", state=_NOTHING_CHANGED, next_step="Run the same again."
                )
            _replace(path, change.after, os.fstat(file.fileno()), private=adds_arguments)
    except OSError as error:
        raise OpsError(
            f"{change.path} can't be written",
            output=str(error),
            state=_NOTHING_CHANGED,
            next_step="Make it and its directory writable.",
        ) from error


def _replace(path: str, text: str, status: os.stat_result, *, private: bool) -> None:
    handle, new = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".nix-ops-")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            with suppress(PermissionError):
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode) & (0o700 if private else 0o777))
            os.fsync(file.fileno())
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink()
        raise


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Keep other runs from editing in a directory."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _BUSY
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OpsError(
                        f"another run edits in {directory}",
                        state=_NOTHING_CHANGED,
                        next_step="Run the same again once it has ended.",
                    ) from None
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _hidden(path: str, text: str, new: Collection[str]) -> str:
    """Replace the values of arguments, which may be secret.

    :param new: the arguments that were set.
    """

    def shown(name: str) -> str:
        return "(hidden, as given)" if name in new else "(hidden)"

    try:
        return source_text.hide(text, "arguments", path, shown)
    except OpsError:
        # Comments between brackets, for example.
        return "(not shown, since its arguments can't be hidden)\n"
