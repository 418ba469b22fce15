# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ssh that stands first on Nix's PATH."""

from __future__ import annotations

import re
import subprocess
import tempfile

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.store import route as routes
from ansible_collections.nix.ops.plugins.plugin_utils.store.route import SshRoute

OPTIONS = (
    "-o",
    "ControlMaster=no",
    "-o",
    'IdentityFile="/with space/key"',
    "-o",
    "SendEnv=LANG LC_FOO",
    "-o",
    "X=$(id)",
)


def words_of(route, *from_nix):
    with routes.environment({"machine": route}) as variables:
        done = subprocess.run(["ssh", *from_nix], env=variables, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.fixture
def route():
    # printf stands for the real ssh, and shows each of its words.
    return SshRoute(("/usr/bin/printf", "<%s>", *OPTIONS, "target"), ("sudo", "-n", "--"))


def shown(*words):
    return "".join(f"<{word}>" for word in words)


def test_nix_2_8_reaches_the_machine(route):
    assert words_of(route, "machine.nix-ops", "-x", "-a", "nix-store --serve --write") == (
        0,
        shown(*OPTIONS, "target", "-x", "-a", "sudo", "-n", "--", "nix-store --serve --write"),
    )


def test_the_line_that_newer_nix_waits_for_is_said_before_the_connection_is_made(route):
    code, said = words_of(
        route,
        "machine.nix-ops",
        "-x",
        "-oPermitLocalCommand=yes",
        "-oLocalCommand=echo started",
        "nix-store",
        "--serve",
        "--write",
    )
    assert code == 0
    assert said == "started\n" + shown(*OPTIONS, "target", "-x", "sudo", "-n", "--", "nix-store", "--serve", "--write")


def test_without_become_nothing_comes_before_the_command():
    route = SshRoute(("/usr/bin/printf", "<%s>", "target"), ())
    assert words_of(route, "machine.nix-ops", "nix-store", "--serve") == (0, shown("target", "nix-store", "--serve"))


def test_a_question_about_a_master_is_answered_with_no(route):
    assert words_of(route, "-O", "check", "machine.nix-ops") == (255, "")


def test_other_destinations_are_reached_by_the_ssh_and_options_of_the_user(route, tmp_path, monkeypatch):
    own = tmp_path / "ssh"
    own.write_text("#!/bin/sh\nprintf '<%s>' own \"$@\"\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("NIX_SSHOPTS", "-p 2222 -oX=*")
    assert words_of(route, "machine", "-x", "-a", "nix-daemon --stdio") == (
        0,
        shown("own", "-p", "2222", "-oX=*", "machine", "-x", "-a", "nix-daemon --stdio"),
    )
    # Whether a connection of Nix's own is open already.
    assert words_of(route, "-O", "check", "builder") == (
        0,
        shown("own", "-p", "2222", "-oX=*", "-O", "check", "builder"),
    )


@pytest.mark.parametrize("name", ["web", "localhost", "[2001:db8::1]", "it's"])
def test_a_host_has_a_name_that_is_no_store_of_the_user(name):
    address = routes.address(name)
    assert re.fullmatch(r"ssh://machine-[0-9a-f]{8}\.nix-ops", address) or address == f"ssh://{name}.nix-ops"
    line = f"copying path '/nix/store/x' to '{address}'..."
    assert routes.shown(line) == line.replace(".nix-ops", "")


def test_directory_that_can_not_execute_is_not_used(route, tmp_path, monkeypatch):
    # A ':' ends an entry of the PATH, so Nix would look for its ssh elsewhere.
    unusable = tmp_path / "a:b"
    unusable.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(unusable))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code, said = words_of(route, "machine.nix-ops", "true")
    assert (code, "true" in said) == (0, True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(unusable))
    with pytest.raises(OpsError, match="Nix would run another ssh"):
        words_of(route, "machine.nix-ops", "true")
    assert not list(unusable.glob("nix-ops-ssh-*"))
