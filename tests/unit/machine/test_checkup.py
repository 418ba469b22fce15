# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a machine fares, by its answer; and the script that asks for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer, checkup
from ansible_collections.nix.ops.plugins.plugin_utils.machine.checkup import Disk
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import script

ANSWER = """clock 1767225600
load 0.08 0.03 0.01
processors 2
uptime 86400
disk 1000 500 500 /
disk 0 0 0 /proc/fs
disk 300 100 100 /srv/with blanks
inodes 100 10 90 /
inodes 0 0 0 /srv/with blanks
starting web.service
"""

DF = r"""#!/bin/sh
cat <<'END'
Filesystem     Type     1024-blocks    Used Available Capacity Mounted on
/dev/vda1      ext4         1000 500 500      50% /
none           overlay      1000 500 500      50% /
none           overlay      1000 500 500      50% /var/lib/docker/overlay2/a/merged
/dev/loop0     squashfs     1000 1000 0      100% /snap/a
tmpfs          tmpfs        1000 1 999      1% /run
tmpfs          tmpfs        1000 1000 0      100% /run/user/0
proc           proc            - - -      - /proc
/dev/vdb       btrfs        1000 10 990      1% /srv/with blanks
/dev/vdc       ext4         1000 10 990      1% /srv/f\374r
END
"""


def read(text: str) -> checkup.Checkup:
    return checkup.read(answer.read(text, checkup.SCHEMA, "target"))


def test_a_machine_tells_how_it_fares() -> None:
    found = read(ANSWER)
    assert (found.clock, found.load, found.processors, found.uptime) == (1767225600, (0.08, 0.03, 0.01), 2, 86400)
    assert found.disks == (Disk("/", 1000, 500, 50, 10), Disk("/srv/with blanks", 300, 100, 50, None))
    assert found.starting == ("web.service",)


@pytest.mark.parametrize(
    ("line", "forged"),
    [
        ("clock 1767225600", "clock now"),
        ("load 0.08 0.03 0.01", "load 0.08 0.03 nan"),
        ("disk 1000 500 500 /", "disk 1000 500 500 relative"),
        ("disk 1000 500 500 /", "disk 1000 -5 500 /"),
        ("starting web.service", "starting \x1b[2K"),
        ("uptime 86400\n", ""),
    ],
)
def test_an_answer_that_could_be_more_than_data_is_refused(line: str, forged: str) -> None:
    assert line in ANSWER
    with pytest.raises(OpsError, match="not valid"):
        read(ANSWER.replace(line, forged))


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_the_script_tells_of_disks_that_matter(shell: str, tmp_path: Path) -> None:
    df = tmp_path / "df"
    df.write_bytes(DF.encode().replace(rb"\374", b"\374"))
    df.chmod(0o755)
    done = subprocess.run(
        [shell, "-c", script("machine/checkup") + "print_checkup"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [disk.mount for disk in read(done.stdout).disks] == ["/", "/", "/run", "/srv/fr", "/srv/with blanks"]
