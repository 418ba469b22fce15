# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs Nix's stable commands and reads their output."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, ClassVar

from ansible_collections.nix.ops.plugins.plugin_utils import process
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed, LineSink, Watch

# The command that installs what a controller lacks.
INSTALL = "ansible-playbook nix.ops.install"

_OPTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_STORE_PATH = r"/nix/store/[0-9a-z]{32}-[A-Za-z0-9+._?=-]+"
# What the system and SQLite (sqlite3_errstr) say of the disk and Nix's database, and what helps. SQLite says "disk I/O
# error" if the disk is full, too.
_TROUBLES = {
    "No space left on device|database or disk is full|not enough space available": (
        "Free room on the machine (df -h; df -i; nix-collect-garbage), then run the same again."
    ),
    "database disk image is malformed|file is not a database": (
        "The machine's Nix database is damaged: check its disk (dmesg), then restore /nix/var/nix/db from a backup, or"
        " install the machine anew. Then run the same again."
    ),
    "disk I/O error": (
        "Free room on the machine if its disk is full (df -h; df -i). Otherwise the disk fails: check it (dmesg). Then"
        " run the same again."
    ),
}

_NOT_FOUND = re.compile(r"file '([^/']+)[^']*' was not found in the Nix search path")
_NO_BUILD_USERS = re.compile(
    "(?<!warning: )the group '[^']*' specified in 'build-users-group' does not exist"
    "|the build users group '[^']*' has no members"
)
STORE_PATH = re.compile(_STORE_PATH)


def with_settings(options: Mapping[str, object], environment: Mapping[str, str], inherited: str = "") -> dict[str, str]:
    """Add settings of Nix to the environment of a command. Other users can't read them there.

    :param options: settings as in ``nix.conf``: texts, numbers or booleans. They override those of the environment.
    :param environment: the command's variables.
    :param inherited: the ``NIX_CONFIG`` of the command if ``environment`` does not set it.
    :raises OpsError: if a name or value is not valid.
    """
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()}
    for name, text in texts.items():
        if not _OPTION.fullmatch(name) or "\n" in text:
            raise OpsError(f"{name!r} or its value is not a valid setting of Nix", next_step="Correct 'options'.")
    if not options:
        return dict(environment)
    lines = [environment.get("NIX_CONFIG", inherited), *(f"{name} = {text}" for name, text in texts.items())]
    return {**environment, "NIX_CONFIG": "\n".join(lines)}


def store_paths(paths: Sequence[str]) -> list[str]:
    """Return the paths if all are paths of the Nix store.

    :raises OpsError: naming the first that is not.
    """
    for path in paths:
        if not STORE_PATH.fullmatch(path):
            raise OpsError(
                f"{path!r} is not a path in the Nix store", next_step="Give paths like /nix/store/HASH-NAME."
            )
    return list(paths)


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes | IO[bytes] = b"",
    stdout: IO[bytes] | None = None,
    cwd: str | None = None,
    on_stdout: LineSink | None = None,
    on_stderr: LineSink | None = None,
    on_start: Callable[[int], None] | None = None,
    watch: Watch | None = None,
) -> Completed:
    """Run one of Nix's commands on the controller.

    :raises OpsError: if Nix is not installed.
    """
    try:
        return process.run(
            argv,
            env=env,
            stdin=stdin,
            stdout=stdout,
            cwd=cwd,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            on_start=on_start,
            watch=watch,
        )
    except FileNotFoundError:
        raise OpsError(
            f"{argv[0]} is not on the controller's PATH",
            state="nothing was changed",
            next_step=f"{INSTALL}, or correct PATH if Nix is installed.",
        ) from None


def lines(argv: Sequence[str], what: str, *, env: Mapping[str, str] | None = None) -> list[str]:
    """Run a command that has to succeed, and return the lines of its output.

    :param what: the message if it fails.
    :raises OpsError: if the exit code is not 0.
    """
    done = run(argv, env=env)
    if done.exit_code != 0:
        raise OpsError(what, output=done.stderr, exit_code=done.exit_code)
    return done.stdout.split("\n")[:-1]


