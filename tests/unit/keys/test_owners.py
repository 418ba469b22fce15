# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An activation gives keys to the users that it has made, and leaves alone what is right."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.keys import sending

OWNERS = Path(sending.__file__).with_name("owners.sh")

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a key's owner is set by root")


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_owners_and_modes_are_set_where_they_differ(tmp_path: Path, shell: str) -> None:
    for name in ("right", "mode", "owner"):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(name)
    (tmp_path / "owner").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "other")
    (tmp_path / "other").touch(mode=0o600)
    keys = {
        "mode": "440 root root",
        "owner": "640 daemon daemon",
        "missing": "600 root root",
        "right": "600 root root",
        "link": "666 daemon daemon",
    }
    right = (tmp_path / "right").stat().st_ctime_ns
    lines = [f"regular file {key} {tmp_path / name}\n" for name, key in keys.items()]
    (tmp_path / "list").write_text("".join(lines))
    script = f"{OWNERS.read_text()}\nset_key_owners {shlex.quote(str(tmp_path / 'list'))}"
    done = subprocess.run([*shell.split(), "-euc", script], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    for name in ("mode", "owner", "right"):
        path = tmp_path / name
        assert f"{path.stat().st_mode & 0o777:o} {path.owner()} {path.group()}" == keys[name]
    assert not (tmp_path / "missing").exists()
    assert (tmp_path / "other").owner() == "root"
    assert (tmp_path / "right").stat().st_ctime_ns == right
