# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers that are interrupted, or outlive ansible-playbook, end in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.signals import end_in_order

WORKER = """
import os, signal
from ansible_collections.nix.ops.plugins.plugin_utils.signals import end_in_order

try:
    with end_in_order():
        print("begun", os.getpid(), flush=True)
        signal.pause()
except SystemExit as ended:
    print("cleaned up", ended.code, flush=True)
"""

# Has another process tell if it is killed. Its own output is nowhere.
TELLING = """
import signal, sys
from ansible_collections.nix.ops.plugins.plugin_utils.signals import end_in_order, told_if_ended

with end_in_order(), told_if_ended("it was killed") as tell:
    tell("1.\\n  begin\\nover\\n")
    tell("it was killed\\n  at once")
    print("begun", flush=True)
    sys.stdin.readline()
"""

# Dies while its child goes on.
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
sys.stdin.readline()
os._exit(9)
"""


def start(*words):
    return subprocess.Popen([sys.executable, "-c", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_worker_clean_up(number):
    with start(WORKER) as worker:
        assert worker.stdout.readline().startswith("begun")
        worker.send_signal(number)
        assert worker.stdout.read() == f"cleaned up {128 + number}\n"
        assert worker.wait() == 0


def test_a_worker_ends_with_ansible_playbook():
    with start(PARENT, WORKER) as parent:
        assert parent.stdout.readline().startswith("begun")
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.read() == f"cleaned up {128 + signal.SIGTERM}\n"


def test_a_second_signal_does_not_interrupt_the_cleanup():
    inside = WORKER.replace(
        '        print("begun", os.getpid(), flush=True)\n        signal.pause()',
        '        try:\n            print("begun", flush=True)\n            signal.pause()\n'
        "        finally:\n            os.kill(os.getpid(), signal.SIGTERM)\n"
        '            print("still here", flush=True)',
    )
    with start(inside) as worker:
        assert worker.stdout.readline().startswith("begun")
        worker.send_signal(signal.SIGINT)
        assert worker.stdout.read() == f"still here\ncleaned up {128 + signal.SIGINT}\n"


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with end_in_order():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def tell(number=None):
    """Run a worker that gets a signal, or none; return what its parent's output got."""
    reader, writer = os.pipe()
    # The output of this process is what the worker's parent has.
    before = os.dup(2)
    os.dup2(writer, 2)
    try:
        worker = start(TELLING)
        assert worker.stdout.readline() == "begun\n"
        if number:
            worker.send_signal(number)
        worker.communicate("\n")
        os.close(writer)
    finally:
        os.dup2(before, 2)
        os.close(before)
    with os.fdopen(reader) as output:
        return output.read()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_is_ended_is_told(number):
    assert tell(number) == "it was killed\n  at once\n"


def test_a_worker_that_ends_is_not_told():
    assert tell() == ""
