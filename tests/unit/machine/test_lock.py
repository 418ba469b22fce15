# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process holds a lock at a time, and none that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.machine import host

SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> Sequence[str]:
    """One of the shells."""
    return SHELLS[request.param]


def start(shell: Sequence[str], lock: Path, text: str) -> subprocess.Popen[str]:
    """Start a script with the lock's functions."""
    argv = [*shell, "-c", f"{host.script('machine/lock')}\n{text}", "sh", str(lock)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def hold(shell: Sequence[str], lock: Path) -> subprocess.Popen[str]:
    """Start a process that holds the lock."""
    holder = start(shell, lock, 'lock "$1" 5 && echo held && read -r _')
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


def end(holder: subprocess.Popen[str]) -> None:
    """Kill a process."""
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()


def test_held_lock_is_waited_for_no_longer_than_told(shell: Sequence[str], tmp_path: Path) -> None:
    holder = hold(shell, tmp_path / "lock")
    assert start(shell, tmp_path / "lock", 'lock "$1" 1').wait(10) == 1
    end(holder)
    assert start(shell, tmp_path / "lock", 'lock "$1" 1 && unlock').wait(10) == 0
    assert not [*tmp_path.iterdir()]


def test_lock_of_one_that_is_gone_goes_to_one_other(shell: Sequence[str], tmp_path: Path) -> None:
    lock, count = tmp_path / "lock", tmp_path / "count"
    for _killed in range(3):
        end(hold(shell, lock))
    count.write_text("0\n")
    # A process that is not alone may read what another one is about to replace.
    text = f'lock "$1" 60 && read -r n <{count} && sleep 0.01 && echo $((n + 1)) >{count} && unlock'
    others = [start(shell, lock, text) for _other in range(12)]
    assert [other.wait(60) for other in others] == [0] * 12
    assert count.read_text() == "12\n"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]
