# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host keys: which are known, and what is said of one that is not."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.machine import host_keys
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host_keys import Known, Verdict, judge, of_lines, options

OLD = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILoPYYLQ6HtS6gPL6NqiiENY7zFVSAKgnY+kLQyljSOZ"
NEW = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/SRUF+KGih1r9Eqkp5VAQU9+Zv/IWKrBVBXhmt6JKX"
CHANGED = "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @"


def known(key, *, is_revoked=False):
    return Known(key, "/home/me/.ssh/known_hosts line 3", "ssh-keygen -R a", is_revoked)


def test_a_line_of_a_public_key_is_read_without_its_comment():
    assert host_keys.read(f"{OLD} root@target\n") == OLD
    assert host_keys.read("-----BEGIN OPENSSH PRIVATE KEY-----") is None
    assert host_keys.read(f'{OLD}"\nProxyCommand x') is None


@pytest.mark.parametrize(
    ("there", "told", "verdict"),
    [
        ([], "Host key verification failed.", Verdict.UNKNOWN),
        ([known(OLD)], "Host key verification failed.", Verdict.CHANGED),
        # ssh may know a key that no file has, for example by a KnownHostsCommand of the user.
        ([], CHANGED, Verdict.CHANGED),
        ([known(OLD), known(NEW)], CHANGED, None),
        ([known(OLD), known(NEW, is_revoked=True)], "", Verdict.REVOKED),
        ([known(NEW), known(NEW, is_revoked=True)], "", Verdict.REVOKED),
        ([known(OLD, is_revoked=True)], "", Verdict.UNKNOWN),
        ([], "@       WARNING: REVOKED HOST KEY DETECTED!               @", Verdict.REVOKED),
    ],
)
def test_a_key_is_new_only_if_nothing_is_known(there, told, verdict):
    found = judge("target", NEW, there, told)
    assert (found.verdict if found else None) == verdict


def test_what_a_file_of_known_hosts_has():
    lines = [
        "# Host [a]:22 found: line 7 ",
        f"[a]:22 {OLD} comment",
        "# Host [a]:22 found: line 9 REVOKED",
        f"@revoked [a]:22 {NEW}",
        "# Host [a]:22 found: line 10 CA",
        f"@cert-authority * {NEW}",
        "garbage",
    ]
    first, second = of_lines(lines, "/a b", "[a]:22")
    assert first == Known(OLD, "/a b line 7", "ssh-keygen -R '[a]:22' -f '/a b'")
    assert (second.key, second.where, second.is_revoked) == (NEW, "/a b line 9", True)


def test_where_a_machine_has_its_key():
    assert host_keys.file_of(OLD) == "/etc/ssh/ssh_host_ed25519_key.pub"
    assert host_keys.file_of("ecdsa-sha2-nistp256 AAAA") == "/etc/ssh/ssh_host_ecdsa_key.pub"


def test_the_fingerprint_is_that_of_ssh(tmp_path):
    (tmp_path / "key.pub").write_text(f"{OLD} target\n")
    shown = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True)
    assert host_keys.fingerprint(OLD, "target") == shown.stdout.strip()


def test_ssh_is_given_a_command_that_prints_the_keys(monkeypatch, tmp_path):
    place = tmp_path / "a 'b\" %h \\c"
    place.mkdir()
    script = place / "known.sh"
    script.write_text(host_keys._SCRIPT.read_text())
    monkeypatch.setattr(host_keys, "_SCRIPT", Path(script))
    option, value = options([OLD, NEW])
    assert option == "-o"
    shown = subprocess.run(["ssh", "-G", option, value, "a"], capture_output=True, text=True, check=True).stdout
    assert f"knownhostscommand {value.partition('=')[2]}\n" in shown
    # What is left of it after ssh's own quoting, which is close enough to a shell's here.
    words = shlex.split(value.partition("=")[2].replace("%%", "%"))
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert printed == f"* {OLD}\n* {NEW}\n"


def test_without_keys_ssh_is_given_nothing():
    assert options([]) == []


@pytest.mark.parametrize(
    ("setting", "own", "unread"),
    [
        (
            {"userknownhostsfile": "/root/.ssh/known_hosts ~/.ssh/known_hosts2", "globalknownhostsfile": "none"},
            [],
            None,
        ),
        ({"knownhostscommand": "none"}, [], None),
        (
            {"knownhostscommand": "/usr/bin/sss_ssh_knownhosts %H"},
            [],
            "KnownHostsCommand /usr/bin/sss_ssh_knownhosts %H",
        ),
        ({"knownhostscommand": "/bin/sh known_host_keys.sh"}, [known(OLD)], None),
        ({"userknownhostsfile": "/home/a b/known_hosts"}, [], "UserKnownHostsFile /home/a b/known_hosts"),
    ],
)
def test_what_ssh_may_know_besides_is_told(setting, own, unread):
    assert host_keys.unread(setting, own) == unread
