# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of checkouts of nixpkgs, which have tens of thousands of files.

A change of a file changes its ctime, and a new name changes the ctime of its directory. No program can set a ctime. So
a later run does not list the directories again. It compares the status of each file and directory of the last run.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import deque
from collections.abc import Sequence

from ansible_collections.nix.ops.plugins.plugin_utils.network import place

# A tree with more entries than this is too large to check every time.
MOST = 200_000

_KIND = "listings"

# The digests of this run, each with the time of the last change. An evaluation that began before a change is kept under
# the digest from before, which can't come back.
_seen: dict[str, tuple[str, float]] = {}


class TooLarge(Exception):
    """A directory has too many entries for a fingerprint."""


def look(real: str) -> tuple[str, float]:
    """Look through a checkout once in a run.

    :param real: its real path.
    :returns: the digest, and when something in it last changed, in seconds since 1970.
    :raises OSError: if a directory can't be read.
    :raises TooLarge: if it has too many entries.
    """
    if real not in _seen:
        top = os.fsencode(real)
        # Before its entries are listed: what changes meanwhile has another status afterwards.
        statuses = {top: os.lstat(top)}
        directories, files, left = list[bytes](), list[bytes](), deque([top])
        while left:
            directory = left.popleft()
            directories.append(directory)
            with os.scandir(directory) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                        statuses[entry.path] = os.lstat(entry.path)
                    else:
                        files.append(entry.path)
            if len(statuses) + len(files) > MOST:
                raise TooLarge(real)
        found = [*(statuses[directory] for directory in directories), *map(os.lstat, files)]
        names = b"\0".join([*directories, *files])
        place.write(_KIND, _name(real), names)
        _seen[real] = _digest(real, names, found)
    return _seen[real]


def is_same(real: str, digest: str) -> bool:
    """Return whether a checkout still has a digest of :func:`look`, which may be of an earlier run.

    :raises OSError: as :func:`look`.
    :raises TooLarge: as :func:`look`.
    """
    if real not in _seen:
        try:
            names = (place.directory(_KIND) / _name(real)).read_bytes()
            found = _digest(real, names, [os.lstat(name) for name in names.split(b"\0")])
        except (OSError, ValueError):
            found = ("", 0.0)
        if found[0] == digest:
            # With the same statuses, the directories still have just these names.
            _seen[real] = found
    return look(real)[0] == digest


def _digest(real: str, names: bytes, statuses: Sequence[os.stat_result]) -> tuple[str, float]:
    numbers = [
        hash((one.st_mode, one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns)) for one in statuses
    ]
    hashed = hashlib.sha256(b"%d:" % len(names) + names + os.fsencode(real))
    hashed.update(array("q", numbers).tobytes())
    return hashed.hexdigest(), max(one.st_ctime for one in statuses)


def _name(real: str) -> str:
    return hashlib.sha256(os.fsencode(real)).hexdigest()
