# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds derivations: on the controller, or on a host behind any Ansible connection."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer, jobs
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine, script
from ansible_collections.nix.ops.plugins.plugin_utils.nix import Progress
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Heartbeat

# The first derivation that failed, in the words of old and new versions of Nix.
_FAILED = re.compile(r"error: (?:builder for|Cannot build) '(/nix/store/[^'\s]{1,300}\.drv)'", re.IGNORECASE)

# Maximum number of Nix's lines in the message of a failed build.
_END_OF_LOG = 40


@dataclass(frozen=True)
class Built:
    """The result of a build or of a dry run.

    :param built: derivations that were built, or would be.
    :param fetched: paths that were fetched from a substituter, or would be.
    """

    built: tuple[str, ...]
    fetched: tuple[str, ...]


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    :param dry_run: only return what would be built and fetched.
    :param repair: check what was built before, and build it again if it is damaged.
    :param environment: variables for Nix on the controller.
    """

    dry_run: bool = False
    repair: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def words(self, derivations: Sequence[str]) -> list[str]:
        """Return the options as words of ``nix-store``."""
        return [
            "--realise",
            "--no-gc-warning",
            *(["--dry-run"] if self.dry_run else []),
            *(["--repair"] if self.repair and not self.dry_run else []),
            *nix.store_paths(derivations),
        ]


def realise_here(
    derivations: Sequence[str],
    *,
    outputs: Sequence[str],
    options: BuildOptions,
    roots: Sequence[str],
    on_line: LineSink,
) -> Built:
    """Build derivations in the controller's store.

    :param outputs: the output of each derivation.
    :param roots: a GC root for the output of each derivation; or empty for none.
    :raises OpsError: if a build fails; the message has the last lines of Nix.
    """
    if not derivations:
        return Built((), ())
    # In one call, so that Nix shows one plan and builds in parallel.
    if not roots or options.dry_run:
        return realise(derivations, None, options=options, on_line=on_line)
    Path(roots[0]).parent.mkdir(parents=True, exist_ok=True)
    if len(roots) == 1:
        return realise(derivations, roots[0], options=options, on_line=on_line)
    with held(roots[0]) as link:
        built = realise(derivations, link, options=options, on_line=on_line)
        known = _indirect_roots(options.environment)
        for derivation, output, root in zip(derivations, outputs, roots, strict=True):
            if not (root in known and os.path.islink(root) and os.readlink(root) == output):
                _root(derivation, root, options)
    return built


def realise(
    derivations: Sequence[str],
    root: str | None,
    *,
    options: BuildOptions,
    on_line: LineSink,
    look: Callable[[], None] = lambda: None,
) -> Built:
    """Build derivations in the controller's store by one call of Nix.

    :param root: a GC root, which Nix numbers from the second output on; None for none.
    :param look: called about once a second, and raises an exception to end the build.
    :raises OpsError: as :func:`realise_here`.
    """
    progress = Progress()
    heartbeat = Heartbeat("the build", on_line, progress.latest)

    def hear(line: str) -> None:
        heartbeat.restart()
        progress.read(line)
        on_line(line)

    # Nix itself limits a build ('timeout' and 'max-silent-time'), and no machine can delay this one.
    def watch(_pid: int, _printed: int) -> None:
        look()
        heartbeat.beat()

    argv = ["nix-store", *(["--indirect", "--add-root", root] if root else []), *options.words(derivations)]
    done = nix.run(argv, env=options.environment, on_stderr=hear, watch=watch)
    if done.exit_code != 0:
        raise _failure(None, done.stderr, done.exit_code)
    return _built(progress, options)


@contextmanager
def held(root: str, purpose: str = "building") -> Iterator[str]:
    """Yield a temporary GC root for all outputs of a call. Nix can't make a separate one for each output.

    :param root: the root of the first output, beside which it is.
    :param purpose: a word of its name.
    """
    link = Path(f"{root}.{purpose}-{os.getpid()}")
    try:
        yield str(link)
    finally:
        for left in link.parent.glob(f"{escape(link.name)}*"):
            left.unlink(missing_ok=True)


def _indirect_roots(environment: Mapping[str, str]) -> set[str]:
    """Return the links that Nix keeps as GC roots wherever they lead (nix-store(1), --add-root)."""
    state = environment.get("NIX_STATE_DIR") or os.environ.get("NIX_STATE_DIR") or "/nix/var/nix"
    found = set()
    with suppress(OSError):
        for entry in Path(state, "gcroots/auto").iterdir():
            # Another process may be removing links.
            with suppress(OSError):
                found.add(os.readlink(entry))
    return found


def realise_on(
    machine: Machine,
    derivations: Sequence[str],
    *,
    options: BuildOptions,
    on_line: LineSink,
    patience: float,
    within: float,
) -> Built:
    """Build derivations that are in a host's store. Shows the output live, and reconnects if the connection is lost.

    :param patience: seconds in a row for which the host may be unreachable.
    :param within: seconds until a build that still runs is ended.
    :raises OpsError: if a build fails; the message has the last lines of Nix.
    """
    progress = Progress()

    def read(line: str) -> None:
        progress.read(line)
        on_line(line)

    begun = machine.ask(
        *("store/realise", *options.words(derivations)),
        schema=jobs.BEGUN,
        parts=["machine/detach"],
        data=script("store/realise_job"),
        awaits="the start of the build",
    )
    directory = begun.all("directory")[0]
    try:
        ended = jobs.follow(
            machine,
            directory,
            what="the build",
            on_line=read,
            patience=patience,
            within=within,
            detail=progress.latest,
        )
    finally:
        machine.tidy("machine/job", "stop", directory)
    if ended.exit_code != 0:
        raise _failure(machine.name, ended.log, ended.exit_code)
    return _built(progress, options)


def _built(progress: Progress, options: BuildOptions) -> Built:
    if options.dry_run:
        return Built(tuple(progress.to_build), tuple(progress.to_fetch))
    return Built(tuple(progress.built), tuple(progress.copied))


def _root(derivation: str, root: str, options: BuildOptions) -> None:
    Path(root).parent.mkdir(parents=True, exist_ok=True)
    nix.lines(
        ["nix-store", "--indirect", "--add-root", root, "--realise", derivation],
        f"the link {root} could not be made",
        env=options.environment,
    )


def _failure(machine: str | None, log: str, exit_code: int | None) -> OpsError:
    """Return the error of a build whose lines were shown."""
    failed = _FAILED.search(log)
    lines = log.rstrip().split("\n")
    left_out = len(lines) - _END_OF_LOG
    if left_out > 0:
        lines = [f"({left_out} earlier lines are shown above)", *lines[left_out:]]
    path = failed[1] if failed else "PATH.drv"
    next_step = f"Correct what the lines above name; a derivation's whole log: nix-store --read-log {path}"
    if nix.lacks_build_users(log):
        next_step = nix.INSTALL if machine is None else f"Add the group nixbld and users in it on {machine}."
    return OpsError(
        "the build failed" if exit_code is not None else "the build was killed",
        machine=machine,
        output="\n".join(lines),
        state="no machine was touched" if machine is None else "what runs on the machines is untouched",
        next_step=next_step,
        exit_code=exit_code,
        was_shown=True,
    )


def root_on(machine: Machine, derivations: Sequence[str], roots: Sequence[str]) -> bool:
    """Make GC roots of outputs on a host.

    :param roots: a link for each derivation; or empty for none.
    :returns: whether a link has changed.
    :raises OpsError: if a link can't be made.
    """
    if not roots:
        return False
    pairs = [word for pair in zip(roots, derivations, strict=True) for word in pair]
    schema = {"relinked": Key(answer.YES, most=len(roots))}
    return "relinked" in machine.ask("store/root", *pairs, schema=schema, awaits="the links to what was built")
