# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory the controller has for evaluations."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_MIB = 2**20
# Nix begins with this heap where there is memory for it (libexpr/eval.cc: initGC).
_DEFAULT_HEAP = 384 * _MIB
# A larger heap saves no more time with nixpkgs.
_LARGEST_HEAP = 1024 * _MIB
# Several evaluations may run at once, beside builds.
_SHARE = 8
_HEAP = "GC_INITIAL_HEAP_SIZE"


def available(root: str = "/") -> int | None:
    """Return how many bytes of memory processes can still use; None if that is not known.

    Within a container its limit counts (proc_meminfo(5); the kernel's cgroup-v2: memory.max and memory.current).
    """
    found = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path(root, "proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError, IndexError):
        [line] = [line for line in Path(root, "proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
        own = Path(root, "sys/fs/cgroup", line.removeprefix("0::").lstrip("/"))
        for group in (own, *own.parents):
            with suppress(OSError, ValueError):
                found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, min(found)) if found else None


def heap(environment: Mapping[str, str], free: int | None = None) -> dict[str, str]:
    """Return the variable with which Nix begins with a larger heap, and so collects garbage less often.

    An evaluation of nixpkgs takes a quarter less time with it (gc(3), GC_INITIAL_HEAP_SIZE).

    :param environment: the variables of the evaluation. The user's own value stays.
    :param free: the bytes of memory that are available; None to look.
    :returns: nothing if memory is short.
    """
    free = available() if free is None else free
    if _HEAP in {**os.environ, **environment} or free is None:
        return {}
    size = min(_LARGEST_HEAP, free // _SHARE)
    return {_HEAP: str(size)} if size > _DEFAULT_HEAP else {}
