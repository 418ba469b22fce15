# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges whether machines are up and well, as ``nixops check`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Seen, State, Status
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.table import Align, Column, table
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, first_line
from ansible_collections.nix.ops.plugins.plugin_utils.machine.checkup import Checkup, Disk
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Description


class Problem(StrEnum):
    """What can be wrong with a machine."""

    MISSING = "missing"
    DOWN = "down"
    UNREACHABLE = "unreachable"
    DISKS = "disks"
    UNITS = "units"
    ACTIVATING = "activating"
    DRIFT = "drift"
    KEYS = "keys"
    REBOOT = "reboot"
    CLOCK = "clock"
    HOST_KEY = "host_key"


_COLUMNS = (
    Column("Name"),
    Column("Exists", Align.CENTRE),
    Column("Up", Align.CENTRE),
    Column("Reachable", Align.CENTRE),
    Column("Disks OK", Align.CENTRE),
    Column("Load avg."),
    Column("Units"),
    Column("Notes"),
)


@dataclass(frozen=True)
class Limits:
    """From where on something is a problem.

    :param fill: the percentage of a disk's space or inodes that may be used.
    :param clock: the seconds that a clock may be off.
    """

    fill: int
    clock: int

    def check(self) -> None:
        """Check the limits.

        :raises OpsError: if one is not valid.
        """
        if not 0 < self.fill <= 100:
            raise OpsError(f"disk_fill is {self.fill}, and has to be from 1 to 100", next_step="Correct 'disk_fill'.")
        if self.clock < 0:
            raise OpsError("clock_tolerance is less than 0", next_step="Correct 'clock_tolerance'.")


def clock_off(clock: int, began: float, ended: float) -> int:
    """Return by how many seconds a machine's clock is ahead of this one; less than 0 if it is behind.

    :param clock: what the machine answered, in whole seconds since 1970.
    :param began: when it was asked.
    :param ended: when its answer had come.
    """
    if clock < int(began):
        return clock - int(began)
    return max(0, clock - int(ended))


def of_answer(
    found: Description, state: State | None, limits: Limits, *, off: int, host_key: str | None
) -> dict[str, Any]:
    """Return the result for a machine that has answered.

    :param state: what is remembered of it; None if it is not of a deployment, or was never deployed.
    :param off: how far its clock is off (:func:`clock_off`).
    :param host_key: ``known`` or ``unchecked``; None for a connection without host keys.
    """
    if found.checkup is None:
        raise ValueError("the machine was not asked for a checkup")
    checkup, standing = found.checkup, found.standing
    status = _status(found, state)
    stays = state.stays if state else None
    boots_next = status is Status.BOOTS_ANOTHER and stays is not None and stays.action == "boot"
    drifted = status in (Status.OUTDATED, Status.DRIFTED, Status.BOOTS_ANOTHER) and not boots_next
    full = [disk for disk in checkup.disks if _is_full(disk, limits)]
    problems = {
        Problem.DISKS: bool(full),
        Problem.UNITS: bool(standing.failed_units),
        Problem.ACTIVATING: found.activating or standing.on_trial,
        Problem.DRIFT: drifted,
        Problem.KEYS: bool(found.missing_keys),
        Problem.REBOOT: bool(standing.reboot_parts) or boots_next,
        Problem.CLOCK: abs(off) > limits.clock,
        Problem.HOST_KEY: host_key == "unchecked",
    }
    return {
        **_judged(exists=True, up=True, reachable=True, disks_ok=not full, problems=problems),
        "host_key": host_key,
        "running": standing.running,
        "boots": standing.boot_default or standing.profile,
        "deployed": stays.toplevel if stays else None,
        "drifted": drifted if stays else None,
        "failed_units": list(standing.failed_units),
        "missing_keys": list(found.missing_keys),
        "activating": found.activating,
        "reboot_needed": problems[Problem.REBOOT],
        "reboot_parts": list(standing.reboot_parts),
        "clock_off": off,
        **_as_json(checkup),
        "notes": [*_notes_of_disks(full, limits), *_notes(found, stays.toplevel if stays else None, problems, off)],
    }


def of_silence(*, exists: bool | None, up: bool, host_key: str | None = None, why: str | None = None) -> dict[str, Any]:
    """Return the result for a machine that has given no answer.

    :param exists: whether the machine was deployed once; None if it is not of a deployment.
    :param up: whether its SSH server has answered.
    :param host_key: ``unknown``, ``changed`` or ``revoked`` if ssh refuses its host key.
    :param why: what failed, as a note.
    """
    problems = {
        Problem.MISSING: exists is False and not up,
        Problem.DOWN: not up,
        Problem.UNREACHABLE: True,
        Problem.HOST_KEY: host_key is not None,
    }
    found = _judged(exists=up or exists, up=up, reachable=False, disks_ok=None, problems=problems)
    return {**found, "host_key": host_key, "notes": [why] if why else []}


