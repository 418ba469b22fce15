# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user that ssh's own configuration has for a host."""

from __future__ import annotations

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.machine.ssh_user import configured_users


@pytest.mark.parametrize("file", ["ssh.cfg", "./ssh.cfg", "{directory}/ssh.cfg"])
def test_a_configuration_that_is_named_counts_from_the_working_directory(file, tmp_path, monkeypatch):
    (tmp_path / "ssh.cfg").write_text("Host web\n  User deploy\n")
    monkeypatch.chdir(tmp_path)
    words = ["-F", file.format(directory=tmp_path)]
    assert configured_users(["web", "other"], words) == {"web": "deploy"}
