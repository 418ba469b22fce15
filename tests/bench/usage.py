# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command takes: time, processor time and memory."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: str = ""
) -> tuple[subprocess.CompletedProcess[str], Usage]:
    """Run a command to its end, and measure it."""
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
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return subprocess.CompletedProcess(argv, process.returncode, output), Usage(wall, cpu, peak[0])


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
