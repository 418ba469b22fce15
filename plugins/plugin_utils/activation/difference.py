# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares two systems: versions of packages, unit files, and parts that need a reboot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Description

# As Nix splits names: the version begins after the first dash that is not followed by a letter.
_STORE_NAME = re.compile(r"/nix/store/[0-9a-z]{32}-(?P<name>.+?)(?:-(?P<version>[^a-zA-Z].*))?")


@dataclass(frozen=True)
class Difference:
    """How a new system differs from an old one.

    :param packages: a line for each package with other versions.
    :param units: a line for each unit file that is new, gone or changed.
    :param reboot: a line about the parts that need a reboot, if there are any.
    """

    packages: tuple[str, ...]
    units: tuple[str, ...]
    reboot: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the lines for the user."""
        return "".join(f"{line}\n" for line in (*self.packages, *self.units, *self.reboot))


def text(found: Description, toplevel: str, env: Mapping[str, str]) -> str:
    """Compare a machine with a toplevel, as text for the user.

    :param found: the description of the machine, with closure and units.
    :param toplevel: a toplevel. If the controller's store lacks it, only the paths are compared.
    :param env: variables for Nix.
    :returns: lines, or nothing if there is no difference.
    """
    if not Path(toplevel).exists():
        old = found.standing.running or "nothing"
        return "" if old == toplevel else f"system: {old} → {toplevel}\n"
    changed = units(found.units, units_of(toplevel))
    if changed:
        changed = ("units whose files differ (which of them are restarted is decided on the machine):", *changed)
    closures = packages(found.closure, nix.requisites([toplevel], env=env))
    return Difference(closures, changed, reboot(found.booted_parts, toplevel)).text()


def packages(old: Iterable[str], new: Iterable[str]) -> tuple[str, ...]:
    """Compare the versions of the packages in two closures.

    :returns: lines such as ``hello: 2.12 → 2.13``, ``curl: ∅ → 8.9``. A package that was only rebuilt has no line.
    """
    before, after = _versions(old), _versions(new)
    return tuple(
        f"{name}: {_listed(before.get(name))} → {_listed(after.get(name))}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def units(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    """Compare the unit files of two systems.

    :param old: unit names and the store paths of their files.
    """
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            lines.append(f"unit {name}: new")
        elif name not in new:
            lines.append(f"unit {name}: gone")
        elif old[name] != new[name]:
            lines.append(f"unit {name}: changed")
    return tuple(lines)


def units_of(toplevel: str) -> dict[str, str]:
    """Return the unit files of a toplevel in the controller's store, with the store paths they lead to."""
    directory = Path(toplevel, "etc/systemd/system")
    if not directory.is_dir():
        return {}
    return {entry.name: str(entry.resolve()) for entry in sorted(directory.iterdir()) if entry.is_file()}


def reboot_parts(booted: Mapping[str, str], toplevel: str) -> tuple[str, ...]:
    """Return the parts of a toplevel in the controller's store that differ from the booted ones and need a reboot.

    :param booted: the store paths of the booted parts, by name.
    """
    return tuple(name for name, path in booted.items() if _differs(path, Path(toplevel, name)))


def reboot(booted: Mapping[str, str], toplevel: str) -> tuple[str, ...]:
    """Return a line that names the parts that need a reboot; nothing if no part needs one."""
    parts = reboot_parts(booted, toplevel)
    return (f"a reboot will be needed for: {', '.join(parts)}",) if parts else ()


def _differs(booted: str, new: Path) -> bool:
    return new.exists() and booted != str(new.resolve())


def _versions(paths: Iterable[str]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for path in paths:
        match = _STORE_NAME.fullmatch(path)
        if match and match["version"]:
            found.setdefault(match["name"], set()).add(match["version"])
    return {name: frozenset(versions) for name, versions in found.items()}


def _listed(versions: frozenset[str] | None) -> str:
    return ", ".join(sorted(versions)) if versions else "∅"
