# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the systems of machines on the controller while others are still evaluated."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Derivation
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.store import build
from ansible_collections.nix.ops.plugins.plugin_utils.store.build import BuildOptions, Built

# Seconds of an evaluation before builds begin beside it. Below, one call of Nix for all is quicker.
_SOON = 1.0


class _Ended(Exception):
    """Nothing of the build is needed any more."""


class Ahead:
    """Builds what is evaluated, by one call of Nix at a time. Each takes all that is ready.

    :param machines: the machines to build. Others are only evaluated.
    :param realise: builds derivations. It calls what it is given about once a second, which may raise an exception.
    :param goes_on: whether a failed build stops nothing else, as with Nix's ``keep-going``.
    :ivar built: what was built.
    """

    def __init__(
        self,
        machines: Collection[str],
        realise: Callable[[Sequence[str], Callable[[], None]], Built],
        *,
        goes_on: bool,
    ) -> None:
        self.built: list[Built] = []
        self._machines = machines
        self._realise = realise
        self._goes_on = goes_on
        self._problem: Exception | None = None
        self._begins = time.monotonic() + _SOON
        self._ready: list[str] = []
        self._taken: set[str] = set()
        self._is_closed = self._has_to_end = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def made(self, name: str, derivation: Derivation) -> None:
        """Take a machine's system, if it is not built yet."""
        if name not in self._machines or os.path.exists(derivation.out_path):
            return
        with self._changed:
            if derivation.drv_path not in self._taken:
                self._taken.add(derivation.drv_path)
                self._ready.append(derivation.drv_path)
                self._changed.notify()

    def look(self) -> None:
        """Raise the error of a build that has failed, unless others go on."""
        if self._problem and not self._goes_on:
            raise self._problem

    def finish(self) -> list[Built]:
        """Begin no more builds, and wait for the running one.

        :returns: what was built. The rest of what was taken is left.
        :raises OpsError: as :meth:`look`.
        """
        self._close()
        self.look()
        return self.built

    def end(self) -> None:
        """End the running build."""
        self._has_to_end = True
        self._close()

    def _close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while derivations := self._next():
            try:
                self.built.append(self._realise(derivations, self._check))
            except _Ended:
                return
            except Exception as error:
                # What a garbage collection has removed is evaluated again.
                if all(map(os.path.exists, derivations)):
                    self._problem = self._problem or error

    def _next(self) -> list[str]:
        """Return what to build next, as soon as there is something; nothing at the end."""
        with self._changed:
            while not self._is_closed:
                wait = self._begins - time.monotonic()
                if self._ready and wait <= 0:
                    ready, self._ready = self._ready, []
                    return ready
                self._changed.wait(max(0.0, wait) if self._ready else None)
            return []

    def _check(self) -> None:
        if self._has_to_end:
            raise _Ended


@contextmanager
def build_ahead(
    roots: Mapping[str, str],
    *,
    prepare: Callable[[Sequence[str]], None],
    options: BuildOptions,
    goes_on: bool,
    on_line: LineSink,
) -> Iterator[Ahead]:
    """Build on the controller what the block evaluates. At its end nothing of it is running any more.

    :param roots: the GC root of each machine. As long as the block runs, there are others beside the first.
    :param prepare: is called with derivations before they are built, and raises an exception if they must not be.
    :param goes_on: as of :class:`Ahead`.
    """
    first, *_others = roots.values()
    with build.held(first, "ahead") as link:

        def realise(derivations: Sequence[str], look: Callable[[], None]) -> Built:
            prepare(derivations)
            Path(link).parent.mkdir(parents=True, exist_ok=True)
            number = len(ahead.built)
            return build.realise(derivations, f"{link}-{number}", options=options, on_line=on_line, look=look)

        ahead = Ahead(roots, realise, goes_on=goes_on)
        try:
            yield ahead
        finally:
            ahead.end()
