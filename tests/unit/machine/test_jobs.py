# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs that run on their own, followed and stopped by the script that a host gets."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import jobs
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine, PasswordRefused
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed, run
from answers import answered


def execute(command, stdin, _wait):
    """Behind a connection to this computer, whose shell greets at start-up."""
    done = run(command.split(), stdin=stdin)
    return Completed(done.argv, done.exit_code, f"Welcome!\n{done.stdout}", done.stderr)


@pytest.fixture
def host():
    return Machine("host", execute, {})


@pytest.fixture
def directory(tmp_path):
    """A job's directory whose job has said two lines and is the process of a shell that waits."""
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()[19]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (tmp_path / "pid").write_text(f"{process.pid}\n")
    (tmp_path / "identity").write_text(f"{boot} {started}\n")
    (tmp_path / "log").write_text("one\ntwo\n")
    yield tmp_path
    process.kill()
    process.wait()


def test_a_running_job_is_looked_at(host, directory):
    assert jobs.look(host, str(directory), 4) == jobs.Look("running", None, None, b"two\n")


def test_lines_that_follow_soon_are_in_one_answer(host, directory):
    with subprocess.Popen(["sh", "-c", "for word in three four; do sleep 0.2; echo $word >>log; done"], cwd=directory):
        assert jobs.look(host, str(directory), 8).log == b"three\nfour\n"


def test_a_job_that_waits_for_the_controller_is_answered_at_once(host, directory):
    (directory / "step").write_text("acknowledge\n")
    began = time.monotonic()
    assert jobs.look(host, str(directory), 8, "activate") == jobs.Look("running", None, "acknowledge", b"")
    assert time.monotonic() - began < 4


def test_an_ended_job_tells_its_exit_code_and_its_last_step(host, directory):
    (directory / "step").write_text("boot\n")
    (directory / "rc").write_text("3\n")
    assert jobs.look(host, str(directory), 0) == jobs.Look("ended", 3, "boot", b"one\ntwo\n")


def test_much_is_read_piece_by_piece_and_ends_with_the_last(host, directory):
    text = "".join(f"line {number}\n" for number in range(20_000))
    (directory / "log").write_text(text)
    (directory / "rc").write_text("0\n")
    assert jobs.look(host, str(directory), 0).state == "running"
    lines: list[str] = []
    ended = jobs.follow(host, str(directory), what="it", on_line=lines.append, patience=1, within=60)
    assert (ended.state, ended.exit_code, ended.log) == ("ended", 0, text)
    assert lines == text.splitlines()


def test_a_job_that_goes_on_for_too_long_is_not_followed(host, directory):
    with pytest.raises(OpsError, match="host: the build has not ended within 1 seconds"):
        jobs.follow(host, str(directory), what="the build", on_line=lambda _line: None, patience=1, within=1)


def test_a_refused_password_ends_the_asking():
    asked: list[int] = []

    def ask():
        asked.append(1)
        raise PasswordRefused("Incorrect sudo password", "host")

    with pytest.raises(PasswordRefused):
        jobs.patiently(ask, "host", on_line=lambda _line: None, patience=60)
    assert len(asked) == 1


def test_a_longer_piece_of_the_log_than_was_asked_for_is_refused():
    text = "x" * 65537
    done = Completed(("sh",), 0, answered(f"job running - -\nlog {len(text)}\n{text}"), "")
    with pytest.raises(OpsError, match="its log has 65537 bytes"):
        jobs.look(Machine("host", lambda *_words: done, {}), "/run/job", 0)


def test_a_later_process_of_the_same_number_is_not_taken_for_the_job(host, directory):
    (directory / "identity").write_text("another-boot 1\n")
    assert jobs.look(host, str(directory), 8).state == "killed"
    pid = int((directory / "pid").read_text())
    host.run("machine/job", "stop", str(directory))
    assert not directory.exists()
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"


def test_a_job_is_stopped_with_all_it_started(host, directory):
    pid = int((directory / "pid").read_text())
    host.run("machine/job", "stop", str(directory))
    assert not directory.exists()
    _pid, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM


def test_a_job_without_a_directory_is_gone(host, tmp_path):
    assert jobs.look(host, str(tmp_path / "none"), 0).state == "gone"


def test_whatever_hinders_the_asking_is_waited_for():
    hindrances = iter([ConnectionLost("refused"), OpsError("Missing sudo password"), ConnectionLost("refused")])
    said: list[str] = []

    def ask():
        for hindrance in hindrances:
            raise hindrance
        return "answer"

    assert jobs.patiently(ask, "host", on_line=said.append, patience=10) == "answer"
    assert said == ["connection lost, reconnecting: refused"]


def test_patience_ends_with_what_is_known():
    def ask():
        raise ConnectionLost("no route to host")

    with pytest.raises(OpsError, match="has not answered for 0 seconds") as failure:
        jobs.patiently(ask, "host", on_line=lambda _line: None, patience=0)
    assert "goes on by itself" in str(failure.value)
    assert "no route to host" in str(failure.value)


def test_the_last_error_is_told_without_its_own_state():
    def ask():
        raise OpsError("no answer", machine="host", output="it hangs", state="untouched", next_step="Look at it.")

    with pytest.raises(OpsError, match="has given no valid answer for 0 seconds") as failure:
        jobs.patiently(ask, "host", on_line=lambda _line: None, patience=0)
    assert str(failure.value).count("State: ") == str(failure.value).count("Next: ") == 1
    assert "  host: no answer\n    it hangs\n" in str(failure.value)


def test_a_host_that_goes_down_with_its_job_is_not_waited_for():
    answers = iter([Completed(("sh",), 0, answered("job running - reboot\nlog 3\nup\n"), "")])

    def execute(*_words):
        for answer in answers:
            return answer
        raise ConnectionLost("connection refused")

    lines: list[str] = []
    machine = Machine("host", execute, {})
    ended = jobs.follow(
        machine, "/run/job", what="it", on_line=lines.append, patience=300, within=600, on_step=lambda _step: True
    )
    assert (ended.state, ended.exit_code, ended.step, ended.log) == ("gone", None, "reboot", "up\n")
    assert lines == ["up"]


def test_the_last_error_of_a_job_that_was_followed_is_kept():
    sudo = OpsError("sudo refuses", machine="host")
    answers = iter([ConnectionLost("refused"), sudo, Completed(("sh",), 0, answered("job ended 0 boot\nlog 0\n"), "")])

    def execute(*_words):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    lines: list[str] = []
    ended = jobs.follow(
        Machine("host", execute, {}), "/run/job", what="it", on_line=lines.append, patience=5, within=60
    )
    assert (ended.exit_code, ended.trouble) == (0, sudo)
    assert lines == ["connection lost, reconnecting: refused"]
