# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine keeps: read at its place and at the one of version 0.1.0, and moved without ever losing a record."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import DESCRIPTION
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import place, quote, script

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"]]
ONE, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


@dataclass
class Host:
    """A directory that stands for a machine's root, and a shell."""

    root: Path
    shell: list[str]
    functions: str = ""

    def path(self, name: str) -> Path:
        """Where a place is in this root."""
        return self.root / place(name).lstrip("/")

    def write(self, name: str, text: str, *below: str) -> Path:
        """Write a file as a machine would have it."""
        path = self.path(name).joinpath(*below)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(text)
        return path

    def start(self, command: str, data: str = "") -> subprocess.Popen[bytes]:
        """Start a command of the scripts; no activation is at work, and the system that runs is called NEW."""
        places = script("machine/places").replace("=/", f"={self.root}/")
        stubs = 'is_activating() { [ -e "$root/activating" ]; }\nruns() { [ "$1" = NEW ]; }\n' + self.functions
        parts = [places, script("machine/kept"), script("deployment/record"), f"root={quote(str(self.root))}", stubs]
        process = subprocess.Popen(
            [*self.shell, "-c", "\n".join([*parts, command])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(data.encode())
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, command: str, data: str = "") -> str:
        """Run a command and return what it prints."""
        return self.start(command, data).communicate()[0].decode()

    def files(self, name: str) -> list[str]:
        """The files below a place."""
        directory = self.path(name)
        return sorted(str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file())


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    (tmp_path / "nix/var/nix").mkdir(parents=True)
    return Host(tmp_path, request.param)


def test_a_record_is_read_where_its_newest_revision_is(host: Host) -> None:
    assert host.run(f"print_record {ONE}") == ""
    host.write("old_records", "old 2", ONE, "2.json")
    assert host.run(f"print_record {ONE}") == "record 2 old 2\n"
    host.write("records", "new 2", ONE, "2.json")
    assert host.run(f"print_record {ONE}") == "record 2 new 2\n"
    # As a controller of version 0.1.0 does.
    host.write("old_records", "old 10", ONE, "10.json")
    for name in ("010.json", "x.json", "9999999999999999.json", "11.json.new.1"):
        host.write("records", "not a revision", ONE, name)
    assert host.run(f"print_record {ONE}") == "record 10 old 10\n"
    assert host.run(f"print_record {OTHER}") == ""


def test_writing_a_record_moves_those_of_version_0_1_0(host: Host) -> None:
    for revision in (1, 2, 10):
        host.write("old_records", f"one {revision}", ONE, f"{revision}.json")
    host.write("old_records", "other 7", OTHER, "7.json")
    host.write("old_last_activation", "a line")
    assert host.run(f"main {ONE} 11", "one 11\n") == "written yes\n"
    assert host.files("records") == [f"{ONE}/11.json", f"{OTHER}/7.json"]
    assert host.run(f"print_record {OTHER}") == "record 7 other 7\n"
    # The rest is the activation's.
    assert host.files("old_kept") == ["last-activation"]
    modes = {path.stat().st_mode & 0o777 for path in [host.path("kept"), *host.path("kept").rglob("*")]}
    assert modes == {0o600, 0o700}


def test_a_revision_that_is_not_newer_is_answered_with_the_old_record(host: Host) -> None:
    host.write("old_records", "one 5", ONE, "5.json")
    assert host.run(f"main {ONE} 5", "another 5\n") == "record 5 one 5\n"
    assert host.run(f"print_record {ONE}") == "record 5 one 5\n"


@pytest.mark.parametrize("what", ["old_trial", "activation"])
def test_nothing_is_moved_while_something_of_version_0_1_0_is_at_work(host: Host, what: str) -> None:
    host.write("old_records", "one 5", ONE, "5.json")
    host.write("old_records", "other 7", OTHER, "7.json")
    host.write("old_last_activation", "- OLD switch 0 5 no\n")
    if what == "activation":
        (host.root / "activating").touch()
    else:
        host.write("old_trial", "OTHER OLD 1 600 profile\n")
        host.run("move_kept")
    before = host.files("old_kept")
    assert host.run(f"main {ONE} 6", "one 6\n") == "written yes\n"
    assert host.files("old_kept") == before
    assert host.run(f"print_record {ONE}; print_record {OTHER}") == "record 6 one 6\nrecord 7 other 7\n"


@pytest.mark.parametrize("host", SHELLS[:1], indirect=True, ids=["dash"])
@pytest.mark.parametrize("command", ["mkdir", "cp", "sync", "mv", "rm", "rmdir"])
@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_a_move_that_ends_anywhere_loses_nothing_and_is_continued(host: Host, command: str, times: int) -> None:
    host.write("old_records", "one 5", ONE, "5.json")
    host.write("old_records", "other 7", OTHER, "7.json")
    host.write("old_last_activation", "- NEW switch 0 5 no\n")
    host.write("old_boot_unfinished", "")
    host.write("old_trial_failed", "trial")
    records = f"print_record {ONE}; print_record {OTHER}"
    known = f"{records}; find_last_activation; cat $last_activation; is_boot_unfinished && echo yes"
    before = host.run(known)
    killed = f'echo >>"$root/calls"; [ "$(wc -l <"$root/calls")" -le {times} ] || kill -KILL 0'
    host.functions = f'{command}() {{ {killed}; command {command} "$@"; }}'
    host.run("move_kept")
    host.functions = ""
    assert host.run(known) == before
    host.run("move_kept")
    assert host.run(known) == before
    # What is left of a record that was being copied goes with the next write.
    assert [name for name in host.files("kept") if "/new." not in name] == [
        "boot-unfinished",
        "last-activation",
        f"records/{ONE}/5.json",
        f"records/{OTHER}/7.json",
        "trial-failed",
    ]
    assert not host.path("old_kept").exists()


def test_what_a_controller_of_version_0_1_0_writes_meanwhile_is_kept(host: Host) -> None:
    host.write("old_records", "one 5", ONE, "5.json")
    host.functions = f'cp() {{ command cp "$@"; echo one 6 >"$nix_ops_old_records/{ONE}/6.json"; }}'
    host.run("move_records")
    assert host.run(f"print_record {ONE}") == "record 6 one 6\n"
    host.functions = ""
    host.run("move_records")
    assert host.run(f"print_record {ONE}") == "record 6 one 6\n"
    assert not host.path("old_records").exists()


def test_of_writers_at_once_one_writes_and_the_others_get_its_record(host: Host) -> None:
    host.write("old_records", "old 5", ONE, "5.json")
    host.write("old_records", "other 7", OTHER, "7.json")
    running = [host.start(f"main {ONE} 6", f"writer {number}\n") for number in range(6)]
    answers = sorted(process.communicate()[0].decode() for process in running)
    [written] = [answer for answer in answers if answer == "written yes\n"]
    winner = host.run(f"print_record {ONE}")
    assert winner.startswith("record 6 writer ")
    assert [answer for answer in answers if answer != written] == [winner] * 5
    assert host.run(f"print_record {OTHER}") == "record 7 other 7\n"


def test_the_deployments_that_have_a_record_are_owners(host: Host) -> None:
    assert host.run("print_owners") == ""
    host.write("old_records", "one 5", ONE, "5.json")
    assert host.run("print_owners") == f"owner {ONE}\n"
    host.write("records", "one 6", ONE, "6.json")
    host.write("records", "other 1", OTHER, "1.json")
    # Not records, and not UUIDs.
    host.write("records", "not finished", ONE.replace("1", "3"), "new.1")
    for name in ("a", ONE[:-1], f"{ONE}1", ONE.upper().replace("1", "A"), ONE.replace("1", " "), ONE[:-1] + "\n"):
        host.write("records", "not a deployment", name, "1.json")
    host.write("records", "not a directory", ONE.replace("1", "4"))
    assert host.run("print_owners") == f"owner {ONE}\nowner {OTHER}\n"


def test_not_more_owners_are_told_than_an_answer_may_have(host: Host) -> None:
    for number in range(1005):
        host.write("records", "one 1", f"{ONE[:-4]}{number:04}", "1.json")
    lines = host.run("print_owners").splitlines()
    assert len(lines) == DESCRIPTION["owner"].most == 1000
    assert all(DESCRIPTION["owner"].value.fullmatch(line.removeprefix("owner ")) for line in lines)


def test_the_later_activation_counts(host: Host) -> None:
    host.write("last_activation", "- NEW switch 0 7 no\n")
    assert host.run("find_last_activation; echo $last_activation") == f"{host.path('last_activation')}\n"
    host.write("old_last_activation", "- NEW switch 0 6 no\n")
    assert host.run("find_last_activation; echo $last_activation") == f"{host.path('last_activation')}\n"
    # A boot guard of version 0.1.0 adds to its copy, and leaves the time.
    for line in ("- NEW switch 0 7 reboot\n", "- NEW switch 0 8 no\n"):
        host.write("old_last_activation", line)
        assert host.run("find_last_activation; echo $last_activation") == f"{host.path('old_last_activation')}\n"
    host.write("old_last_activation", "garbage")
    assert host.run("find_last_activation; echo $last_activation") == f"{host.path('last_activation')}\n"


def test_the_trial_of_the_running_system_counts(host: Host) -> None:
    shown = 'find_trial; echo "$trial_file $trial_toplevel"'
    assert host.run(shown) == " \n"
    host.write("trial", "LATER NEW 2 600 profile\n")
    assert host.run(shown) == f"{host.path('trial')} LATER\n"
    host.write("old_trial", "NEW OLD 1 600 profile\n")
    assert host.run(shown) == f"{host.path('old_trial')} NEW\n"
    host.run("forget_trial")
    assert host.run(shown) == " \n"
