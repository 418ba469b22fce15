# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios of molecule: its own machines, its own playbooks, and what testinfra sees on the machines."""

from __future__ import annotations

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
SCENARIO = CHECKOUT / "extensions/molecule/deploy"


@pytest.fixture
def ephemeral(tmp_path: Path) -> Iterator[Path]:
    """Where molecule keeps what a run needs; no machine outlives it."""
    directory = tmp_path / "molecule"
    try:
        yield directory
    finally:
        Fleet(directory / "fleet").down_all()
        shutil.rmtree(SCENARIO / ".nix-ops", ignore_errors=True)


def test_the_deploy_scenario(ephemeral: Path) -> None:
    done = subprocess.run(
        [BIN / "molecule", "test", "--no-command-borders", "-s", "deploy"],
        cwd=CHECKOUT,
        env={
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "ANSIBLE_HOME": str(ephemeral.with_name("ansible-home")),
            "MOLECULE_EPHEMERAL_DIRECTORY": str(ephemeral),
            "NO_COLOR": "1",
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
    actions = re.findall(r"deploy > (\w+): Executed: Successful", done.stdout.partition("DETAILS")[2])
    assert actions == ["destroy", "create", "converge", "idempotence", "verify", "destroy"]
    assert re.search(r"\b12 passed\b", done.stdout)
    assert not (ephemeral / "fleet").exists()
    assert not (SCENARIO / ".nix-ops").exists()
