# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command takes: time, processor time and memory."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fleet import Machine

_PR_SET_CHILD_SUBREAPER = 36

# Seconds in which an orphan ends.
_ENDING = 0.2

# Seconds between two looks at the memory.
_PERIOD = 0.5


@dataclass(frozen=True)
class Usage:
    """What a command took.

    :param wall: seconds until it ended.
    :param cpu: seconds of processors, with all processes that it waited for.
    :param peak: bytes of memory of all its processes at once; pages that several share count once.
    """

    wall: float
    cpu: float
    peak: int


def measured(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: str = "",
    finish: Callable[[], None] = lambda: None,
) -> tuple[subprocess.CompletedProcess[str], Usage]:
    """Run a command to its end, and measure it.

    :param finish: ends what the command has left running, such as connections that are shared.
    """
    before = _processor_time()
    began = time.monotonic()
    with _adopting():
        with (
            subprocess.Popen(
                argv,
                cwd=cwd,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process,
            _watching(process.pid) as peaks,
        ):
            output, _error = process.communicate(stdin)
        wall = time.monotonic() - began
        finish()
    used = Usage(wall, _processor_time() - before, max(peaks))
    return subprocess.CompletedProcess(argv, process.returncode, output), used


def _processor_time() -> float:
    """Return the processor time of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _adopting() -> Iterator[None]:
    """Become the parent of orphans, and wait for them. Otherwise their time would count nowhere."""
    adopt = ctypes.CDLL(None).prctl
    adopt(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
        _reap()
    finally:
        adopt(_PR_SET_CHILD_SUBREAPER, 0)


@contextmanager
def _watching(process: int) -> Iterator[list[int]]:
    """Look at the memory of a process and of those that it started, again and again."""
    peaks, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(_PERIOD):
            peaks.append(sum(map(_memory, _tree(process))))

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield peaks
    finally:
        ended.set()
        watch.join()


def machine_seconds(machines: Iterable[Machine]) -> float:
    """Return the processor time of all processes that live machines have run since their start."""
    spaces = {f"/proc/{machine.leader}/ns/pid" for machine in machines}
    inside = {os.readlink(space) for space in spaces}
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(process / "ns/pid") in inside:
                # User and system time of the process, and of children that it has waited for.
                ticks += sum(map(int, (process / "stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _reap() -> None:
    """Wait for orphans that have ended or are about to, such as the process of a connection that was just closed."""
    deadline = time.monotonic() + _ENDING
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
        except ChildProcessError:
            return


def _tree(root: int) -> Iterator[int]:
    """Return a process and those that it started."""
    yield root
    with suppress(OSError):
        for task in os.listdir(f"/proc/{root}/task"):
            for child in Path(f"/proc/{root}/task/{task}/children").read_text().split():
                yield from _tree(int(child))


def _memory(process: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
