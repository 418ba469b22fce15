# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads how a machine fares: its load, disks, clock and the units that are starting (checkup.sh)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Answer, Key

_LOAD = r"[0-9]{1,6}\.[0-9]{1,2}"
_SPACE = re.compile("[0-9]{1,18} [0-9]{1,18} [0-9]{1,18} /[ -~]{0,1024}")

SCHEMA = {
    "clock": Key(re.compile("[0-9]{1,12}"), required=True),
    "load": Key(re.compile(f"{_LOAD} {_LOAD} {_LOAD}"), required=True),
    "processors": Key(re.compile("[0-9]{1,5}"), required=True),
    "uptime": Key(re.compile("[0-9]{1,10}"), required=True),
    "disk": Key(_SPACE, most=1000),
    "inodes": Key(_SPACE, most=1000),
    "starting": Key(re.compile(answer.UNIT), most=10_000),
}


@dataclass(frozen=True)
class Disk:
    """A mounted file system.

    :param size: its size in KiB.
    :param available: what users can still write, in KiB.
    :param fill: how full it is, in percent, as ``df`` tells it: what is reserved for root counts as used.
    :param inode_fill: how many of its inodes are used, in percent; None if it has no fixed number of them.
    """

    mount: str
    size: int
    available: int
    fill: int
    inode_fill: int | None


@dataclass(frozen=True)
class Checkup:
    """How a machine fares.

    :param clock: its time in seconds since 1970.
    :param load: its load averages over 1, 5 and 15 minutes.
    :param uptime: the seconds since its boot.
    :param starting: the units that are starting or wait to be started again.
    """

    clock: int
    load: tuple[float, float, float]
    processors: int
    uptime: int
    disks: tuple[Disk, ...]
    starting: tuple[str, ...]


def read(told: Answer) -> Checkup:
    """Read the answer of checkup.sh."""
    one, five, fifteen = (float(word) for word in told.all("load")[0].split(" "))
    inodes = {mount: _fill(used, available) for mount, (total, used, available) in _spaces(told, "inodes") if total}
    disks = [
        Disk(mount, total, available, _fill(used, available), inodes.get(mount))
        for mount, (total, used, available) in _spaces(told, "disk")
        if total
    ]
    return Checkup(
        clock=int(told.all("clock")[0]),
        load=(one, five, fifteen),
        processors=int(told.all("processors")[0]),
        uptime=int(told.all("uptime")[0]),
        disks=tuple(sorted(disks, key=lambda disk: disk.mount)),
        starting=told.all("starting"),
    )


def _spaces(told: Answer, key: str) -> list[tuple[str, tuple[int, int, int]]]:
    found = []
    for line in told.all(key):
        total, used, available, mount = line.split(" ", 3)
        found.append((mount, (int(total), int(used), int(available))))
    return found


def _fill(used: int, available: int) -> int:
    """Return the percentage that is used, rounded up as ``df`` does it."""
    whole = used + available
    return -(-100 * used // whole) if whole else 100
