# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds a wait in time and in size, and says while it lasts what it waits for.

A deadline on the machine is not enough, since the machine may ignore it. ssh has none after the login, and other
connections have none at all. So a thread of this process watches.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ansible_collections.nix.ops.plugins.plugin_utils import children
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

# Seconds until the first line that says what is waited for. Until each next one it is twice as long, up to a limit.
_FIRST = 10.0
_LONGEST = 300.0

# Seconds between two looks at a wait.
_INTERVAL = 0.1

# Seconds after which a wait that has not ended at its deadline is ended again, with more force.
_INSIST = 5.0

# How much memory an answer may take while it arrives, in bytes. That is several times its size: Ansible's plugins join
# its pieces, decode them and split them into lines. The largest valid answer has 16 MiB (machine/answer.py).
_MEMORY = 128 * 1024 * 1024

# Fewer bytes than this do not count as progress: a machine could send one now and then for ever.
_PROGRESS = 64 * 1024

# Ansible uses SIGALRM for the keyword 'timeout'.
_SIGNAL = signal.SIGUSR1

# The options that limit waits, with the smallest value of each.
_OPTIONS = ("answer_timeout", "build_timeout", "copy_timeout", "stall_timeout")

_Result = TypeVar("_Result")


class Overdue(Exception):
    """A wait was ended.

    :param what: what was waited for.
    :param why: why it was ended.
    :param too_large: whether what arrived was too large, so that more time would not help.
    """

    def __init__(self, what: str, why: str, *, too_large: bool = False) -> None:
        super().__init__(f"{why} ({what})")
        self.too_large = too_large


class Heartbeat:
    """Says what is waited for: after ten seconds, and then at growing intervals.

    :param what: what is waited for.
    :param say: called with each line.
    :param detail: returns more about the wait as it is now; empty for no more.
    """

    def __init__(self, what: str, say: LineSink, detail: Callable[[], str] = str) -> None:
        self._what = what
        self._say = say
        self._detail = detail
        self.restart()

    def restart(self) -> None:
        """Count the time from now on."""
        self._since = time.monotonic()
        self._pause = _FIRST
        self._next = self._since + _FIRST

    def beat(self) -> None:
        """Say it if it is time to."""
        now = time.monotonic()
        if now >= self._next:
            self._pause = min(2 * self._pause, _LONGEST)
            self._next = now + self._pause
            line = f"waiting for {self._what} since {now - self._since:.0f} s"
            self._say(": ".join(part for part in (line, self._detail()) if part))


def beat(heartbeat: Heartbeat, _pid: int, _printed: int) -> None:
    """Watch a command of the controller that has no limit of ours."""
    heartbeat.beat()


class Stall:
    """Ends a wait whose processes move no bytes.

    :param moved: returns how many bytes were moved so far; None if that is not known.
    :param seconds: seconds without progress until the wait ends.
    """

    def __init__(self, moved: Callable[[], int | None], seconds: float) -> None:
        self._moved = moved
        self._seconds = seconds
        self._mark = 0
        self._since = time.monotonic()

    def problem(self) -> str | None:
        """Return why the wait has to end; None as long as there is progress."""
        now, moved = time.monotonic(), self._moved()
        # When a process ends, its bytes no longer count.
        if moved is None or abs(moved - self._mark) >= _PROGRESS:
            self._since, self._mark = now, moved or 0
        elif now - self._since > self._seconds:
            return f"no progress for {self._seconds:.0f} seconds"
        return None


def check(options: Mapping[str, Any]) -> None:
    """Check the options of a module that limit waits.

    :raises OpsError: if one is not valid.
    """
    for name in _OPTIONS:
        if options.get(name, 1) < 1:
            raise OpsError(
                f"{name} is {options[name]}, and has to be at least 1",
                state="nothing was touched",
                next_step=f"Correct {name!r}.",
            )


def bounded(
    run: Callable[[], _Result],
    what: str,
    seconds: float | None,
    *,
    say: LineSink = lambda _line: None,
    stall: float | None = None,
) -> _Result:
    """Call a function, and end it if it takes too long or too much memory, with the processes it has started.

    Only for the main thread. Not to be nested.

    :param run: the function.
    :param what: what is waited for.
    :param seconds: seconds until it ends; None for no deadline.
    :param say: called with lines that say what is waited for.
    :param stall: seconds without progress of the processes it has started until it ends; None for no limit.
    :returns: the function's result.
    :raises Overdue: if it was ended.
    """
    watch = _Watch(what, seconds, say, stall)
    before = signal.signal(_SIGNAL, watch.cut)
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    try:
        try:
            result = run()
        finally:
            watch.stop()
        if not watch.reason:
            return result
    except _Cut:
        pass
    except BaseException as error:
        watch.end_processes()
        # With a reason, an error of the plugin comes from its processes being ended. Interrupts and the end of the
        # keyword 'timeout' are no Exception.
        if not watch.reason or not isinstance(error, Exception):
            raise
    finally:
        watch.stop()
        # Or a signal of the thread could come after its handler is gone.
        thread.join()
        signal.signal(_SIGNAL, before)
    watch.end_processes()
    raise Overdue(what, watch.reason or "", too_large=watch.too_large)


class _Cut(BaseException):
    """Leaves the wait. It is no Exception, since connection plugins catch and retry those."""


class _Watch:
    def __init__(self, what: str, seconds: float | None, say: LineSink, stall: float | None) -> None:
        self._seconds = seconds
        self._began = time.monotonic()
        self._memory = _memory()
        self._heartbeat = Heartbeat(what, say)
        self._stopped = threading.Event()
        self._is_over = False
        self.reason: str | None = None
        self.too_large = False
        self.known = children.children()
        self._started: list[int] = []
        self._stall = Stall(self._moved, stall) if stall else None

    def cut(self, _number: int, _frame: Any) -> None:
        """Handle the signal of the thread."""
        if self.reason and not self._is_over:
            raise _Cut

    def stop(self) -> None:
        """Stop watching."""
        # First of all, so that no signal interrupts what follows.
        self._is_over = True
        self._stopped.set()

    def run(self) -> None:
        """Watch, in a thread."""
        while not self._stopped.wait(_INTERVAL):
            self._heartbeat.beat()
            self.reason = self._problem()
            if self.reason:
                # subprocess kills a child at an exception, and leaves what the child has started.
                self._started = children.descendants(known=self.known)
                self._insist()

    def _insist(self) -> None:
        while not self._is_over:
            # The main thread has to get it: a signal interrupts a blocking call only there.
            signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)
            if not self._stopped.wait(_INSIST):
                # A plugin that does not let go of its processes.
                self.end_processes()

    def end_processes(self) -> None:
        """End the processes that were started during the wait."""
        children.end(self.known, self._started)

    def _problem(self) -> str | None:
        if self._seconds is not None and time.monotonic() - self._began > self._seconds:
            return f"no answer within {self._seconds:.0f} seconds"
        if _memory() - self._memory > _MEMORY:
            self.too_large = True
            return f"its answer takes more than {_MEMORY // 2**20} MiB"
        return self._stall.problem() if self._stall else None

    def _moved(self) -> int | None:
        counts = [children.moved(pid) for pid in children.children() - self.known]
        return None if not counts or None in counts else sum(count or 0 for count in counts)


def _memory() -> int:
    """Return the memory of this process in bytes, without files."""
    try:
        _size, resident, shared, *_rest = Path("/proc/self/statm").read_text().split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