def explain_search_path(error: OpsError, next_step: str) -> None:
    """Replace an error's next step, if Nix has not found a file of its search path.

    :param next_step: the new one, with ``{entry}`` in the place of an entry that would help.
    """
    if missing := _NOT_FOUND.search(error.output or ""):
        error.next_step = next_step.format(entry=f"{missing[1]}=/path/to/{missing[1]}")


def what_helps(output: str) -> str | None:
    """Return what helps if an output says that the disk is full or the store is damaged; None if it does not."""
    return next((helps for said, helps in _TROUBLES.items() if re.search(said, output)), None)


def lacks_build_users(output: str) -> bool:
    """Return whether an output says that the group of Nix's build users is missing or empty."""
    return _NO_BUILD_USERS.search(output) is not None


def requisites(paths: Sequence[str], *, env: Mapping[str, str] | None = None) -> list[str]:
    """Return the closures of paths in the controller's store.

    :raises OpsError: if the store lacks a path.
    """
    return lines(
        ["nix-store", "--query", "--requisites", *store_paths(paths)],
        "the closure can't be read from the controller's store",
        env=env,
    )


def sizes(paths: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
    """Return the total size in bytes of paths in the controller's store, unpacked."""
    if not paths:
        return 0
    asked = lines(["nix-store", "--query", "--size", *store_paths(paths)], "the size can't be read", env=env)
    return sum(int(line) for line in asked)


def _name(path: str) -> str:
    """Return the name in a store path."""
    return path.rpartition("/")[2].partition("-")[2]


@dataclass
class Progress:
    """Reads from Nix's output what it builds, fetches and copies.

    :param to_build: derivations that Nix announces to build.
    :param to_fetch: paths that Nix announces to fetch.
    :param built: derivations whose build has begun.
    :param copied: paths whose copying has begun, from a substituter or to another store.
    """

    to_build: list[str] = field(default_factory=list)
    to_fetch: list[str] = field(default_factory=list)
    built: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    _latest: str = ""
    _plan: list[str] | None = None

    _BUILDING: ClassVar[re.Pattern[str]] = re.compile(rf"building '({_STORE_PATH})'")
    _COPYING: ClassVar[re.Pattern[str]] = re.compile(rf"copying path '({_STORE_PATH})'")
    _PLANNED: ClassVar[re.Pattern[str]] = re.compile(rf"  ({_STORE_PATH})")

    def read(self, line: str) -> None:
        """Read one line of standard error."""
        planned = self._PLANNED.fullmatch(line)
        if planned and self._plan is not None:
            self._plan.append(planned[1])
            return
        self._plan = None
        if "will be built" in line or "would be built" in line:
            self._plan = self.to_build
        elif "will be fetched" in line or "would be fetched" in line:
            self._plan = self.to_fetch
        elif building := self._BUILDING.match(line):
            self.built.append(building[1])
            self._latest = f"building {_name(building[1]).removesuffix('.drv')}"
        elif copying := self._COPYING.match(line):
            self.copied.append(copying[1])
            self._latest = f"copying {_name(copying[1])}"

    def latest(self) -> str:
        """Return what Nix has begun last; empty if it has begun nothing."""
        return f"the last step that began is {self._latest}" if self._latest else ""


def export(paths: Sequence[str], file: Path, *, environment: Mapping[str, str]) -> Completed:
    """Export store paths of the controller to a file, which can be larger than the memory."""
    with file.open("wb") as sink:
        return run(["nix-store", "--export", *store_paths(paths)], env=environment, stdout=sink)


def import_file(file: Path, *, environment: Mapping[str, str]) -> Completed:
    """Import store paths from an exported file into the controller's store."""
    with file.open("rb") as source:
        return run(["nix-store", "--import"], env=environment, stdin=source)
