# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live machines for the tests: a fleet of this run's own, gone at its end."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import pytest

from fleet import Fleet, FleetError, Kind, Machine
from fleet.fleet import fleets_directory
from integration.faults import tell
from integration.networks import Network
from integration.project import Project

__all__ = ["tell"]

_PREFIX = "pytest-"


class MachineFactory(Protocol):
    """Gives a test a machine that no test has changed yet."""

    def __call__(self, name: str = "target", **kind: Any) -> Machine: ...


class Deployed(Protocol):
    """Gives a test a network whose machines were deployed once, by ``network.deployed()``."""

    def __call__(self, *names: str, source: str = "") -> Network:
        """Return the network, in a project of its own.

        :param names: the machines, of the ordinary kind.
        :param source: more lines of the source.
        """


class Machines:
    """The machines of a fleet, which tests get as new; one that is as it was given out is not made anew.

    :param fleet: the fleet.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._given: dict[str, tuple[str | None, str]] = {}

    def fresh(self, name: str, kind: Kind, snapshot: str | None = None) -> Machine:
        """Return a machine that no test has changed.

        :param snapshot: what of its disk it starts from; None for the first system.
        """
        machine = self._fleet.machines.get(name)
        if machine is not None and machine.kind != kind:
            self._fleet.down(name)
            machine = None
        if machine is None:
            assert snapshot is None
            machine = self._fleet.up(name, kind)
        elif self._given.pop(name, None) != (snapshot, _traces(machine)):
            machine.reset(to=snapshot)
        self._given[name] = (snapshot, _traces(machine))
        return machine

    def keep(self, machine: Machine, snapshot: str) -> None:
        """Keep a machine's disk; the machine is off afterwards."""
        self._given.pop(machine.name, None)
        machine.snapshot(snapshot)


def _traces(machine: Machine) -> str:
    # The files of a store of its own are not seen.
    if machine.kind.store_mib is not None or machine.kind.wiped or machine.state() != "ready":
        return str(uuid.uuid4())
    try:
        return machine.traces()
    except FleetError:
        return str(uuid.uuid4())


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
def _machines(fleet: Fleet) -> Machines:
    return Machines(fleet)


@pytest.fixture(scope="session")
def machine(_machines: Machines) -> MachineFactory:
    """Makes fresh machines; the keywords are those of :class:`fleet.Kind`."""

    def fresh(name: str = "target", **kind: Any) -> Machine:
        return _machines.fresh(name, Kind(**kind))

    return fresh


@pytest.fixture(scope="session")
def deployed(_machines: Machines, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """Gives networks that were deployed once in this run, with the project as it was then.

    The project is always in the same directory: what is cached names files by their paths.
    """
    projects = tmp_path_factory.mktemp("deployed")
    snapshots: dict[str, str] = {}

    def start_from(*names: str, source: str = "") -> Network:
        key = hashlib.sha256(repr((names, source)).encode()).hexdigest()[:8]
        directory, kept = projects / key, projects / f"{key}-kept"
        shutil.rmtree(directory, ignore_errors=True)
        known = fleet.machines
        snapshot = snapshots.get(key)
        # A machine that has been of another kind meanwhile has none.
        if not all(name in known and snapshot in known[name].snapshots for name in names):
            snapshot = None
        if snapshot is not None:
            shutil.copytree(kept, directory, symlinks=True)
        else:
            shutil.rmtree(kept, ignore_errors=True)
            directory.mkdir()
        project = Project(directory)
        project.configure(fleet.directory / "ssh_config")
        machines = [_machines.fresh(name, Kind(), snapshot) for name in names]
        network = Network(project, *machines, source=source)
        if snapshot is not None:
            return network
        network.deployed()
        # Sockets of connections can't be copied, and lead to the machines before they were off.
        shutil.copytree(directory, kept, symlinks=True, ignore=shutil.ignore_patterns(".cp", ".results.jsonl"))
        snapshots[key] = f"{key}-{uuid.uuid4().hex[:8]}"
        for one in machines:
            _machines.keep(one, snapshots[key])
        return start_from(*names, source=source)

    return start_from


@pytest.fixture
def project(fleet: Fleet, tmp_path: Path) -> Project:
    """An empty directory of a user who can reach the fleet's machines by ssh."""
    project = Project(tmp_path)
    project.configure(fleet.directory / "ssh_config")
    return project
