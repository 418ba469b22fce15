# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people see of what machines say."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest
import yaml
from ansible.utils.display import Display

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


# What the default callback prints of a failed task, with the colors of a terminal and without.
MESSAGE = 'target: it failed\n  "so"\nState: grün\nNext: Run the same again.'
RED, END = "\x1b[0;31m", "\x1b[0m"


def as_error(message: str, *, colored: bool) -> str:
    lines = f"[ERROR]: Task failed: Action failed: {message}\nOrigin: /a/main.yml:5:3\n\n5 - name: it\n".split("\n")
    return "\n".join(f"{RED}{line}{END}" for line in lines) if colored else "\n".join(lines)


def as_yaml(message: str, how: str, *, colored: bool) -> str:
    result = yaml.dump({"changed": False, "msg": message, "output": "..."}, default_flow_style=False, indent=4)
    lines = [f"{how} => ", *textwrap.indent(result, "    ").split("\n")]
    return "\n".join(f"{RED}{line}{END}" for line in lines) if colored else "\n".join(lines)


def as_json(message: str, how: str, *, colored: bool) -> str:
    line = f"{how} => {json.dumps({'changed': False, 'msg': message, 'output': '...'}, ensure_ascii=False)}"
    return f"{RED}{line}{END}\n" if colored else f"{line}\n"


@pytest.fixture
def told() -> Iterator[str]:
    """A failure that was shown."""
    line = display._Line("target> it failed")
    line.tells = MESSAGE
    pickle.loads(pickle.dumps(line))
    yield MESSAGE
    display._TOLD.clear()


@pytest.mark.parametrize("colored", [False, True])
@pytest.mark.parametrize(
    "how", ["fatal: [target]: FAILED!", "fatal: [target]: UNREACHABLE!", "failed: [target -> localhost] (item=a => b)"]
)
def test_a_failure_that_was_shown_is_not_repeated(told: str, how: str, colored: bool) -> None:
    shown = f"{RED}{how}{END}\n" if colored else f"{how}\n"
    for text in (as_json(told, how, colored=colored), as_yaml(told, how, colored=colored)):
        assert display.without_repetition(text) == shown
    assert display.without_repetition(as_error(told, colored=colored)) == ""


@pytest.mark.parametrize(
    "text",
    [
        as_error("another failure", colored=False),
        as_error("another failure", colored=True),
        as_error(f"The deploy failed: {MESSAGE}", colored=False),
        as_error(f"{MESSAGE} And more.", colored=False),
        as_json("another failure", "fatal: [target]: FAILED!", colored=False),
        as_yaml("another failure", "fatal: [target]: FAILED!", colored=True),
        "fatal: [target]: FAILED! => \n    : {",
        "fatal: [target]: FAILED! => {not JSON}\n",
        f"changed: [target] => {json.dumps({'msg': MESSAGE})}\n",
        f"target> {MESSAGE}\n",
        "",
    ],
)
def test_nothing_else_is_left_out(told: str, text: str) -> None:
    assert display.without_repetition(text) == text


def test_with_v_the_result_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[display._Line] = []
    monkeypatch.setattr(Display, "display", lambda _self, line, **_how: shown.append(line))
    for verbosity in (0, 1):
        monkeypatch.setattr(Display(), "verbosity", verbosity)
        display.failure("target", "it failed\nState: \x1b[2K", "target: it failed\nState: \x1b[2K")
    assert shown == ["target> it failed\ntarget> State: \N{REPLACEMENT CHARACTER}[2K"] * 2
    assert [line.tells for line in shown] == ["target: it failed\nState: \N{REPLACEMENT CHARACTER}[2K", ""]
