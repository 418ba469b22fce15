# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits that have an end, whatever is waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils import children, waiting
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Heartbeat, Overdue


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(") ")[2][0] != "Z"


@pytest.fixture
def pids(tmp_path):
    """The file in which a shell notes its process and its child's."""
    return tmp_path / "pids"


def silent(pids):
    """Wait for a shell whose child is silent for ever."""
    script = f"sleep 1000 & echo $$ $! >{pids}; trap '' TERM; wait"
    return subprocess.run(["sh", "-c", script], capture_output=True, check=False)


def unattended(pids):
    """Wait for a process like Ansible's ssh, which leaves its process at an exception."""
    process = subprocess.Popen(["sh", "-c", f"echo $$ >{pids}; exec sleep 1000"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process.stdout.read()


def stubborn(pids):
    """Wait like a plugin that catches and retries everything."""
    for _attempt in range(2):
        try:
            silent(pids)
        except BaseException:
            continue
    return "an answer"


def test_what_ends_in_time_is_returned():
    before = signal.getsignal(signal.SIGUSR1)
    assert waiting.bounded(lambda: 3, "it", 5) == 3
    with pytest.raises(KeyError):
        waiting.bounded(lambda: os.environ["NO_SUCH_VARIABLE"], "it", 5)
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.parametrize("wait", [silent, unattended, stubborn])
def test_a_wait_ends_with_the_processes_it_has_started(pids, wait, monkeypatch):
    monkeypatch.setattr(waiting, "_INSIST", 0.5)
    other = subprocess.Popen(["sleep", "1000"])
    began = time.monotonic()
    with pytest.raises(Overdue, match=r"^no answer within 1 seconds \(the answer\)$"):
        waiting.bounded(partial(wait, pids), "the answer", 1)
    assert time.monotonic() - began < 10
    assert not any(alive(int(pid)) for pid in pids.read_text().split())
    assert alive(other.pid)
    other.kill()
    other.wait()


def test_a_process_that_is_stopped_is_ended(pids, monkeypatch):
    monkeypatch.setattr(waiting, "_INSIST", 0.5)

    def stopped():
        with subprocess.Popen(["sh", "-c", f"echo $$ >{pids}; kill -STOP $$"]) as process:
            process.wait()

    with pytest.raises(Overdue):
        waiting.bounded(stopped, "it", 0.5)
    assert not alive(int(pids.read_text()))


def test_an_interrupt_ends_the_processes_too(pids):
    def interrupt(_number, _frame):
        raise SystemExit(130)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(SystemExit):
            waiting.bounded(partial(unattended, pids), "it", 20)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


def test_an_answer_is_bounded_while_it_arrives():
    began = time.monotonic()
    with pytest.raises(Overdue, match=r"^its answer takes more than 128 MiB \(it\)$"):
        waiting.bounded(lambda: subprocess.run(["yes"], capture_output=True, check=False), "it", 60)
    assert time.monotonic() - began < 30


def test_of_several_processes_the_one_counts_that_has_written_most():
    write = "import os, signal; os.write(1, b'x' * {size}); signal.pause()"
    one, other = (f'{sys.executable} -c "{write.format(size=size)}" >/dev/null' for size in (3000000, 2000000))
    with subprocess.Popen(["sh", "-c", f"{one} & {other} & wait"]) as process:
        deadline = time.monotonic() + 10
        while (children.moved(process.pid) or 0) < 5000000 and time.monotonic() < deadline:
            time.sleep(0.05)
        written = children.written(process.pid)
        children.end(children.children() - {process.pid})
    assert written is not None and 3000000 <= written < 4000000
    assert children.written(process.pid) is None


def test_a_wait_says_what_it_waits_for(monkeypatch):
    monkeypatch.setattr(waiting, "_FIRST", 0.3)
    said: list[str] = []
    waiting.bounded(lambda: time.sleep(1.3), "what it runs", 5, say=said.append)
    assert said == [f"waiting for what it runs since {seconds} s" for seconds in (0, 1)]
    beating = Heartbeat("it", said.append)
    beating.beat()
    assert len(said) == 2


def test_a_long_wait_is_told_less_and_less_often(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: now[0]))
    said: list[str] = []
    beating = Heartbeat("it", said.append, lambda: "no answer" if now[0] > 120 else "")
    for now[0] in range(100, 1500):
        beating.beat()
    assert said[0] == "waiting for it since 10 s"
    assert [line.removeprefix("waiting for it since ") for line in said[1:]] == [
        f"{seconds} s: no answer" for seconds in (30, 70, 150, 310, 610, 910, 1210)
    ]
    beating.restart()
    said.clear()
    for now[0] in range(1500, 1511):
        beating.beat()
    assert len(said) == 1


def test_a_transfer_without_progress_is_ended():
    def transfer(script):
        return subprocess.run(["sh", "-c", script], check=False, stdout=subprocess.DEVNULL).returncode

    busy = "for i in 1 2 3 4 5 6 7 8; do head -c 1000000 /dev/zero; sleep 0.2; done"
    assert waiting.bounded(partial(transfer, busy), "it", 20, stall=1) == 0
    with pytest.raises(Overdue, match="no progress for 1 seconds"):
        waiting.bounded(partial(transfer, "sleep 1000"), "it", 20, stall=1)


def test_children_are_found_with_and_without_proc():
    process = subprocess.Popen(["sleep", "1000"])
    assert process.pid in children.children()
    assert process.pid in children._children_by_ps(os.getpid())
    children.end(children.children() - {process.pid})
    assert process.wait() is not None


def test_a_limit_that_is_not_valid_is_refused():
    waiting.check({"answer_timeout": 1, "copy_timeout": 5})
    with pytest.raises(OpsError, match="stall_timeout is 0, and has to be at least 1"):
        waiting.check({"stall_timeout": 0})
