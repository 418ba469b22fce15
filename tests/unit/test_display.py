# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people see of what machines say."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils import display

FULL = "/dev/full"


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[2K\rother> activation finished successfully",
        "\x00",
        "\x7f",
        "\x9b31m",
        "\u202e",
        "\u2066",
        "\u2028other> done",
        "\u2029",
        "\udcff",
    ],
)
def test_control_characters_are_replaced(text: str) -> None:
    shown = display.plain(text)
    assert "\N{REPLACEMENT CHARACTER}" in shown
    assert all(one.isprintable() for one in shown)
    assert display.plain_values({"journal": {"a.service": [text, 7, None]}}) == {
        "journal": {"a.service": [shown, 7, None]}
    }


@pytest.mark.parametrize("text", ["", "plain", "two\nlines", "a\ttab", "grün", "日本語", "a\u00a0b"])
def test_other_text_is_left_alone(text: str) -> None:
    assert display.plain(text) == text


def test_a_line_break_begins_no_line_of_another_machine(capsys: pytest.CaptureFixture[str]) -> None:
    display.live("target", silent=False)("one\nother> done")
    assert "target> one\ntarget> other> done" in capsys.readouterr().out


# Takes a line as the process does that shows it, then writes for as long as it can.
WRITER = """
    import pickle, signal, sys, time

    def interrupted(_number, _frame):
        print("interrupted", file=sys.stderr)
        sys.exit(99)

    signal.signal(signal.SIGINT, interrupted)
    print(pickle.loads(bytes.fromhex(sys.argv[1])))
    end = time.monotonic() + 30
    while time.monotonic() < end:
        print("more")
    sys.exit("nobody ended this")
"""


def writer(stdout: int) -> subprocess.Popen[str]:
    """Start a process that shows a worker's line, and more."""
    line = pickle.dumps(display._Line("a line"))
    words = [sys.executable, "-c", textwrap.dedent(WRITER), line.hex()]
    return subprocess.Popen(words, stdout=stdout, stderr=subprocess.PIPE, text=True)


def test_a_run_whose_reader_goes_away_is_interrupted() -> None:
    process = writer(subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    # The line is there although the process goes on.
    assert process.stdout.readline() == "a line\n"
    process.stdout.close()
    said = process.stderr.read()
    assert (process.wait(), said) == (99, "interrupted\n")


def test_a_run_whose_output_finds_no_room_is_interrupted() -> None:
    full = os.open(FULL, os.O_WRONLY)
    process = writer(full)
    os.close(full)
    _out, said = process.communicate()
    assert process.returncode == 99
    assert said.startswith("The output can't be written, so this run ends: ")
    assert "No space left on device" in said


def test_a_worker_shows_its_lines_by_the_process_that_shows_them() -> None:
    line = pickle.loads(pickle.dumps(display._Line("text")))
    assert (type(line), line) == (str, "text")
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
