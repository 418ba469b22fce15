# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs Nix to evaluate one of our own Nix files."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import memory
from ansible_collections.nix.ops.plugins.plugin_utils.network.bounds import Bounds, ways_to
from ansible_collections.nix.ops.plugins.plugin_utils.network.settings import are_restricted, search_path
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink, Watch
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Heartbeat, beat

NIX = os.path.dirname(__file__)
_PLUGIN_UTILS = os.path.dirname(NIX)

# A report of scope.nix.
_REPORT = re.compile(r'trace: nix\.ops reads ([a-z]+) (".*")')

# What evaluation.nix tells of a machine that is evaluated: its name, derivation and output.
_MADE = re.compile(r"trace: nix\.ops made (\[.*\])")

# With this setting, Nix from 2.24 on reports what it copies to the store.
_REPORTING = ("--option", "warn-large-path-threshold", "1")
_COPIED = re.compile(r"warning: copied large path '(.*)' to the store \(.*\)")
_OLDER = "warning: unknown setting 'warn-large-path-threshold'"

_REMOTE = tuple(
    f"{scheme}:"
    for scheme in (
        *("http", "https", "ssh", "git", "git+http", "git+https", "git+ssh", "hg+http", "hg+https", "hg+ssh"),
        *("tarball+http", "tarball+https", "github", "gitlab", "sourcehut"),
    )
)
# The scope reports fetches without a hash, so every place is allowed.
_URIS = " ".join([*_REMOTE, "file:", "git+file:", "hg+file:", "path:"])


_RESTRICTING = (*_REPORTING, "--option", "restrict-eval", "true", "--option", "allowed-uris", _URIS)


# What Nix says, and what helps then.
_HELPS = {
    "the network has no machine called": (
        "The inventory may be older than the network: synchronize the inventory in AWX, or run the same again."
    ),
    "lock file changes": "Run 'nix flake lock' in the directory of the flake, and commit flake.lock.",
    "--show-trace": "'options: {show-trace: true}' in the source makes Nix say where it came from.",
}


class NixFailure(OpsError):
    """Nix failed to evaluate.

    :ivar reports: what the scope had reported until then, as of :class:`Asked`.
    :ivar was_killed: whether the system has ended Nix, as it does for want of memory.
    :ivar failing: the machine whose system was evaluated, if that is known.
    :ivar made: the derivations of machines that were evaluated, as evaluation.nix returns them.
    """

    reports: tuple[tuple[str, str], ...] = ()
    was_killed = False
    failing: str | None = None
    made: Mapping[str, Mapping[str, str]] = {}


class Enough(Exception):
    """Raised by a follower to end an evaluation of which nothing more is needed."""


@dataclass(frozen=True)
class Follower:
    """Follows an evaluation while it runs.

    :param started: called with the process id of Nix.
    :param made: called with the name, derivation and output of each machine as soon as its system is evaluated.
        Raises :class:`Enough` to end Nix.
    :param watch: looks at Nix about once a second, and can raise the same.
    :param machines: how many systems Nix evaluates.
    :param reported: called with the kind and subject of what scope.nix reports.
    """

    started: Callable[[int], None] | None = None
    made: Callable[[str, str, str], None] | None = None
    watch: Watch | None = None
    machines: int = 1
    reported: Callable[[str, str], None] | None = None


@dataclass(frozen=True)
class Asked:
    """What Nix answered.

    :param answer: JSON values; None if it was ended by its follower.
    :param messages: Nix's warnings and traces.
    :param reports: kind and subject of what scope.nix reported.
    """

    answer: Any
    messages: tuple[str, ...]
    reports: tuple[tuple[str, str], ...]


def ask(
    file: str,
    given: Mapping[str, Any],
    *,
    nix_path: Sequence[str] = (),
    arguments: Sequence[str] = (),
    flakes: bool = False,
    env: Mapping[str, str],
    on_line: LineSink | None = None,
    cwd: str | None = None,
    bounds: Bounds | None = None,
    named: Sequence[str] = (),
    only: Sequence[str] | None = None,
    follower: Follower | None = None,
) -> Asked:
    """Evaluate a Nix file of this directory.

    :param given: JSON values for the file.
    :param nix_path: search path entries that come before NIX_PATH.
    :param arguments: further arguments of nix-instantiate.
    :param env: variables in addition to the caller's own.
    :param bounds: what Nix may read; None for everything that the controller's settings allow.
    :param named: files that the user names, which these settings must not forbid.
    :param only: the only directories that Nix may read, without bounds; None for everything again.
    :param follower: follows the evaluation; by default lines tell how long it takes.
    :raises NixFailure: if it does not evaluate.
    :raises OpsError: if an entry of the search path is not valid.
    """
    included = _include(nix_path)
    follower = follower or Follower(watch=partial(beat, Heartbeat("the evaluation", on_line)) if on_line else None)
    heard = _Heard(on_line, follower, is_bounded=bounds is not None)
    with _private_json({**given, "bounds": _scope(bounds, nix_path, env)}) as inputs:
        argv = ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode"]
        if flakes:
            argv += ["--extra-experimental-features", "nix-command flakes"]
        argv += [os.path.join(NIX, file), "--argstr", "inputs", inputs, *arguments]
        own = [*ways_to(_PLUGIN_UTILS), os.path.dirname(inputs)]
        if only is not None:
            argv += [*included, *_restricted_to([*own, *only])]
        elif bounds is None:
            argv += included
            if are_restricted({**os.environ, **env}):
                argv += _allowing([*own, *Bounds().allow(*named).paths()])
        else:
            argv += [*_RESTRICTING, *_allowing([*own, *bounds.paths()])]
            env = {**env, "NIX_PATH": ""}
        try:
            completed = nix.run(
                argv,
                env={**env, **memory.heap(env, follower.machines)},
                cwd=cwd,
                on_stderr=heard.line,
                on_start=follower.started,
                watch=follower.watch,
            )
        except Enough:
            return Asked(None, tuple(heard.messages), tuple(heard.reports))
    if completed.exit_code != 0:
        raise _failure(heard, completed.exit_code)
    return Asked(json.loads(completed.stdout), tuple(heard.messages), tuple(heard.reports))


