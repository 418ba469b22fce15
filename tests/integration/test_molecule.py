# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios of molecule: its own machines, its own playbooks, and what testinfra sees on the machines."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import Fleet
from integration.project import BIN

CHECKOUT = Path(__file__).parents[2]
SCENARIOS = CHECKOUT / "extensions/molecule"
MACHINES = 2
TESTS = 8


@pytest.fixture
def ephemeral(tmp_path: Path) -> Iterator[Path]:
    """Where molecule keeps what a run needs; no machine outlives it."""
    directory = tmp_path / "molecule"
    # What is built is linked beside the scenario, which the tests of the other pair have as well.
    with SCENARIOS.joinpath("config.yml").open() as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        try:
            yield directory
        finally:
            Fleet(directory / "fleet").down_all()
            for built in SCENARIOS.glob("*/.nix-ops"):
                shutil.rmtree(built)


@pytest.mark.parametrize("scenario", sorted(file.parent.name for file in SCENARIOS.glob("*/molecule.yml")))
def test_scenario(ephemeral: Path, scenario: str) -> None:
    state = ephemeral.with_name("state-of-the-user")
    done = subprocess.run(
        [BIN / "molecule", "test", "--no-command-borders", "-s", scenario],
        cwd=CHECKOUT,
        env={
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "ANSIBLE_HOME": str(ephemeral.with_name("ansible-home")),
            "MOLECULE_EPHEMERAL_DIRECTORY": str(ephemeral),
            "NO_COLOR": "1",
            "XDG_STATE_HOME": str(state),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    # Molecule is content with a step that finds nothing to do.
    actions = re.findall(rf"{scenario} > (\w+): Executed: Successful", done.stdout.partition("DETAILS")[2])
    assert actions == ["destroy", "create", "converge", "idempotence", "verify", "destroy"]
    assert re.search(rf"=+ {MACHINES * TESTS} passed in ", done.stdout), done.stdout

    assert not (SCENARIOS / scenario / ".nix-ops").exists()
    assert not state.exists()
    kept = {path.name for path in ephemeral.iterdir()}
    assert kept <= {"ansible.cfg", "inventory", "state.yml"}, "machines, keys and facts are gone"