def report(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the machines of a run as plain values, and the bits of all together.

    :param found: the result of ``nix.ops.nixos_check`` for each host.
    """
    machines = [{"name": host, **_without_ansible(result)} for host, result in found.items() if "problems" in result]
    status = 0
    for machine in machines:
        status |= machine["status"]
    return {"status": status, "machines": machines}


def as_text(report: Mapping[str, Any]) -> str:
    """Return a report as the table of NixOps."""
    return table(_COLUMNS, [_row(machine) for machine in report["machines"]])


def wrong(report: Mapping[str, Any], reasons: Sequence[str]) -> list[str]:
    """Return a line for each machine that has one of these problems; ``any`` stands for all of them."""
    found = []
    for machine in report["machines"]:
        if there := [one for one in machine["problems"] if one in reasons or "any" in reasons]:
            found.append(f"{machine['name']}: {', '.join(there)}")
    return found


def unchecked(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each host whose check itself has failed, for example for an option that is not valid."""
    return [
        f"{host}: {first_line(result.get('msg') or 'it was not asked')}"
        for host, result in found.items()
        if "problems" not in result
    ]


def _status(found: Description, state: State | None) -> Status | None:
    """Compare a machine with its last deploy; return None if it was never deployed, or is being deployed."""
    stays = state.stays if state else None
    if stays is None or found.activating:
        return None
    standing = found.standing
    boots = standing.boot_default or (None if standing.boot_unfinished else standing.profile)
    seen = Seen(standing.running, boots, standing.boot_unfinished, standing.on_trial)
    return states.status(state, seen, wanted=stays.toplevel)


def _is_full(disk: Disk, limits: Limits) -> bool:
    return disk.fill > limits.fill or (disk.inode_fill or 0) > limits.fill


def _judged(
    *,
    exists: bool | None,
    up: bool,
    reachable: bool,
    disks_ok: bool | None,
    problems: Mapping[Problem, bool],
) -> dict[str, Any]:
    # The bits of nixops check: a machine that is down does not count as unreachable too.
    status = (exists is False) + 2 * (exists is not False and not up) + 4 * (up and not reachable)
    status += 8 * (disks_ok is False) + 16 * problems.get(Problem.UNITS, False)
    return {
        "exists": exists,
        "up": up,
        "reachable": reachable,
        "disks_ok": disks_ok,
        "status": int(status),
        "problems": [str(problem) for problem, is_there in problems.items() if is_there],
    }


def _as_json(checkup: Checkup) -> dict[str, Any]:
    return {
        "load": list(checkup.load),
        "processors": checkup.processors,
        "uptime": checkup.uptime,
        "disks": [asdict(disk) for disk in checkup.disks],
        "starting_units": list(checkup.starting),
    }


def _notes_of_disks(full: Sequence[Disk], limits: Limits) -> list[str]:
    notes = []
    for disk in full:
        if disk.fill > limits.fill:
            notes.append(f"{disk.mount} is {disk.fill} % full, {_amount(disk.available)} left")
        if (disk.inode_fill or 0) > limits.fill:
            notes.append(f"{disk.inode_fill} % of the inodes of {disk.mount} are used")
    return notes


def _amount(kib: int) -> str:
    amount = float(kib)
    for unit in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def _notes(found: Description, deployed: str | None, problems: Mapping[Problem, bool], off: int) -> list[str]:
    standing = found.standing
    parts = ", ".join(standing.reboot_parts)
    # Two notes for a drift: each names a long path.
    notes = {
        Problem.ACTIVATING: "an activation is at work" if found.activating else "waits to be reached after its boot",
        Problem.DRIFT: f"{standing.sentence()}\ndeployed was {deployed}",
        Problem.KEYS: f"lacks keys: {', '.join(found.missing_keys)}",
        Problem.REBOOT: f"needs a reboot{f' for {parts}' if parts else ''}",
        Problem.CLOCK: f"its clock is {abs(off)} s {'ahead' if off > 0 else 'behind'}",
        Problem.HOST_KEY: "its host key is not checked",
    }
    return [line for problem, note in notes.items() if problems[problem] for line in note.split("\n")]


def _without_ansible(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result without what Ansible adds."""
    added = ("changed", "failed", "unreachable", "msg", "warnings", "deprecations", "exception", "exit_code")
    return {name: value for name, value in result.items() if name not in added and not name.startswith("_")}


def _row(machine: Mapping[str, Any]) -> list[str]:
    units = [f"{unit} [failed]" for unit in machine.get("failed_units", ())]
    units += [f"{unit} [running]" for unit in machine.get("starting_units", ())]
    is_known_down = machine["up"] is False
    return [
        machine["name"],
        _yes(machine["exists"]),
        _yes(machine["up"]),
        _yes(None if is_known_down else machine["reachable"]),
        _yes(machine["disks_ok"]),
        " ".join(f"{one:.2f}" for one in machine.get("load", ())),
        "\n".join(units),
        "\n".join(machine["notes"]),
    ]


def _yes(value: bool | None) -> str:
    """Return a word for what may not be known, as NixOps has them."""
    return "N/A" if value is None else "Yes" if value else "No"
