# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on the controller."""

from __future__ import annotations

import os
import threading

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils import process
from ansible_collections.nix.ops.plugins.plugin_utils.process import run


def test_a_line_is_handed_on_before_the_command_ends(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    heard = threading.Event()

    def open_gate():
        assert heard.wait(10)
        gate.write_text("open\n")

    opener = threading.Thread(target=open_gate)
    opener.start()
    done = run(
        ["sh", "-c", 'echo first >&2; read -r word <"$1"; echo "$word"', "sh", str(gate)],
        on_stderr=lambda _: heard.set(),
    )
    opener.join()
    assert (done.exit_code, done.stdout, done.stderr) == (0, "open\n", "first\n")


def test_much_input_and_much_output_do_not_block():
    text = b"x" * 1_000_000
    assert run(["cat"], stdin=text).stdout.encode() == text


def test_a_command_that_does_not_read_its_input_is_no_error():
    assert run(["true"], stdin=b"x" * 1_000_000).exit_code == 0


def test_files_stand_in_for_input_and_output(tmp_path):
    (tmp_path / "in").write_text("text")
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        assert run(["cat"], stdin=source, stdout=sink).exit_code == 0
    assert (tmp_path / "out").read_text() == "text"


def test_a_word_is_never_read_by_a_shell():
    assert run(["printf", "%s", "$(id); 'x'"]).stdout == "$(id); 'x'"


def test_the_last_line_needs_no_line_break():
    lines: list[str] = []
    run(["printf", "a\nb"], on_stdout=lines.append)
    assert lines == ["a", "b"]


def test_an_exception_ends_the_command(tmp_path):
    def stop(line):
        (tmp_path / "pid").write_text(line)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        run(["sh", "-c", "echo $$; exec sleep 60"], on_stdout=stop)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_watch_ends_a_command(monkeypatch):
    monkeypatch.setattr(process, "_INTERVAL", 0.1)
    pids: list[int] = []

    def look(pid, printed):
        pids.append(pid)
        if printed >= 5:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        run(["sh", "-c", "sleep 0.3; echo late; exec sleep 60"], watch=look)
    assert len(pids) > 1
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_long_line_is_handed_on_in_pieces():
    lines: list[str] = []
    run(["head", "-c", "3000000", "/dev/zero"], on_stdout=lines.append)
    assert len(lines) > 1 and sum(map(len, lines)) == 3_000_000
