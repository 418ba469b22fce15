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
from contextlib import suppress
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
    # Otherwise the time of a process that lost its parent would count nowhere.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _reap()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    peak, ended = [0], threading.Event()
    with subprocess.Popen(
        argv, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:

        def look() -> None:
            while not ended.wait(_PERIOD):
                peak[0] = max(peak[0], sum(map(_memory, _tree(process.pid))))

        watch = threading.Thread(target=look)
        watch.start()
        try:
            output, _error = process.communicate(stdin)
        finally:
            ended.set()
            watch.join()
    wall = time.monotonic() - began
    finish()
    _reap()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return subprocess.CompletedProcess(argv, process.returncode, output), Usage(wall, cpu, peak[0])


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
