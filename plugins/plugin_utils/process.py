# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs commands on the controller."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO

LineSink = Callable[[str], None]
PieceSink = Callable[[bytes], None]

# Bytes that a ready pipe takes without blocking (pipe(7)).
_PIPE_BUF = 4096

# Bytes after which a line is passed on in pieces.
_LONGEST_LINE = 1024 * 1024

# Seconds between two looks at a command that has a watch.
_INTERVAL = 1.0

# Looks at a running command about once a second: its process id and the bytes it has printed. Raises to end it.
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Completed:
    """A command that ended.

    :param argv: the command as it was run.
    :param exit_code: its exit code; negative for the signal that killed it.
    :param stdout: its standard output.
    :param stderr: its standard error.
    """

    argv: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str


class _Lines:
    """Collects a stream and passes on each line once it is complete; a very long one in pieces."""

    def __init__(self, sink: LineSink | None) -> None:
        self._sink = sink
        self._chunks: list[bytes] = []
        self._rest = b""
        self.size = 0

    def feed(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self.size += len(chunk)
        if self._sink is None:
            return
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._sink(_text(line))

    def end(self) -> str:
        if self._sink is not None and self._rest:
            self._sink(_text(self._rest))
        return _text(b"".join(self._chunks))


class _Pieces:
    """Passes on a stream piece by piece and keeps nothing of it."""

    def __init__(self, sink: PieceSink) -> None:
        self._sink = sink
        self.size = 0

    def feed(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self._sink(chunk)

    def end(self) -> str:
        return ""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace").rstrip("\r")


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes | IO[bytes] = b"",
    stdout: IO[bytes] | PieceSink | None = None,
    cwd: str | None = None,
    on_stdout: LineSink | None = None,
    on_stderr: LineSink | None = None,
    on_start: Callable[[int], None] | None = None,
    watch: Watch | None = None,
) -> Completed:
    """Run a command to its end.

    The command stays in the caller's process group, so that an interrupt from the terminal reaches it too. If an
    exception ends this call early (a task timeout, a signal), the command is ended as well.

    :param argv: the command and its arguments; no shell reads them.
    :param env: variables in addition to the caller's own.
    :param stdin: the command's standard input, or the file for it.
    :param stdout: a file for standard output, or what is called with each piece of it; it is not returned then. An
        exception that the call raises ends the command.
    :param on_stdout: called with each line of standard output at once.
    :param on_stderr: the same for standard error.
    :param on_start: called with the process id.
    :param watch: looks at the command while it runs; an exception that it raises ends the command.
    :raises FileNotFoundError: if the command does not exist.
    """
    process = subprocess.Popen(
        list(argv),
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdin=subprocess.PIPE if isinstance(stdin, bytes) else stdin,
        stdout=subprocess.PIPE if stdout is None or callable(stdout) else stdout,
        stderr=subprocess.PIPE,
    )
    try:
        if on_start is not None:
            on_start(process.pid)
        out, err = _Pieces(stdout) if callable(stdout) else _Lines(on_stdout), _Lines(on_stderr)
        look = partial(watch, process.pid) if watch else None
        _drive(process, stdin if isinstance(stdin, bytes) else b"", out, err, look)
        exit_code = _wait(process, out.size + err.size, look)
    finally:
        _end(process)
    return Completed(tuple(argv), exit_code, out.end(), err.end())


def _drive(
    process: subprocess.Popen[bytes],
    stdin: bytes,
    out: _Lines | _Pieces,
    err: _Lines,
    look: Callable[[int], None] | None,
) -> None:
    pending = memoryview(stdin)
    looked = time.monotonic()
    with selectors.DefaultSelector() as selector:
        if process.stdout is not None:
            selector.register(process.stdout, selectors.EVENT_READ, out)
        if process.stderr is not None:
            selector.register(process.stderr, selectors.EVENT_READ, err)
        if process.stdin is not None:
            selector.register(process.stdin, selectors.EVENT_WRITE, None)
        while selector.get_map():
            ready = selector.select(_INTERVAL if look else None)
            if look and time.monotonic() - looked >= _INTERVAL:
                looked = time.monotonic()
                look(out.size + err.size)
            for key, _events in ready:
                if key.data is None:
                    pending = _feed(key.fd, pending)
                    ended = not pending
                else:
                    chunk = os.read(key.fd, 65536)
                    key.data.feed(chunk)
                    ended = not chunk
                if ended:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]


def _wait(process: subprocess.Popen[bytes], printed: int, look: Callable[[int], None] | None) -> int:
    while True:
        try:
            return process.wait(_INTERVAL if look else None)
        except subprocess.TimeoutExpired:
            if look:
                look(printed)


def _feed(descriptor: int, pending: memoryview) -> memoryview:
    try:
        return pending[os.write(descriptor, pending[:_PIPE_BUF]) :]
    except BrokenPipeError:
        return memoryview(b"")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None and not stream.closed:
            stream.close()
