# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files and directories that an evaluation may read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils.network import fingerprint, private

# A larger directory is not allowed as a whole.
_ENTRIES = 50_000
# Of a directory with more entries, a single file is allowed without those beside it.
_BESIDE = 200
_LINKS = 40

# Directories of many other things. Only single files and directories in them are allowed.
_SHARED = frozenset(
    (
        *("/", "/bin", "/boot", "/etc", "/home", "/lib", "/mnt", "/nix", "/nix/store", "/nix/var", "/opt", "/root"),
        *("/run", "/srv", "/tmp", "/usr", "/var", "/var/lib", "/var/tmp"),
    )
)
# Places that programs write to, beside hidden files. Allowed as well, if the network reads them.
_WRITTEN = ("XDG_CACHE_HOME", "XDG_STATE_HOME", "ANSIBLE_HOME")

# Their files change without a trace.
_VIRTUAL = ("/dev/", "/proc/", "/sys/")

_STORE_PATH = re.compile(r"/nix/store/[^/]+")
_FORBIDDEN = re.compile(r"access to (?:absolute |canonical )?path '(.*?)' is forbidden in restricted mode")


@dataclass(frozen=True)
class Bounds:
    """What an evaluation may read.

    :param links: paths that lead to one of the others through a symbolic link.
    :param trees: directories, without symbolic links in their paths.
    :param files: files, without symbolic links in their paths.
    :param private: private keys that must not get into the store.
    """

    links: tuple[str, ...] = ()
    trees: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    private: tuple[str, ...] = ()

    def allow(self, *paths: str) -> Bounds:
        """Return bounds that include these paths, as far as they can be allowed.

        A file is allowed together with those beside it, since a network mostly reads them too.

        :raises OpsError: if that would allow to copy a private key into the store.
        """
        bounds = self
        for path in paths:
            if key := private.covered(path, self.private):
                raise private.refuse(key, f"the network, which reads {path},")
            for one in _beside(path):
                if not private.covered(one, self.private):
                    bounds = bounds | _only(one)
        return bounds

    def __or__(self, other: Bounds) -> Bounds:
        def more(known: tuple[str, ...], added: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(dict.fromkeys((*known, *added)))

        return Bounds(
            more(self.links, other.links),
            more(self.trees, other.trees),
            more(self.files, other.files),
            more(self.private, other.private),
        )

    def existing(self) -> Bounds:
        """Return the bounds without paths that are gone."""
        kinds = (self.links, self.trees, self.files)
        links, trees, files = (tuple(path for path in kind if Path(path).exists()) for kind in kinds)
        return Bounds(links, trees, files, self.private)

    def paths(self) -> list[str]:
        """Return all allowed paths."""
        return [*self.links, *self.trees, *self.files]

    def roots(self) -> list[str]:
        """Return the allowed directories, by each of their paths."""
        return [path for path in self.paths() if Path(path).is_dir()]

    def subjects(self, *, nixpkgs: bool) -> list[tuple[str, str]]:
        """Return what the fingerprints are taken of.

        :param nixpkgs: whether to include checkouts of nixpkgs, which are large.
        """
        trees = [tree for tree in self.trees if nixpkgs or not fingerprint.is_nixpkgs(tree)]
        kinds = (("link", self.links), ("tree", trees), ("file", self.files))
        return [(kind, subject) for kind, subjects in kinds for subject in subjects]

    def cover(self, path: str) -> bool:
        """Return whether a path is allowed."""
        return any(f"{path}/".startswith(f"{allowed}/") for allowed in (*self.links, *self.trees, *self.files))


def bounds_of(files: Sequence[str], search: Sequence[Mapping[str, str]], keys: Sequence[str]) -> Bounds:
    """Return the bounds of a network's first evaluation: the directories of its files, and nixpkgs.

    :param search: entries of the search path, with prefix and path.
    :param keys: private keys that must not get into the store.
    """
    named = [entry["path"] for entry in search if entry["prefix"] == "nixpkgs" and Path(entry["path"]).exists()]
    return Bounds(private=tuple(keys)).allow(*files, *named[:1])


def forbidden(message: str) -> list[str]:
    """Return the paths that Nix refused to read, by its message."""
    return _FORBIDDEN.findall(message)


def misjudged(reports: Iterable[tuple[str, str]], bounds: Bounds) -> list[str]:
    """Return the paths that Nix saw differently within the bounds, or only in part.

    :param reports: kind and subject of what Nix reported.
    """
    return [
        path
        for kind, path in reports
        if (kind == "absent" and os.path.lexists(path)) or (kind == "copied" and not bounds.cover(path))
    ]


def _only(path: str) -> Bounds:
    """Return bounds of one path; empty if it can't be allowed."""
    ways = ways_to(path)
    real = ways[-1]
    if real.startswith(_VIRTUAL) or not Path(real).exists():
        return Bounds()
    if not Path(real).is_dir():
        return Bounds(links=tuple(ways[:-1]), files=(real,))
    if real.startswith(fingerprint.STORE) or _is_small(real):
        return Bounds(links=tuple(ways[:-1]), trees=(real,))
    return Bounds()


def _beside(path: str) -> list[str]:
    """Return what to allow for a path: the path itself, and for a file those beside it."""
    if found := _STORE_PATH.match(path):
        return [found[0]]
    is_directory = Path(path).is_dir()
    directory = path if is_directory else os.path.dirname(path)
    checkout = _checkout_above(directory)
    if checkout is not None and _is_own(checkout):
        return [checkout]
    # The way that leads to the file may be a symbolic link to another directory.
    around = () if is_directory else {directory, os.path.dirname(os.path.realpath(path))}
    beside = [entry for one in around if _is_own(one) for entry in _entries_of(one)]
    return [path, *sorted(entry for entry in beside if not _is_written_by_programs(entry))]


def _is_written_by_programs(entry: str) -> bool:
    places = [os.environ.get(name, "") for name in _WRITTEN]
    return os.path.basename(entry).startswith(".") or any(f"{place}/".startswith(f"{entry}/") for place in places)


def _entries_of(directory: str) -> set[str]:
    """Return the paths in a directory; the directory itself if there are too many, or none can be read."""
    try:
        names = os.listdir(directory)
    except OSError:
        return {directory}
    return {os.path.join(directory, name) for name in names} if 0 < len(names) <= _BESIDE else {directory}


def _checkout_above(directory: str) -> str | None:
    for above in (directory, *map(str, Path(directory).parents)):
        if fingerprint.is_nixpkgs(above):
            return above
    return None


def _is_own(directory: str) -> bool:
    home = os.path.realpath(Path.home())
    real = os.path.realpath(directory)
    return real not in _SHARED and not f"{home}/".startswith(f"{real}/")


def _is_small(directory: str) -> bool:
    return fingerprint.is_nixpkgs(directory) or (_is_own(directory) and fingerprint.has_at_most(directory, _ENTRIES))


def ways_to(path: str) -> list[str]:
    """Return a path with ever fewer symbolic links in it; the last one is the real path.

    Nix checks each of them.
    """
    ways = [os.path.normpath(path)]
    while len(ways) <= _LINKS:
        parts = Path(ways[-1]).parts
        for end in range(2, len(parts) + 1):
            part = os.path.join(*parts[:end])
            if os.path.islink(part):
                target = os.path.join(os.path.dirname(part), os.readlink(part))
                ways.append(os.path.normpath(os.path.join(target, *parts[end:])))
                break
        else:
            break
    return ways
