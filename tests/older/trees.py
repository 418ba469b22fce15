# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of an older version as small text files, with placeholders for everything that differs between runs.

A tree has a line for each directory, file and link, with its mode. The lines of a file follow it, after a tab; an empty
line has none::

    directory 0700 var/lib/nix-ops
    file 0600 var/lib/nix-ops/last-activation
        @UUID@ @TOPLEVEL:first@ switch 0 1764000000 no
    line 0644 facts/s1_target
        {}
    link .nix-ops/toplevels/example/target -> @TOPLEVEL:first@

``line`` is a file without a line break at its end. ``file MODE PATH < NAME`` has the text of the file NAME beside the
tree. Git keeps neither modes nor empty directories, and ignores ``.nix-ops``.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import yaml

HERE = Path(__file__).parent

_PLACEHOLDER = re.compile(r"@([A-Z]+(?::[a-z0-9/-]+)?)@")


def version() -> str:
    """Return the version of this checkout."""
    return str(yaml.safe_load((HERE.parents[1] / "galaxy.yml").read_text(encoding="utf-8"))["version"])


def recorded() -> list[str]:
    """Return the versions that there are recordings of."""
    return sorted(path.name for path in HERE.iterdir() if path.name[0].isdigit())


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace the placeholders of a text.

    :raises KeyError: if a placeholder has no value.
    """
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def abstract(text: str, values: Mapping[str, str]) -> str:
    """Replace values by their placeholders. Of names with the same value the first counts."""
    names: dict[str, str] = {}
    for name, value in values.items():
        names.setdefault(value, name)
    # A longer value first: a path may begin with another.
    for value in sorted(names, key=len, reverse=True):
        text = text.replace(value, f"@{names[value]}@")
    return text


def pack(tree: Path, values: Mapping[str, str], without: str = "") -> bytes:
    """Make a tar archive of a tree.

    :param without: lines that contain this text are left out.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for head, text in _entries(tree, without):
            kind, rest = fill(head, values).split(" ", 1)
            entry, data = tarfile.TarInfo(), b""
            if kind == "link":
                entry.type = tarfile.SYMTYPE
                entry.name, entry.linkname = rest.split(" -> ")
            else:
                mode, path = rest.split(" ", 1)
                entry.name, _sign, beside = path.partition(" < ")
                entry.mode = int(mode, 8)
                if kind == "directory":
                    entry.type = tarfile.DIRTYPE
                elif beside:
                    data = (tree.parent / beside).read_bytes()
                else:
                    data = fill(text.removesuffix("\n") if kind == "line" else text, values).encode()
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return archive.getvalue()


def unpack(archive: bytes, values: Mapping[str, str], beside: Mapping[str, str] | None = None) -> str:
    """Write a tar archive down as a tree.

    :param beside: for the name of a file in the archive the name of the file beside the tree that has its text.
    """
    lines = []
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in sorted(tar.getmembers(), key=lambda one: one.name):
            path = abstract(entry.name, values)
            if entry.issym():
                lines.append(f"link {path} -> {abstract(entry.linkname, values)}\n")
                continue
            if entry.isdir():
                lines.append(f"directory {entry.mode:04o} {path}\n")
                continue
            if other := (beside or {}).get(path.rpartition("/")[2]):
                lines.append(f"file {entry.mode:04o} {path} < {other}\n")
                continue
            content = tar.extractfile(entry)
            assert content is not None, path
            # Before the tabs, for values of several lines.
            text = abstract(content.read().decode(), values)
            kind = "line" if text and not text.endswith("\n") else "file"
            lines.append(f"{kind} {entry.mode:04o} {path}\n")
            lines += [f"\t{line}\n" if line else "\n" for line in text.removesuffix("\n").split("\n") if text]
    return "".join(lines)


def extract(archive: bytes, directory: Path) -> None:
    """Put the files of an archive into a directory of the controller."""
    # Debian 12's Python has no filter for archives, and later ones ask for it.
    subprocess.run(["tar", "--directory", str(directory), "-xpf", "-"], input=archive, check=True)


def archived(directory: Path, *paths: str) -> bytes:
    """Make a tar archive of files and directories of the controller; paths that are missing are left out."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in paths:
            if (directory / path).exists():
                tar.add(directory / path, path)
    return archive.getvalue()


def _entries(tree: Path, without: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in tree.read_text(encoding="utf-8").splitlines():
        if without and without in line:
            continue
        if line.startswith("\t") or not line:
            head, text = found[-1]
            found[-1] = (head, f"{text}{line[1:]}\n")
        else:
            found.append((line, ""))
    return found
