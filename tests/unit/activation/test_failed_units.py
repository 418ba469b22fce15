# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which failed units count: those that the old or the new system names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import script

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"]]

# systemd knows a unit that it has made of the file system table, and one that it has not.
SYSTEMCTL = """
systemctl() {
    case $* in
        *"-- data.mount") echo /run/systemd/generator/data.mount ;;
        *"-- forged.mount") echo /run/user/1001/systemd/generator/forged.mount ;;
        *) echo ;;
    esac
}
"""

OWN = {
    "web.service",
    "gone.service",
    "no\\x2dgood.service",
    "late@linked.service",
    "late@required.service",
    "late@upheld.service",
    "late@wanted.service",
    "late@bound.service",
    "late@overridden.service",
    "data.mount",
}
FOREIGN = {
    "user@1001.service",
    "user-runtime-dir@1001.service",
    "late@.service.d",
    "late@other.service",
    "late@wanted.servic",
    "ate@wanted.service",
    "late@after.service",
    "run-u1.service",
    "session-3.scope",
    "forged.mount",
    "webXservice",
}


@pytest.fixture
def systems(tmp_path: Path) -> list[str]:
    """An old and a new system."""
    old, new = (tmp_path / name / "etc/systemd/system" for name in ("old", "new"))
    for directory in (old, new / "multi-user.target.wants", new / "web.service.requires", new / "web.service.upholds"):
        directory.mkdir(parents=True)
    (old / "gone.service").write_text("[Unit]\n")
    (new / "web.service").write_text(
        "[Unit]\nAfter=late@after.service\nWants=one.service late@wanted.service\nBindsTo=late@bound.service\n"
    )
    (new / "no\\x2dgood.service").write_text("[Unit]\n")
    (new / "late@.service").write_text("[Unit]\n")
    (new / "user@.service").symlink_to("/nowhere/user@.service")
    (new / "multi-user.target.wants/late@linked.service").symlink_to("../late@.service")
    (new / "web.service.requires/late@required.service").symlink_to("/nowhere")
    (new / "web.service.upholds/late@upheld.service").symlink_to("../late@.service")
    (new / "web.service.d").mkdir()
    (new / "web.service.d/overrides.conf").write_text("[Unit]\nRequires=late@overridden.service\n")
    return [str(tmp_path / "old"), str(tmp_path / "new")]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_a_failed_unit_counts_if_a_system_names_it(systems: list[str], shell: list[str]) -> None:
    text = "\n".join([script("activation/failed_units"), SYSTEMCTL, 'sort_units "$@"'])
    failed = "".join(f"{unit}\n" for unit in sorted(OWN | FOREIGN))
    done = subprocess.run(
        [*shell, "-c", text, "sh", *systems], input=failed, capture_output=True, text=True, check=True
    )
    told = [line.split(" ") for line in done.stdout.splitlines()]
    assert {unit for kind, unit in told if kind == "own"} == OWN
    assert {unit for kind, unit in told if kind == "foreign"} == FOREIGN
