# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the processes that a call has started, tells what they move, and ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

# Seconds that a process has to end after each signal.
_GRACE = 1.0


def children(pid: int | None = None) -> set[int]:
    """Return the children of a process.

    :param pid: the process; by default the caller.
    """
    pid = pid or os.getpid()
    if not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists():
        return _children_by_ps(pid)
    found: set[int] = set()
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        # A thread may have ended meanwhile.
        with suppress(OSError):
            found |= {int(word) for word in file.read_text().split()}
    return found


def descendants(pid: int | None = None, known: Collection[int] = ()) -> list[int]:
    """Return the children of a process, with theirs, parents first.

    :param known: children to leave out, with theirs.
    """
    found = []
    for child in sorted(children(pid).difference(known)):
        found += [child, *descendants(child)]
    return found


def end(known: Collection[int], also: Collection[int] = ()) -> None:
    """End the descendants of this process, at last with SIGKILL: one that is stopped gets no other signal.

    :param known: children that go on, with theirs.
    :param also: descendants of before, whose parents may have ended.
    """
    left = list(dict.fromkeys([*also, *descendants(known=known)]))
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            # sudo's processes belong to root.
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        deadline = time.monotonic() + _GRACE
        while (left := [pid for pid in left if _is_alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not left:
            return


def moved(pid: int) -> int | None:
    """Return how many bytes a process and its descendants have read and written; None if that is not known.

    Only Linux counts them.
    """
    total = None
    for each in (pid, *descendants(pid)):
        with suppress(OSError):
            lines = Path(f"/proc/{each}/io").read_text().splitlines()
            counts = dict(line.split(": ") for line in lines)
            total = (total or 0) + int(counts["rchar"]) + int(counts["wchar"])
    return total


def written(pid: int) -> int | None:
    """Return how many bytes that of a process and its descendants has written that wrote the most; None if not known.

    In a pipeline, each byte is written several times.
    """
    counts = []
    for each in (pid, *descendants(pid)):
        with suppress(OSError):
            lines = Path(f"/proc/{each}/io").read_text().splitlines()
            counts.append(int(dict(line.split(": ") for line in lines)["wchar"]))
    return max(counts, default=None)


def _children_by_ps(pid: int) -> set[int]:
    asked = subprocess.run(
        ["ps", "-A", "-o", "pid=", "-o", "ppid="], capture_output=True, text=True, check=False, timeout=_GRACE * 10
    )
    pairs = [line.split() for line in asked.stdout.splitlines()]
    return {int(one) for one, parent in pairs if int(parent) == pid}


def _is_alive(pid: int) -> bool:
    # A child that has ended stays a zombie until its parent waits for it.
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] != "Z"
    return True
