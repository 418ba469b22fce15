# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of files, directories and variables: as long as one is the same, its subject has not changed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils.network import checkouts
from ansible_collections.nix.ops.plugins.plugin_utils.network.checkouts import MOST, TooLarge

STORE = "/nix/store/"


@dataclass(frozen=True)
class Fingerprint:
    """A fingerprint, and when its subject last changed, in seconds since 1970."""

    digest: str
    changed: float = 0.0


@dataclass(frozen=True)
class Reads:
    """What an evaluation read, each with its fingerprint.

    :param digests: kind of read (`tree`, `file`, `link`, `absent`, `variable`), subject and digest.
    :param changed: when a subject last changed, in seconds since 1970.
    """

    digests: tuple[tuple[str, str, str], ...]
    changed: float = 0.0

    def __add__(self, other: Reads) -> Reads:
        return Reads(self.digests + other.digests, max(self.changed, other.changed))

    def hold(self, environment: Mapping[str, str]) -> bool:
        """Return whether nothing has changed since.

        :param environment: all variables of the next evaluation.
        """
        try:
            return all(_is_same(kind, subject, digest, environment) for kind, subject, digest in self.digests)
        except (OSError, ValueError, TooLarge):
            # ValueError: a NUL in a path, in a file that this was not written to.
            return False


def _is_same(kind: str, subject: str, digest: str, environment: Mapping[str, str]) -> bool:
    if kind == "tree" and is_nixpkgs(subject):
        real = os.path.realpath(subject)
        return checkouts.is_same(real, digest) if not real.startswith(STORE) else real == digest
    return take(kind, subject, environment).digest == digest


def take(kind: str, subject: str, environment: Mapping[str, str]) -> Fingerprint:
    """Return the fingerprint of one read.

    :raises OSError: if the subject can't be read.
    :raises TooLarge: if the subject is a directory with too many entries.
    """
    if kind == "variable":
        return Fingerprint(digest(environment.get(subject, "").encode(errors="surrogateescape")))
    if kind == "absent":
        return Fingerprint("present" if os.path.lexists(subject) else "absent")
    if kind == "link":
        return Fingerprint(os.path.realpath(subject))
    return tree(subject) if kind == "tree" else file(subject)


def take_all(subjects: Iterable[tuple[str, str]], environment: Mapping[str, str]) -> Reads:
    """Return the fingerprints of several reads, as :func:`take` does."""
    taken = [(kind, subject, take(kind, subject, environment)) for kind, subject in subjects]
    digests = tuple((kind, subject, one.digest) for kind, subject, one in taken)
    return Reads(digests, max((one.changed for _kind, _subject, one in taken), default=0.0))


def file(path: str) -> Fingerprint:
    """Return the fingerprint of a file: its content, its mode, and its real path, since imports are relative to it."""
    real = os.path.realpath(path)
    if real.startswith(STORE):
        return Fingerprint(real)
    try:
        status = os.stat(path)
        # A FIFO would wait for a writer.
        content = Path(path).read_bytes() if stat.S_ISREG(status.st_mode) else b""
    except (FileNotFoundError, NotADirectoryError):
        return Fingerprint("absent")
    except PermissionError:
        return Fingerprint("not readable")
    described = f"{status.st_mode} {real}".encode(errors="surrogateescape")
    return Fingerprint(digest(described, content), status.st_ctime)


def tree(path: str) -> Fingerprint:
    """Return the fingerprint of a directory: the metadata of all its files.

    A file can't change without its ctime, which no program can set. A directory of the store never changes.
    A checkout of nixpkgs is looked at once in a run.
    """
    real = os.path.realpath(path)
    if real.startswith(STORE):
        return Fingerprint(real)
    return Fingerprint(*(checkouts.look(real) if is_nixpkgs(path) else _walked(path, real)))


def digest(*data: bytes) -> str:
    """Return the digest of several byte strings."""
    hashed = hashlib.sha256()
    for part in data:
        hashed.update(b"%d:" % len(part) + part)
    return hashed.hexdigest()


def is_nixpkgs(directory: str) -> bool:
    """Return whether a directory is a checkout of nixpkgs."""
    return Path(directory, "nixos/lib/eval-config.nix").exists()


def has_at_most(directory: str, entries: int) -> bool:
    """Return whether a directory has at most this many entries, with those of its directories."""
    try:
        return all(count < entries for count, _entry in enumerate(_walk(directory)))
    except OSError:
        return False


def _walked(path: str, real: str) -> tuple[str, float]:
    top = os.stat(path)
    hashed = hashlib.sha256(repr((real, top.st_dev, top.st_ino)).encode(errors="surrogateescape"))
    changed = top.st_ctime
    for count, (name, status) in enumerate(_walk(path)):
        if count > MOST:
            raise TooLarge(path)
        changed = max(changed, status.st_ctime)
        seen = (name, status.st_mode, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        hashed.update(repr((*seen, status.st_ctime_ns)).encode(errors="surrogateescape"))
    return hashed.hexdigest(), changed


def _walk(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        yield entry.path, entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
