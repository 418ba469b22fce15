# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user's own configuration of ssh sets, read without ssh."""

from __future__ import annotations

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.machine.ssh_configuration import configured_users, values

CONFIGURATION = """
# User nobody
UserKnownHostsFile /dev/null
Host a
  User   Alice
  StrictHostKeyChecking=no
Match host b
\tuser = "bob"
"""


@pytest.mark.parametrize(
    ("words", "users", "checks"),
    [
        ([], set(), set()),
        (["-o", "UserKnownHostsFile=/x", "-o", "StrictHostKeyChecking=no"], set(), {"no"}),
        (["-oStrictHostKeyChecking accept-new"], set(), {"accept-new"}),
        (["-o", "User=carol"], {"carol"}, set()),
        (["-oUser=carol"], {"carol"}, set()),
        (["-l", "carol"], {"carol"}, set()),
        (["-lcarol"], {"carol"}, set()),
    ],
)
def test_values_of_the_words(words, users, checks):
    given = ["-F", "none", *words]
    assert values("user", given) == users
    assert values("stricthostkeychecking", given) == checks


def test_values_of_the_files(tmp_path):
    (tmp_path / "more").write_text(CONFIGURATION)
    (tmp_path / "config").write_text(f"Include {tmp_path}/mo*\n")
    words = ["-F", str(tmp_path / "config")]
    assert values("user", words) == {"Alice", "bob"}
    assert values("stricthostkeychecking", words) == {"no"}
    assert configured_users(["a", "b", "c"], words) == {"a": "Alice", "b": "bob"}
    assert configured_users(["a"], ["-F", "none"]) == {}


@pytest.mark.parametrize("file", ["ssh.cfg", "./ssh.cfg", "{directory}/ssh.cfg"])
def test_a_configuration_that_is_named_counts_from_the_working_directory(file, tmp_path, monkeypatch):
    (tmp_path / "ssh.cfg").write_text("Host web\n  User deploy\n")
    monkeypatch.chdir(tmp_path)
    words = ["-F", file.format(directory=tmp_path)]
    assert configured_users(["web", "other"], words) == {"web": "deploy"}
