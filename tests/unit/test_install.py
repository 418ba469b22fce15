# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of the role install, with a stand-in of nix-channel."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "roles/install/files/nixpkgs.sh"
NIX_CHANNEL = """\
#!/bin/sh
case $1 in
    --list) cat "$HOME/channels" ;;
    --add) echo "$3 $2" >"$HOME/channels" ;;
    --remove) echo removed >>"$HOME/removed"; : >"$HOME/channels" ;;
    --update) exit 1 ;;
esac
"""


@pytest.mark.parametrize("before", ["nixpkgs https://channels.nixos.org/nixos-25.05\n", ""])
def test_a_channel_that_can_not_be_fetched_leaves_the_earlier_one(tmp_path: Path, before: str) -> None:
    (tmp_path / "channels").write_text(before)
    program = tmp_path / "nix-channel"
    program.write_text(NIX_CHANNEL)
    program.chmod(0o755)
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", str(SCRIPT), "set", "nixos-25.50"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "nixos-25.50 can't be fetched" in done.stderr
    assert (tmp_path / "channels").read_text() == before
    assert (tmp_path / "removed").exists() == (not before)
