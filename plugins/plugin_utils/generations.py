# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a NixOS machine runs, boots and has kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import SYSTEM_PROFILE
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import Machine, facts

_PROFILE = re.compile(r"/nix/var/nix/profiles/(?:[A-Za-z0-9_][A-Za-z0-9+._-]*/)*[A-Za-z0-9_][A-Za-z0-9+._-]*")

_PARTS_THAT_NEED_A_REBOOT = ("kernel", "initrd", "kernel-modules", "systemd")


def check_profile(profile: str) -> None:
    """Refuse what is no profile.

    :raises OpsError: naming the value.
    """
    if not _PROFILE.fullmatch(profile):
        raise OpsError(
            f"{profile!r} is no profile", next_step="Give a path below /nix/var/nix/profiles, or leave it out."
        )


@dataclass(frozen=True)
class Standing:
    """What runs on a machine and what boots.

    :param running: the toplevel that runs.
    :param booted: the toplevel that was booted.
    :param profile: the toplevel that the system profile names.
    :param generation: the number the profile stands at.
    :param boot_default: the toplevel that the boot menu starts by itself; None where the menu
        can't be read.
    :param boot_unfinished: whether the profile was set and its boot entry has not been written since.
    :param failed_units: the units that are in the state ``failed``.
    :param boot_id: tells one boot from another.
    :param reboot_parts: the parts of the booted system that differ from the profile's and only
        a reboot replaces.
    :param trial: the toplevel that boots back unless someone gets in once it has been booted; None where there is none.
    """

    running: str | None
    booted: str | None
    profile: str | None
    generation: int | None
    boot_default: str | None
    boot_unfinished: bool = False
    failed_units: tuple[str, ...] = ()
    boot_id: str | None = None
    reboot_parts: tuple[str, ...] = ()
    trial: str | None = None

    @property
    def on_trial(self) -> bool:
        """Whether the running system boots back unless someone gets in."""
        return self.trial is not None and self.trial == self.running

    def stands_at(self, toplevel: str, action: str) -> bool:
        """Whether an action of ``switch-to-configuration`` with this toplevel has nothing to do."""
        runs = self.running == toplevel
        boots = self.profile == toplevel and self.boot_default in (toplevel, None) and not self.boot_unfinished
        return {"switch": runs and boots, "boot": boots, "test": runs}.get(action, False)

    def sentence(self) -> str:
        """What runs and what boots, in words."""
        return f"runs {self.running or 'an unknown system'}, {self._boots()}"

    def _boots(self) -> str:
        if self.boot_default:
            return f"boots {self.boot_default}"
        written = "was not written" if self.boot_unfinished else "was written when it was set"
        return (
            f"its boot menu can't be read; the entry of its profile, {self.profile or 'an unknown system'}, {written}"
        )


@dataclass(frozen=True)
class Generation:
    """A numbered link of the system profile.

    :param created: when it was made, in seconds since 1970.
    """

    number: int
    toplevel: str
    created: int


@dataclass(frozen=True)
class Description:
    """A NixOS machine.

    :param closure: the store paths of the running system; empty where not asked for.
    :param units: the running system's unit files and the store paths they lead to; likewise.
    :param booted_parts: the store paths of those parts of the booted system that only a reboot replaces.
    :param release: the NixOS release that runs, such as ``24.05``; None where that can't be told.
    :param record: the machine's own record as it printed it; None where there is none or not asked for.
    :param last_activation: how the last activation ended, likewise.
    :param activating: whether one is at work.
    """

    standing: Standing
    nixos_version: str | None
    system_state: str | None
    has_nix: bool
    generations: tuple[Generation, ...]
    closure: tuple[str, ...]
    units: Mapping[str, str]
    booted_parts: Mapping[str, str]
    release: str | None
    record: str | None
    last_activation: str | None
    activating: bool


def standing(answer: Mapping[str, list[str]]) -> Standing:
    """Read the lines that every script prints about what runs and boots."""
    generation = _one(answer, "generation")
    return Standing(
        running=_one(answer, "running"),
        booted=_one(answer, "booted"),
        profile=_one(answer, "profile"),
        generation=int(generation) if generation else None,
        boot_default=_one(answer, "boot_default"),
        boot_unfinished="boot_unfinished" in answer,
        failed_units=tuple(answer.get("failed", [])),
        boot_id=_one(answer, "boot_id"),
        reboot_parts=tuple(_changed_parts(answer)),
        trial=_one(answer, "trial"),
    )


def standing_of(found: Mapping[str, Any]) -> Standing | None:
    """Read what :func:`as_json` wrote of what runs and boots; None where that is not all there."""
    names = {one.name for one in fields(Standing)}
    if not names <= found.keys():
        return None
    known = {name: found[name] for name in names}
    lists = {name: tuple(known[name]) for name in ("failed_units", "reboot_parts")}
    return Standing(**{**known, **lists})


def describe(
    machine: Machine,
    *,
    profile: str = SYSTEM_PROFILE,
    closure: bool = False,
    units: bool = False,
    record: str | None = None,
) -> Description:
    """Ask a machine what it runs, in one round trip. Nothing on it is changed.

    :param closure: ask for all store paths of the running system too.
    :param units: ask for its unit files too.
    :param record: ask for its own record of the deployment with this UUID too.
    :raises OpsError: where the machine can't tell.
    """
    words = {"closure": closure, "units": units, f"record={record}": record}
    wanted = [word for word, asked in words.items() if asked]
    answer = facts(machine.ask("describe", profile, *wanted))
    return Description(
        standing=standing(answer),
        nixos_version=_one(answer, "nixos_version"),
        system_state=_one(answer, "system_state"),
        has_nix=bool(_one(answer, "nix_store")),
        generations=tuple(
            sorted((_generation(line) for line in answer.get("generation_entry", [])), key=lambda found: found.number)
        ),
        closure=tuple(answer.get("closure", [])),
        units=dict(_pair(line) for line in answer.get("unit", [])),
        booted_parts={name: booted for name, (booted, _profile) in _parts(answer).items() if booted},
        release=_one(answer, "release"),
        record=_one(answer, "record"),
        last_activation=_one(answer, "last_activation"),
        activating="activating" in answer,
    )


def as_json(found: Description) -> dict[str, Any]:
    """What a machine runs and boots, as the plain values that modules return."""
    return {
        **asdict(found.standing),
        "nixos_version": found.nixos_version,
        "system_state": found.system_state,
        "has_nix": found.has_nix,
        "activating": found.activating,
        "generations": [asdict(generation) for generation in found.generations],
        "reboot_needed": bool(found.standing.reboot_parts),
        "reboot_parts": list(found.standing.reboot_parts),
    }


def _one(answer: Mapping[str, list[str]], key: str) -> str | None:
    values = answer.get(key) or [""]
    return values[0] or None


def _pair(line: str) -> tuple[str, str]:
    name, _space, path = line.partition(" ")
    return name, path


def _generation(line: str) -> Generation:
    number, created, toplevel = line.split(" ", 2)
    return Generation(int(number), toplevel, int(created))


def _parts(answer: Mapping[str, list[str]]) -> dict[str, tuple[str, str]]:
    """For each part that only a reboot replaces what was booted and what the profile has; empty where it has none."""
    found = {}
    for line in answer.get("part", []):
        name, booted, profile = [*line.split(" "), "", ""][:3]
        if name in _PARTS_THAT_NEED_A_REBOOT:
            found[name] = (booted, profile)
    return found


def _changed_parts(answer: Mapping[str, list[str]]) -> list[str]:
    return [name for name, (booted, profile) in _parts(answer).items() if booted and profile and booted != profile]