def _restricted_to(directories: Sequence[str]) -> list[str]:
    """Return the arguments with which Nix reads nothing else on this computer."""
    ways = [way for directory in directories if os.path.exists(directory) for way in ways_to(directory)]
    # Nix compares the beginnings of addresses.
    uris = " ".join([*_REMOTE, *(f"{kind}{way}" for way in ways for kind in ("path:", "file://", "git+file://"))])
    return ["--option", "restrict-eval", "true", "--option", "allowed-uris", uris, *_allowing(ways)]


class _Heard:
    """Tells apart what Nix says to people and what it reports.

    :param on_line: called with each line for people, until an error begins.
    :param follower: is told of machines and reports.
    :param is_bounded: whether Nix evaluates within bounds.
    """

    def __init__(self, on_line: LineSink | None, follower: Follower, *, is_bounded: bool) -> None:
        self.messages: list[str] = []
        self.unshown: list[str] = []
        self.reports: dict[tuple[str, str], None] = {}
        self._on_line = on_line
        self._is_bounded = is_bounded
        self._follower = follower
        self._failing = False

    def line(self, line: str) -> None:
        """Hear a line of standard error."""
        if report := _REPORT.fullmatch(line):
            self._report(*_report(report[1], str(json.loads(report[2]))))
            return
        if made := _MADE.fullmatch(line):
            if self._follower.made is not None:
                self._follower.made(*map(str, json.loads(made[1])))
            return
        if self._is_bounded and (copied := _COPIED.fullmatch(line)):
            self._report("copied", copied[1])
            return
        if line == _OLDER:
            return
        self.messages.append(line)
        # The exception has the whole error, so it is not shown here as well.
        self._failing = self._failing or line.startswith("error:")
        if self._on_line is not None and not self._failing:
            self._on_line(line)
        else:
            self.unshown.append(line)

    def _report(self, kind: str, subject: str) -> None:
        if (kind, subject) not in self.reports and self._follower.reported is not None:
            self._follower.reported(kind, subject)
        self.reports[kind, subject] = None


def _failure(heard: _Heard, exit_code: int) -> NixFailure:
    said = "\n".join(heard.unshown)
    helps = next((helps for cause, helps in _HELPS.items() if cause in said), "")
    failure = NixFailure(
        "the evaluation failed",
        output=said,
        state="no machine was touched",
        next_step=f"Correct the error that Nix shows above. {helps}".rstrip(),
        exit_code=exit_code,
    )
    failure.reports = tuple(heard.reports)
    failure.was_killed = exit_code == -signal.SIGKILL
    return failure


def _report(kind: str, subject: str) -> tuple[str, str]:
    # Of a name that is not UTF-8, it is not known which one it is.
    return ("volatile", subject) if "\ufffd" in subject else (kind, subject)


def _scope(bounds: Bounds | None, nix_path: Sequence[str], env: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the arguments of scope.nix."""
    if bounds is None:
        return None
    environment = {**os.environ, **env}
    return {"roots": bounds.roots(), "search": search_path(nix_path, environment), "variables": environment}


def _allowing(paths: Sequence[str]) -> list[str]:
    # Without a prefix, Nix would take what is before a `=` in the path for one.
    entries = [f"nix.ops-{count}={path}" for count, path in enumerate(paths)]
    return [word for entry in entries for word in ("-I", entry)]


def _include(nix_path: Sequence[str]) -> list[str]:
    for entry in nix_path:
        if entry.startswith("-"):
            raise OpsError(f"{entry!r} is not a valid entry of the Nix path", next_step="Correct 'nix_path'.")
    return [word for entry in nix_path for word in ("-I", entry)]


@contextmanager
def _private_json(value: Mapping[str, Any]) -> Iterator[str]:
    directory = os.path.realpath(tempfile.mkdtemp(prefix="nix.ops-"))
    try:
        path = os.path.join(directory, "inputs.json")
        with open(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", errors="surrogateescape"
        ) as file:
            # Other bytes than UTF-8 stay as they are.
            file.write(json.dumps(value, ensure_ascii=False))
        yield path
    finally:
        shutil.rmtree(directory, ignore_errors=True)
