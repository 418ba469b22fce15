# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the activation job and the boot guard share: commands that hang are ended."""

from __future__ import annotations

import subprocess
import time

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import script

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"]]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("5 sh -c 'exit 7'", 7),
        ("5 true", 0),
        ("5 /nowhere", 127),
        ("1 sleep 30", 124),
        # As a program that was out of memory.
        ("5 sh -c 'kill -KILL $$'", 137),
    ],
)
def test_a_command_that_hangs_is_ended(shell: list[str], words: str, code: int) -> None:
    begun = time.monotonic()
    # The scripts of NixOS units begin like this.
    text = "\n".join(["set -e", script("activation/shared"), f"code=0; within {words} || code=$?; exit $code"])
    assert subprocess.run([*shell, "-c", text], check=False, stderr=subprocess.DEVNULL).returncode == code
    assert time.monotonic() - begun < 4
