# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory and how many processors the controller has for evaluations."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_MIB = 2**20
# Nix begins with this heap where there is memory for it (libexpr/eval.cc: initGC).
_DEFAULT_HEAP = 384 * _MIB
# With nixpkgs a larger heap saves no more time. A machine leaves its memory to the next one.
_LARGE_HEAP = 1024 * _MIB
# Several evaluations may run at once, beside builds.
_SHARE = 8
# The part of it for the evaluations of one run.
_RUN = 4
_HEAP = "GC_INITIAL_HEAP_SIZE"


def available(root: str = "/") -> int | None:
    """Return how many bytes of memory processes can still use; None if that is not known.

    Within a container its limit counts (proc_meminfo(5); the kernel's cgroup-v2: memory.max and memory.current).
    """
    found = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path(root, "proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    for group in _groups(root):
        with suppress(OSError, ValueError):
            found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, min(found)) if found else None


def cores(root: str = "/") -> int:
    """Return how many processors this process may use at once.

    Within a container its limit counts (the kernel's cgroup-v2: cpu.max).
    """
    found = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    for group in _groups(root):
        with suppress(OSError, ValueError):
            quota, period = (group / "cpu.max").read_text().split()
            found.append(int(quota) // int(period))
    return max(1, min(found))


def peak(pid: int | None) -> int | None:
    """Return the largest memory of a running process in bytes; None if that is not known (proc_pid_status(5))."""
    with suppress(OSError, ValueError, IndexError):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
        [size] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return int(size) * 1024
    return None


def seconds(pid: int | None) -> float:
    """Return the processor time of a running process; 0 if that is not known (proc_pid_stat(5))."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def largest_child() -> int:
    """Return the largest memory in bytes that a child process had that has ended (getrusage(2))."""
    size = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def heap(environment: Mapping[str, str], machines: int = 1, free: int | None = None) -> dict[str, str]:
    """Return the variable with which Nix begins with a larger heap, and so collects garbage less often.

    An evaluation of nixpkgs takes a quarter less time with it (gc(3), GC_INITIAL_HEAP_SIZE).

    :param environment: the variables of the evaluation. The user's own value stays.
    :param machines: how many systems are evaluated.
    :param free: the bytes of memory that are available; None to look.
    :returns: nothing if memory is short.
    """
    free = available() if free is None else free
    if _HEAP in {**os.environ, **environment} or free is None:
        return {}
    size = min(_LARGE_HEAP, free // max(_SHARE, _RUN * min(machines, cores())))
    return {_HEAP: str(size)} if size > _DEFAULT_HEAP else {}


def _groups(root: str) -> Iterator[Path]:
    """Yield the directories of the control groups that this process is in."""
    with suppress(OSError, ValueError):
        [line] = [line for line in Path(root, "proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
        own = Path(root, "sys/fs/cgroup", line.removeprefix("0::").lstrip("/"))
        yield from (own, *own.parents)
