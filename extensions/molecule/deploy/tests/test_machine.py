# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each machine, as it is seen on the machine itself; none of this needs Python there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from testinfra.host import Host


@pytest.fixture
def toplevel(host: Host) -> str:
    """What was built for the machine."""
    link = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"], ".nix-ops/toplevels/site", host.backend.host)
    return str(link.resolve(strict=True))


def test_the_toplevel_runs_and_is_the_profile(host: Host, toplevel: str) -> None:
    assert host.file("/run/current-system").linked_to == toplevel
    assert host.file("/nix/var/nix/profiles/system").linked_to == toplevel


def test_the_toplevel_boots_by_default(host: Host, toplevel: str) -> None:
    words = host.file("/boot/loader/loader.conf").content_string.split()
    entry = words[words.index("default") + 1]
    assert f"init={toplevel}/init" in host.file(f"/boot/loader/entries/{entry}").content_string.split()


def test_the_unit_runs(host: Host) -> None:
    assert host.service("clock").is_running


def test_the_machine_is_the_one_that_was_meant(host: Host) -> None:
    assert host.file("/etc/role").content_string == host.backend.host


def test_nothing_of_the_activation_is_left(host: Host) -> None:
    assert host.check_output("find /run -maxdepth 1 -name 'nix-ops*'") == ""


def test_none_of_this_needed_python(host: Host) -> None:
    assert not host.exists("python3")
