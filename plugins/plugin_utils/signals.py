# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends a worker of ansible-playbook in order when the run is interrupted or killed; tells if a worker is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Seconds between two looks at whether ansible-playbook is still there.
_INTERVAL = 0.5


@contextmanager
def end_in_order() -> Iterator[None]:
    """Raise SystemExit at a signal that ends a worker, so that every ``finally`` runs and child processes end.

    The death of ansible-playbook counts as such a signal: a run that was killed can't signal its workers.
    """

    def end(number: int, _frame: Any) -> None:
        # Ansible sends a second signal at once, which would interrupt the cleanup. The signals are not set to
        # SIG_IGN, since child processes would inherit that.
        for other in _SIGNALS:
            signal.signal(other, lambda _number, _frame: None)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    is_over = threading.Event()
    threading.Thread(target=_watch_parent, args=(os.getppid(), is_over), daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch_parent(parent: int, is_over: threading.Event) -> None:
    """Signal this worker once its parent process is gone."""
    while not is_over.wait(_INTERVAL):
        if os.getppid() != parent:
            # The main thread has to get it: a signal interrupts a blocking call only there.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            return


@contextmanager
def told_if_ended(text: str) -> Iterator[LineSink]:
    """Have another process tell the user if this worker is interrupted or killed. Ansible ends without a word about it.

    Only on Linux: a worker has no output of its own, and its parent's is found in /proc.

    :param text: what the user is told.
    :returns: a function that replaces the text.
    """
    witness = None
    with suppress(OSError):
        output = os.open(f"/proc/{os.getppid()}/fd/2", os.O_WRONLY | os.O_APPEND)
        argv = ["/bin/sh", str(Path(__file__).with_name("witness.sh")), text]
        # In a session of its own, since a whole group of processes may be killed.
        witness = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=output, start_new_session=True)
        os.close(output)

    def write(*lines: str) -> None:
        if witness and witness.stdin:
            with suppress(OSError):
                witness.stdin.write("".join(f"{line}\n" for line in lines).encode())
                witness.stdin.flush()

    is_over = False
    try:
        yield lambda new: write("begin", *(f"line {line}" for line in new.splitlines()))
        is_over = True
    except Exception:
        # Ansible tells a failure.
        is_over = True
        raise
    finally:
        if is_over:
            write("over")
        if witness:
            with suppress(OSError):
                witness.communicate()
