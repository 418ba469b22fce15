# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows lines to the user during a run, and writes results to files."""

from __future__ import annotations

import errno
import json
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, cast

import yaml
from ansible import constants
from ansible.errors import AnsiblePromptInterrupt, AnsiblePromptNoninteractive
from ansible.utils.display import Display

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

# C0 without tab and newline, DEL and C1, bidirectional marks and overrides, line and paragraph separators, and
# bytes that were not UTF-8 (surrogates).
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


# Seconds for a worker to end.
_MOMENT = 2.0

# What the default callback of Ansible prints of a task that failed: its message as an error, and its result as JSON, or
# as YAML below that line.
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_AS_ERROR = "[ERROR]: Task failed: Action failed: "
_AS_RESULT = re.compile(r"(?:fatal|failed): \[.*?( => [{\n])(.*)", re.DOTALL)


def plain(text: str) -> str:
    """Replace control characters, which could change how a terminal shows the text."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def plain_values(value: Any) -> Any:
    """Replace control characters in all texts of nested mappings and lists."""
    if isinstance(value, str):
        return plain(value) if _CONTROL.search(value) else value
    if isinstance(value, dict):
        return {plain_values(key): plain_values(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(one) for one in value]
    return value


def live(name: str, *, silent: bool) -> LineSink:
    """Return a sink that shows each line at once, prefixed ``name> ``.

    :param silent: show nothing, for ``no_log``.
    """

    def sink(line: str) -> None:
        if not silent:
            # Without the prefix, text after a line break could look like a line of another machine.
            show(f"{name}> {line}".replace("\n", f"\n{name}> "))

    return sink


def show(text: str) -> None:
    """Show a text. With a callback that writes JSON to standard output, use standard error."""
    _show(_Line(plain(text)))


def failure(name: str | None, text: str, message: str) -> None:
    """Show why a task fails. Of the same message, the default callback of Ansible shows no more.

    :param name: the prefix of each line; None for no prefix.
    :param text: what to show.
    :param message: the message in the task's result.
    """
    line = _Line("\n".join(f"{name}> {line}" if name else line for line in plain(text).splitlines()))
    # With -v, users want to see the result.
    line.tells = plain(message) if Display().verbosity < 1 else ""
    _show(line, color=constants.COLOR_ERROR)


def _show(line: _Line, color: str | None = None) -> None:
    Display().display(line, color=color, stderr="json" in str(constants.DEFAULT_STDOUT_CALLBACK))


def ask(question: str) -> str | None:
    """Ask the user on the terminal; return None if there is no terminal.

    :raises OpsError: if the user interrupts the question.
    """
    try:
        answer: bytes = Display().prompt_until(f"{plain(question)}: ", complete_input=(b"\n", b"\r"))
    except (AnsiblePromptNoninteractive, OSError):
        # A terminal that is not the run's own can't be asked either.
        return None
    except AnsiblePromptInterrupt:
        raise OpsError("interrupted", state="nothing was changed") from None
    return answer.decode(errors="replace").strip()


def write(path: str, text: str) -> None:
    """Write a text to a file of the user's choice.

    :raises OpsError: if the file can't be written.
    """
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OpsError(
            f"{path} can't be written", output=str(error), next_step="Name a file that you may write."
        ) from error


class _Line(str):
    """A line that is written at once.

    Python buffers output to a pipe, and Ansible does not flush it. A worker sends its lines to the process that writes
    them. Unpickling a line there turns the buffering off.

    The attribute ``tells`` is the message of a failure that this line shows; empty if it shows none.
    """

    tells = ""

    def __reduce__(self) -> tuple[Callable[[str, str], str], tuple[str, str]]:
        return _receive, (str(self), self.tells)


def _receive(text: str, tells: str) -> str:
    """Unpickle a line of a worker, in the process that writes it."""
    if tells:
        _TOLD.append(tells)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(line_buffering=True)
            setattr(sys, name, cast(TextIO, _Output(stream)))
    return text


# The messages of failures that were shown. The callback of a failure comes soon after its message.
_TOLD: deque[str] = deque(maxlen=256)


def without_repetition(text: str) -> str:
    """Leave out of a text of Ansible's default callback what was shown already. Its log file has all of it."""
    if not _TOLD or not _COLOR.sub("", text[:64]).startswith((_AS_ERROR, "fatal: [", "failed: [")):
        return text
    shown = _COLOR.sub("", text)
    if shown.startswith(_AS_ERROR):
        # Beside the message, it names the task's place in its file.
        error = shown.removeprefix(_AS_ERROR).rstrip().partition("\nOrigin: ")[0]
        return "" if error in {message.rstrip() for message in _TOLD} else text
    found = _AS_RESULT.fullmatch(shown)
    if not found or _message(found[1][-1] + found[2]) not in _TOLD:
        return text
    color = _COLOR.match(text)
    line = shown[: found.start(1)]
    return f"{color[0]}{line}\x1b[0m\n" if color else f"{line}\n"


def _message(result: str) -> object:
    """Return the message of a result in JSON or YAML; None if it has none."""
    try:
        read = json.loads(result) if result.startswith("{") else yaml.safe_load(result)
    except (ValueError, yaml.YAMLError):
        return None
    return read.get("msg") if isinstance(read, dict) else None


class _Output:
    """Standard output or standard error that ends the run if it can't be written, and does not repeat failures.

    Otherwise a write error would silently end Ansible's thread that receives the workers' results, and the run would
    wait for ever (ansible-core, plugins/strategy/__init__.py: results_thread_main).

    :param stream: the stream itself.
    """

    _ended = False

    def __init__(self, stream: TextIOWrapper) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return self._stream.write(without_repetition(text))
        except OSError as error:
            self._end(error)
            return len(text)

    def flush(self) -> None:
        """Flush the buffer."""
        try:
            self._stream.flush()
        except OSError as error:
            self._end(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _end(self, error: OSError) -> None:
        """End the run like an interrupt from the terminal."""
        if _Output._ended:
            # A second signal would interrupt the cleanup.
            return
        _Output._ended = True
        # The cleanup writes to the same stream and would fail again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if error.errno != errno.EPIPE and self._stream is not sys.__stderr__:
            print(f"The output can't be written, so this run ends: {error}", file=sys.stderr)
        _await_workers()
        os.kill(os.getpid(), signal.SIGINT)


def _await_workers() -> None:
    """Wait a moment for workers that have told their result and are about to end.

    A worker that is killed before it has released the lock of Ansible's queue would make the run wait for ever
    (ansible-core, plugins/strategy/__init__.py: cleanup). Only in the main thread: the other one empties the queue.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    deadline = time.monotonic() + _MOMENT
    while (left := deadline - time.monotonic()) > 0 and (workers := multiprocessing.active_children()):
        multiprocessing.connection.wait([worker.sentinel for worker in workers], left)
