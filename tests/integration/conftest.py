# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live machines for the tests: a fleet of this run's own, gone at its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from fleet import Fleet, Kind, Machine
from fleet.fleet import fleets_directory
from integration.faults import tell
from integration.project import Project

__all__ = ["tell"]

_PREFIX = "pytest-"


class MachineFactory(Protocol):
    """Gives a test a machine that no test has touched yet."""

    def __call__(self, name: str = "target", **kind: Any) -> Machine: ...


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """The fleet of this run."""
    for stale in fleets_directory().glob(f"{_PREFIX}*"):
        # What a run that was killed could not remove itself.
        if not Path("/proc", stale.name.removeprefix(_PREFIX).partition("-")[0]).exists():
            # Another run may be removing it as well.
            with suppress(FileNotFoundError):
                Fleet(stale).down_all()
    fleet = Fleet(fleets_directory() / f"{_PREFIX}{os.getpid()}")
    try:
        yield fleet
    finally:
        fleet.down_all()


@pytest.fixture(scope="session")
def machine(fleet: Fleet) -> MachineFactory:
    """Makes fresh machines; the keywords are those of :class:`fleet.Kind`."""

    def fresh(name: str = "target", **kind: Any) -> Machine:
        wanted = Kind(**kind)
        existing = fleet.machines.get(name)
        if existing is not None and existing.kind == wanted:
            existing.reset()
            return existing
        if existing is not None:
            fleet.down(name)
        return fleet.up(name, wanted)

    return fresh


@pytest.fixture
def project(fleet: Fleet, tmp_path: Path) -> Project:
    """An empty directory of a user who can reach the fleet's machines by ssh."""
    project = Project(tmp_path)
    project.configure(fleet.directory / "ssh_config")
    return project
