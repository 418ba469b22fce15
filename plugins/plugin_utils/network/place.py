# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The place for what is kept for later runs, and can be lost at any time: a directory of the user's cache."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# How many files of a kind are kept.
_KEPT = 100


def directory(kind: str) -> Path:
    """Return the directory of a kind of files."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache, "nix.ops", kind).expanduser()


def write(kind: str, name: str, data: bytes) -> None:
    """Write a file, and remove the oldest of its kind. Does nothing if the directory can't be written."""
    try:
        within = directory(kind)
        within.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=within, prefix=".")
        with open(handle, "wb") as file:
            file.write(data)
        Path(path).replace(within / name)
        for old in sorted(within.glob("[!.]*"), key=lambda entry: entry.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)
    except OSError:
        return
