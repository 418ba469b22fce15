# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet: machines with one network, one key pair and one directory."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import roots
from .host import FleetError, call, locked, require_host, write_private
from .machine import Kind, Machine
from .network import Network

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


def fleets_directory() -> Path:
    """:returns: where fleets live that were not given a directory of their own."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "nix-ops-fleet"


class Fleet:
    """Live machines that start in seconds and go without a trace.

    :param directory: where all of the fleet is kept; None for the fleet that users start by hand.
    :param number: the number that is in its addresses; None for one that no other fleet has.
    """

    def __init__(self, directory: Path | str | None = None, number: int | None = None) -> None:
        self._number = number
        self.directory = Path(directory).resolve() if directory is not None else fleets_directory() / "default"

    @property
    def ssh_config(self) -> Path:
        """A configuration of ssh in which all machines have their names."""
        return self.directory / "ssh_config"

    @property
    def machines(self) -> dict[str, Machine]:
        """The machines that there are, running or not."""
        papers = sorted(self.directory.glob("machines/*/machine.json"))
        return {paper.parent.name: Machine(paper.parent, self._network) for paper in papers}

    def up(self, name: str, kind: Kind | None = None, *, toplevel: Path | None = None) -> Machine:
        """Start one machine; see :meth:`up_all`."""
        return self.up_all({name: kind or Kind()}, toplevel=toplevel)[name]

    def up_all(self, kinds: Mapping[str, Kind], *, toplevel: Path | None = None) -> dict[str, Machine]:
        """Start machines together; one that runs already is left as it is.

        :param kinds: what to start, a jump host before what is behind it.
        :param toplevel: the first system, where it is not the fleet's own.
        :returns: the machines, up and reachable.
        :raises FleetError: when a machine exists and is of another kind, or does not come up.
        """
        require_host()
        with locked(self._lock):
            self._prepare()
            machines = {name: self._create(name, kind, toplevel) for name, kind in kinds.items()}
            self._write_ssh_files()
            for machine in machines.values():
                machine.start()
        with ThreadPoolExecutor() as together:
            list(together.map(lambda machine: machine.wait_up(), machines.values()))
        return machines

    def machine(self, name: str) -> Machine:
        """:returns: the machine of this name.
        :raises FleetError: when there is none.
        """
        machines = self.machines
        if name not in machines:
            raise FleetError(f"There is no machine {name!r}; there are: {', '.join(machines) or 'none'}.")
        return machines[name]

    def down(self, name: str) -> None:
        """Remove a machine and all that it left, also where its start was interrupted."""
        with locked(self._lock):
            self._remove(self.machine(name))
            self._write_ssh_files()

    def down_all(self) -> None:
        """Remove every machine, the network and the fleet's directory."""
        if not self.directory.exists():
            return
        with locked(self._lock):
            for machine in self.machines.values():
                self._remove(machine)
            self._network.remove()
            shutil.rmtree(self.directory)
        self._lock.unlink(missing_ok=True)

    @property
    def _lock(self) -> Path:
        return self.directory.with_name(f".{self.directory.name}.lock")

    @property
    def _network(self) -> Network:
        return Network.of(self.directory, self._number)

    def _prepare(self) -> None:
        network = self._network
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = self.directory / "id_ed25519"
        if not key.exists():
            call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "fleet", "-f", key])
        network.start()

    def _create(self, name: str, kind: Kind, toplevel: Path | None) -> Machine:
        machines = self.machines
        existing = machines.get(name)
        if existing is not None:
            if existing.kind != kind:
                raise FleetError(f"{name} exists and is of another kind: `fleet down {name}` first.")
            if existing.state() == "stopped":
                self._connect(existing)
            return existing
        if not _NAME.fullmatch(name):
            raise FleetError(f"A machine can't be called {name!r}: small letters, digits and dashes only.")
        toplevel = toplevel or roots.first_toplevel()
        layers = roots.provisioned(kind.debian, toplevel)
        taken = {machine.index for machine in machines.values()}
        index = next(number for number in range(240) if number not in taken)
        machine = Machine.create(self.directory / "machines" / name, index, self._network, kind, layers, toplevel)
        self._connect(machine)
        return machine

    def _connect(self, machine: Machine) -> None:
        jump = machine.kind.jump
        self._network.add_machine(machine.index, behind=None if jump is None else self.machine(jump).index)

    def _remove(self, machine: Machine) -> None:
        machine.stop()
        self._network.remove_machine(machine.index)
        shutil.rmtree(machine.directory)

    def _write_ssh_files(self) -> None:
        machines = self.machines.values()
        hosts = [f"{machine.address} {machine.host_public_key}\n" for machine in machines]
        write_private(self.directory / "known_hosts", "".join(hosts))
        write_private(self.ssh_config, "\n".join(map(_ssh_config_entry, machines)))


def _ssh_config_entry(machine: Machine) -> str:
    lines = [
        f"Host {machine.name} {machine.address}",
        f"HostName {machine.address}",
        f"Port {machine.port}",
        f"User {machine.user}",
        *(option.replace("=", " ", 1) for option in machine.ssh_args if option != "-o"),
    ]
    return "\n  ".join(lines) + "\n"
