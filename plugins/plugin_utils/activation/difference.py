# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares two systems: versions of packages, units, files of /etc, and parts that need a reboot."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.activation import contents
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import FILE, UNIT_FILE, Description, differs

# As Nix splits names: the version begins after the first dash that is not followed by a letter.
_STORE_NAME = re.compile(r"/nix/store/[0-9a-z]{32}-(?P<name>.+?)(?:-(?P<version>[^a-zA-Z].*))?")

# The directories of a unit that lead to other units, and what the other units are then.
_DEPENDENCIES = {".wants": "wanted", ".requires": "required"}

# NixOS writes the mode and the owner of a file of /etc into files beside it.
_ATTRIBUTES = (".mode", ".uid", ".gid")

# The directory of units below /etc. Units are compared by themselves.
_UNITS = "systemd/system/"

# How many files of /etc are named.
_FILES = 20


@dataclass(frozen=True)
class Difference:
    """How a new system differs from an old one.

    :param packages: a line for each package with other versions.
    :param units: a line for each unit that is new, gone or changed.
    :param files: a line for each file of /etc that is new, gone or changed.
    :param contents: the differences of those files, of users and groups, and of the kernel's parameters.
    :param reboot: a line about the parts that need a reboot, if there are any.
    """

    packages: tuple[str, ...]
    units: tuple[str, ...]
    files: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    reboot: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the lines for the user."""
        return "".join(f"{line}\n" for line in (*self.packages, *self.units, *self.files, *self.contents, *self.reboot))


def text(found: Description, toplevel: str, env: Mapping[str, str]) -> str:
    """Compare a machine with a toplevel, as text for the user.

    :param found: the description of the machine, with its closure, units and files.
    :param toplevel: a toplevel. If the controller's store lacks it, only the paths are compared.
    :param env: variables for Nix.
    :returns: lines, or nothing if there is no difference.
    """
    old = found.standing.running
    paths = "" if old == toplevel else f"system: {old or 'nothing'} → {toplevel}"
    if not Path(toplevel).exists():
        return paths and f"{paths}\n"
    changed = units(found.units, units_of(toplevel))
    if changed:
        changed = ("units whose files differ (which of them are restarted is decided on the machine):", *changed)
    closures = packages(found.closure, nix.requisites([toplevel], env=env))
    new_files = files_of(toplevel)
    etc = files(found.files, new_files)
    inside = _contents(old, toplevel, _changed_files(found.files, new_files))
    lines = Difference(closures, changed, etc, inside, reboot(found.booted_parts, toplevel)).text()
    # The activation script, for example.
    return lines or (paths and f"{paths}, with the same packages, units and files of /etc\n")


def _contents(old: str | None, new: str, changed: Iterable[str]) -> tuple[str, ...]:
    """Compare what is in two systems. The machine is not asked for that: the old one may be missing in this store."""
    if old is None or not Path(old).exists():
        return ()
    return (
        *contents.etc(old, new, tuple(changed)),
        *contents.accounts(old, new),
        *contents.kernel_parameters(old, new),
    )


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
    """Compare the units of two systems.

    :param old: names of files in the directory of units, and the store paths that they lead to: ``a.service``,
        ``a.service.d/overrides.conf``, ``b.target.wants/a.service``.
    """
    before, after = _definitions(old), _definitions(new)
    named = _changes(before, after)
    lines = [(unit, f"unit {unit}: {change}") for unit, change in named.items()]
    for name in old.keys() ^ new.keys():
        directory, _slash, unit = name.partition("/")
        other, dot, kind = directory.rpartition(".")
        # A unit that is new or gone says enough.
        if unit and dot + kind in _DEPENDENCIES and named.get(unit) not in ("new", "gone"):
            now = "newly" if name in new else "no longer"
            lines.append((unit, f"unit {unit}: {now} {_DEPENDENCIES[dot + kind]} by {other}"))
    return tuple(line for _unit, line in sorted(lines))


def units_of(toplevel: str) -> dict[str, str]:
    """Return the files of a toplevel's units in the controller's store, with the store paths that they lead to."""
    directory = Path(toplevel, "etc", _UNITS)
    found = {}
    for entry in (*directory.glob("[!.]*"), *directory.glob("[!.]*/[!.]*")):
        name = str(entry.relative_to(directory))
        if UNIT_FILE.fullmatch(name) and entry.is_file():
            found[name] = str(entry.resolve())
    return found


def files(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    """Compare the files of /etc in two systems.

    :param old: the files below /etc, and where they lead or the hash of their content.
    :returns: lines, of a limited number.
    """
    changes = _changed_files(old, new)
    lines = [f"/etc/{name}: {change}" for name, change in sorted(changes.items())]
    more = len(lines) - _FILES
    return (*lines[:_FILES], *([f"and {more} more files in /etc"] if more > 0 else []))


def _changed_files(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return which files of /etc are new, gone or changed, also those of which only mode or owner changed."""
    changes: dict[str, str] = {}
    for name, change in _changes(old, new).items():
        file, attribute = os.path.splitext(name)
        if attribute in _ATTRIBUTES and (file in old or file in new):
            changes.setdefault(file, "changed")
        else:
            changes[name] = change
    return changes


def files_of(toplevel: str) -> dict[str, str]:
    """Return the files of /etc in a toplevel in the controller's store, without the units.

    :returns: where each file leads, or the hash of its content if it is not a link.
    """
    found = {}
    root = Path(toplevel, "etc")
    for directory, directories, names in os.walk(root):
        for path in (Path(directory, entry) for entry in (*directories, *names)):
            name = str(path.relative_to(root))
            if path.is_symlink():
                value = str(path.readlink())
            elif path.is_file():
                value = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                continue
            if FILE.fullmatch(f"{value} {name}") and " " not in value and not f"{name}/".startswith(_UNITS):
                found[name] = value
    return found


def reboot_parts(booted: Mapping[str, str], toplevel: str) -> tuple[str, ...]:
    """Return the parts of a toplevel in the controller's store that differ from the booted ones and need a reboot.

    :param booted: the store paths of the booted parts, by name.
    """
    return tuple(name for name, path in booted.items() if differs(path, _resolved(Path(toplevel, name))))


def reboot(booted: Mapping[str, str], toplevel: str) -> tuple[str, ...]:
    """Return a line that names the parts that need a reboot; nothing if no part needs one."""
    parts = reboot_parts(booted, toplevel)
    return (f"a reboot will be needed for: {', '.join(parts)}",) if parts else ()


def _definitions(files: Mapping[str, str]) -> dict[str, str]:
    """Return what defines each unit: its own file and those in its directory ``.d``, which override it."""
    found: dict[str, str] = {}
    for name in sorted(files):
        unit, slash, _file = name.partition("/")
        if slash and not unit.endswith(".d"):
            continue
        unit = unit.removesuffix(".d") if slash else unit
        found[unit] = f"{found.get(unit, '')} {name}={files[name]}"
    return found


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return what is ``new``, ``gone`` or ``changed``, by name."""
    return {
        name: "new" if name not in old else "gone" if name not in new else "changed"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }


def _resolved(part: Path) -> str | None:
    return str(part.resolve()) if part.exists() else None


def _versions(paths: Iterable[str]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for path in paths:
        match = _STORE_NAME.fullmatch(path)
        if match and match["version"]:
            found.setdefault(match["name"], set()).add(match["version"])
    return {name: frozenset(versions) for name, versions in found.items()}


def _listed(versions: frozenset[str] | None) -> str:
    return ", ".join(sorted(versions)) if versions else "∅"
