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

# What follows the functions changes this computer's /run/keys.
OWNERS = Path(sending.__file__).with_name("owners.sh").read_text().partition("[ -d /run/keys ]")[0]

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
        "mode": "root root 0440",
        "owner": "daemon daemon 0640",
        "missing": "root root 0600",
        "right": "root root 0600",
    }
    keys["link"] = "daemon daemon 0666"
    right = (tmp_path / "right").stat().st_ctime_ns
    script = [OWNERS, f"described=$(describe_keys {shlex.join(str(tmp_path / name) for name in keys)})"]
    script += [f"set_key_owner {shlex.quote(str(tmp_path / name))} {owner}" for name, owner in keys.items()]
    done = subprocess.run([*shell.split(), "-euc", "\n".join(script)], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    for name in ("mode", "owner", "right"):
        path = tmp_path / name
        assert f"{path.owner()} {path.group()} {path.stat().st_mode & 0o777:04o}" == keys[name]
    assert not (tmp_path / "missing").exists()
    assert (tmp_path / "other").owner() == "root"
    assert (tmp_path / "right").stat().st_ctime_ns == right
