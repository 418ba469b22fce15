# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bridges, addresses and network namespaces; several fleets at once do not collide.

Every name carries the fleet's number, so that what an interrupted start left behind is found again.
The machines behind a jump host share a bridge in a namespace of its own, without an address of the
host's: only through the jump host's second link are they reached.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .host import FleetError, call

# Which fleet has which number: links named by the number, to the fleets' directories.
_REGISTRY = Path("/run/nix-ops-fleet")
# Those above are given to who asks for them: an example can then say an address.
_NUMBERS = range(240)
_HIGHEST = 254
_FIRST_HOST = 10


@dataclass(frozen=True)
class Network:
    """The links of one fleet.

    :param number: the fleet's own number on this computer.
    """

    number: int

    def __post_init__(self) -> None:
        if not 0 <= self.number <= _HIGHEST:
            raise FleetError(f"A fleet's number is part of addresses: 0 to {_HIGHEST}, and not {self.number}.")

    @property
    def bridge(self) -> str:
        """The bridge on the host's side."""
        return f"nof{self.number}"

    @property
    def hidden(self) -> str:
        """The namespace of the bridge that only jump hosts reach."""
        return f"nof{self.number}-hidden"

    def namespace(self, index: int) -> str:
        """The network namespace of a machine."""
        return f"nof{self.number}-m{index}"

    def link(self, index: int) -> str:
        """The bridge's end of a machine's link."""
        return f"nof{self.number}m{index}"

    def address(self, index: int, *, behind: bool) -> str:
        """The address of a machine: a range that is set aside for tests, and routed nowhere."""
        return f"198.{19 if behind else 18}.{self.number}.{_FIRST_HOST + index}"

    @classmethod
    def of(cls, fleet: Path, number: int | None = None) -> Network:
        """Find or make the network of the fleet in this directory.

        :param number: the number it shall have; None for any that no other fleet has.
        :raises FleetError: when another fleet has that number, or this fleet another number.
        """
        for existing, owner in cls.owners().items():
            if owner == fleet and number not in (None, existing):
                raise FleetError(f"This fleet has the number {existing}: `fleet down --all` first.")
            if owner == fleet:
                return cls(existing)
        _REGISTRY.mkdir(exist_ok=True)
        for network in map(cls, _NUMBERS if number is None else (number,)):
            try:
                (_REGISTRY / str(network.number)).symlink_to(fleet)
            except FileExistsError:
                continue
            return network
        if number is not None:
            raise FleetError(f"The number {number} is taken, by the fleet in {cls.owners().get(number)}.")
        raise FleetError(f"There are {len(_NUMBERS)} fleets on this computer: see {_REGISTRY}.")

    @staticmethod
    def owners() -> dict[int, Path]:
        """:returns: the directories of this computer's fleets by their numbers."""
        return {int(link.name): link.readlink() for link in _REGISTRY.glob("*")}

    def start(self) -> None:
        """Make the bridge, where it is not there."""
        add = ["ip", "link", "add", self.bridge, "address", self._hardware_address(255), "type", "bridge"]
        if call(add, check=False).returncode == 0:
            _ip("address", "add", f"198.18.{self.number}.1/24", "dev", self.bridge)
            _ip("link", "set", self.bridge, "up")

    def add_machine(self, index: int, *, behind: int | None) -> None:
        """Make a machine's namespace and link, from nothing.

        :param behind: the index of the jump host; None for a machine on the host's own bridge.
        """
        self.remove_machine(index)
        namespace = self.namespace(index)
        _ip("netns", "add", namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
        if behind is None:
            self._plug(index, namespace, "eth0", f"{self.address(index, behind=False)}/24", None)
            _ip("-n", namespace, "route", "add", "default", "via", f"198.18.{self.number}.1")
        else:
            self._make_hidden()
            if call(["ip", "-n", self.namespace(behind), "link", "show", "eth1"], check=False).returncode != 0:
                address = f"{self.address(behind, behind=True)}/24"
                self._plug(behind, self.namespace(behind), "eth1", address, self.hidden)
            self._plug(index, namespace, "eth0", f"{self.address(index, behind=True)}/24", self.hidden)

    def set_link(self, index: int, state: str, *, behind: bool) -> None:
        """Take a machine's link up or down."""
        where = ("-n", self.hidden) if behind else ()
        _ip(*where, "link", "set", self.link(index), state)

    def remove_machine(self, index: int) -> None:
        """Remove a machine's namespace and links, whatever there is of them."""
        call(["ip", "link", "del", self.link(index)], check=False)
        call(["ip", "-n", self.hidden, "link", "del", self.link(index)], check=False)
        call(["ip", "netns", "del", self.namespace(index)], check=False)

    def remove(self) -> None:
        """Remove the bridges, and give the number back."""
        call(["ip", "link", "del", self.bridge], check=False)
        call(["ip", "netns", "del", self.hidden], check=False)
        (_REGISTRY / str(self.number)).unlink(missing_ok=True)
        with suppress(OSError):
            _REGISTRY.rmdir()

    def _hardware_address(self, index: int) -> str:
        # Always the same: who has talked to an address goes on with what it resolved to for half a minute.
        return f"02:6e:6f:70:{self.number:02x}:{index:02x}"

    def _make_hidden(self) -> None:
        if call(["ip", "netns", "add", self.hidden], check=False).returncode == 0:
            _ip("-n", self.hidden, "link", "add", "bridge", "type", "bridge")
            _ip("-n", self.hidden, "link", "set", "bridge", "up")

    def _plug(self, index: int, namespace: str, inner: str, address: str, hidden: str | None) -> None:
        where = () if hidden is None else ("-n", hidden)
        bridge = self.bridge if hidden is None else "bridge"
        outer = self.link(index)
        peer = ("peer", "name", inner, "address", self._hardware_address(index), "netns", namespace)
        _ip(*where, "link", "add", outer, "type", "veth", *peer)
        _ip(*where, "link", "set", outer, "master", bridge, "up")
        _ip("-n", namespace, "address", "add", address, "dev", inner)
        _ip("-n", namespace, "link", "set", inner, "up")


def _ip(*words: str) -> None:
    call(["ip", *words])
