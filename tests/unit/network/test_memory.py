# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory evaluations may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.network import memory

GIB = 2**30


def computer(root: Path, *, free: int, group: str = "/", limits: dict[str, tuple[str, int]] | None = None) -> str:
    """A computer with so much free memory, and cgroups with a limit and what they use."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: {32 * GIB // 1024} kB\nMemAvailable: {free // 1024} kB\n")
    (root / "proc/self/cgroup").write_text(f"0::{group}\n")
    for name, (most, used) in (limits or {}).items():
        directory = root / "sys/fs/cgroup" / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "memory.max").write_text(f"{most}\n")
        (directory / "memory.current").write_text(f"{used}\n")
    return str(root)


def test_the_whole_computer_counts_without_a_limit(tmp_path):
    limits = {"user.slice": ("max", GIB)}
    assert memory.available(computer(tmp_path, free=20 * GIB, group="/user.slice", limits=limits)) == 20 * GIB


def test_the_limit_of_a_container_counts(tmp_path):
    assert memory.available(computer(tmp_path, free=20 * GIB, limits={"": (str(2 * GIB), GIB)})) == GIB


def test_the_limit_of_a_slice_above_counts(tmp_path):
    limits = {"jobs.slice": (str(4 * GIB), GIB), "jobs.slice/one.service": ("max", GIB)}
    found = memory.available(computer(tmp_path, free=20 * GIB, group="/jobs.slice/one.service", limits=limits))
    assert found == 3 * GIB


def test_elsewhere_it_is_not_known(tmp_path):
    assert memory.available(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (20 * GIB, {"GC_INITIAL_HEAP_SIZE": str(GIB)}),
        (4 * GIB, {"GC_INITIAL_HEAP_SIZE": str(GIB // 2)}),
        (3 * GIB, {}),
        (0, {}),
    ],
)
def test_the_heap_is_a_share_of_what_is_available(monkeypatch, free, expected):
    monkeypatch.delenv("GC_INITIAL_HEAP_SIZE", raising=False)
    assert memory.heap({}, free=free) == expected


def test_the_heap_of_the_user_stays(monkeypatch):
    assert memory.heap({"GC_INITIAL_HEAP_SIZE": "64M"}, free=20 * GIB) == {}
    monkeypatch.setenv("GC_INITIAL_HEAP_SIZE", "64M")
    assert memory.heap({}, free=20 * GIB) == {}


def test_processes_of_one_run_share_what_is_available(monkeypatch):
    monkeypatch.delenv("GC_INITIAL_HEAP_SIZE", raising=False)
    monkeypatch.setattr(memory, "cores", lambda: 4)
    heaps = [memory.heap({}, machines, 8 * GIB) for machines in (1, 2, 20)]
    assert heaps == [{"GC_INITIAL_HEAP_SIZE": str(size)} for size in (GIB, GIB, GIB // 2)]


def test_processors_of_a_container_count(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    root = computer(tmp_path, free=GIB, group="/job", limits={"": ("max", 0), "job": ("max", 0)})
    assert memory.cores(root) == 8
    (tmp_path / "sys/fs/cgroup/job/cpu.max").write_text("max 100000\n")
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("250000 100000\n")
    assert memory.cores(root) == 2
    (tmp_path / "sys/fs/cgroup/job/cpu.max").write_text("50000 100000\n")
    assert memory.cores(root) == 1


def test_what_a_process_takes_is_measured():
    assert (memory.peak(os.getpid()) or 0) > 2**20
    assert memory.seconds(os.getpid()) > 0
    assert (memory.peak(None), memory.seconds(None)) == (None, 0)
