# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads which store paths a file of ``nix-store --export`` has, before anything of it is imported.

The format is that of Nix (export-import.cc, archive.cc): a number has 8 bytes, a text its length and zeros up to a
multiple of 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer
from ansible_collections.nix.ops.plugins.plugin_utils.nix import STORE_PATH

_MAGIC = 0x4558494E

# Bytes of a name or a path.
_LONGEST = 4096

# Directories inside each other. A store path with more would not fit into a path of Linux.
_DEEPEST = 500


def check(file: Path, asked: Iterable[str], machine: str) -> tuple[str, ...]:
    """Check that an exported file has only paths that were asked for, and their closures.

    :param asked: the paths that were asked for.
    :param machine: the machine that made the file, for messages.
    :returns: its paths.
    :raises OpsError: if it has others, or is damaged.
    """
    try:
        found = read(file)
    except RecursionError as damage:
        # Ansible's own calls count, too.
        raise answer.invalid(machine, "what it exports is damaged: its directories are too deep") from damage
    except ValueError as damage:
        raise answer.invalid(machine, f"what it exports is damaged: {damage}") from damage
    if other := found.keys() - _closure(asked, found):
        raise answer.invalid(machine, f"it exports paths that were not asked for: {min(other)}")
    return tuple(found)


def read(file: Path) -> dict[str, tuple[str, ...]]:
    """Return the references of each path in an exported file.

    :raises ValueError: if it is damaged.
    """
    found = {}
    with file.open("rb") as source:
        reader = _Reader(source, file.stat().st_size)
        while (more := reader.number()) == 1:
            reader.expect(b"nix-archive-1")
            reader.skip_node(0)
            if reader.number() != _MAGIC:
                raise ValueError("a path does not end")
            path = reader.path()
            found[path] = tuple(reader.path() for _number in range(reader.count()))
            reader.text()
            if reader.number():
                raise ValueError("a path has a signature of an old format")
        if more:
            raise ValueError("it has no end")
    return found


def _closure(asked: Iterable[str], references: Mapping[str, tuple[str, ...]]) -> set[str]:
    closure: set[str] = set()
    left = list(asked)
    while left:
        path = left.pop()
        if path not in closure:
            closure.add(path)
            left += references.get(path, ())
    return closure


class _Reader:
    def __init__(self, source: BinaryIO, size: int) -> None:
        self._source = source
        self._size = size

    def number(self) -> int:
        return int.from_bytes(self._read(8), "little")

    def count(self) -> int:
        """Read how many texts follow."""
        count = self.number()
        if count > self._size:
            raise ValueError("it has too many references")
        return count

    def text(self) -> bytes:
        length = self.number()
        if length > _LONGEST:
            raise ValueError("a name is too long")
        return self._read(length + -length % 8)[:length]

    def path(self) -> str:
        path = self.text().decode("utf-8", errors="replace")
        if not STORE_PATH.fullmatch(path):
            raise ValueError(f"{path!r} is not a store path")
        return path

    def expect(self, *texts: bytes) -> None:
        for text in texts:
            if self.text() != text:
                raise ValueError(f"{text.decode()!r} is missing")

    def skip_node(self, depth: int) -> None:
        """Skip a file, a link or a directory."""
        if depth > _DEEPEST:
            raise ValueError("its directories are too deep")
        self.expect(b"(", b"type")
        kind = self.text()
        if kind == b"regular":
            self._skip_file()
        elif kind == b"symlink":
            self.expect(b"target")
            self.text()
            self.expect(b")")
        elif kind == b"directory":
            self._skip_entries(depth)
        else:
            raise ValueError("a file is of an unknown type")

    def _skip_file(self) -> None:
        word = self.text()
        if word == b"executable":
            self.expect(b"")
            word = self.text()
        if word == b"contents":
            length = self.number()
            self._skip(length + -length % 8)
            word = self.text()
        if word != b")":
            raise ValueError("a file does not end")

    def _skip_entries(self, depth: int) -> None:
        while (word := self.text()) == b"entry":
            self.expect(b"(", b"name")
            self.text()
            self.expect(b"node")
            self.skip_node(depth + 1)
            self.expect(b")")
        if word != b")":
            raise ValueError("a directory does not end")

    def _read(self, size: int) -> bytes:
        data = self._source.read(size)
        if len(data) != size:
            raise ValueError("it is cut off")
        return data

    def _skip(self, size: int) -> None:
        if self._source.tell() + size > self._size:
            raise ValueError("it is cut off")
        self._source.seek(size, 1)
