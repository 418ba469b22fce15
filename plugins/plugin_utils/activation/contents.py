# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what is in two systems of the controller's store: contents of /etc, users and groups, kernel parameters.

Every user of the controller can read its store, so nothing is shown that only root may read. Of users, it is only named
what differs: the store may have hashes of passwords.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

_STORE = "/nix/store"

# The largest file that is compared, and the largest one that describes users, in bytes.
_LARGEST = 64 * 1024
_LARGEST_OF_USERS = 4 * 1024 * 1024

# How many lines are shown of a file's difference, and of all together.
_LINES_OF_FILE = 40
_LINES = 200

# Where NixOS describes users and groups, as its activation script names it.
_ACCOUNTS = re.compile(r"/nix/store/[0-9a-z]{32}-users-groups\.json")


def etc(old: str, new: str, names: Collection[str]) -> tuple[str, ...]:
    """Compare the contents of files of /etc, as unified differences of a limited length.

    :param old: a toplevel.
    :param new: another toplevel.
    :param names: the files below /etc.
    """
    shown: list[str] = []
    for name in sorted(names):
        texts = [_text(Path(toplevel, "etc", name)) for toplevel in (old, new)]
        if None in texts:
            continue
        before, after = ((text or "").splitlines() for text in texts)
        lines = list(difflib.unified_diff(before, after, f"/etc/{name} now", f"/etc/{name} then", lineterm=""))
        more = len(lines) - _LINES_OF_FILE
        lines = [*lines[:_LINES_OF_FILE], *([f"({more} more lines of /etc/{name})"] if more > 0 else [])]
        if len(shown) + len(lines) > _LINES:
            return (*shown, "(the contents of further files in /etc are left out)")
        shown += lines
    return tuple(shown)


def accounts(old: str, new: str) -> tuple[str, ...]:
    """Compare the users and groups of two toplevels; nothing if one does not say them."""
    before, after = _accounts(old), _accounts(new)
    if before is None or after is None:
        return ()
    return tuple(
        line for kind in ("user", "group") for line in _differences(kind, before[f"{kind}s"], after[f"{kind}s"])
    )


def kernel_parameters(old: str, new: str) -> tuple[str, ...]:
    """Compare the parameters of the kernel of two toplevels."""
    texts = [_text(Path(toplevel, "kernel-params")) for toplevel in (old, new)]
    before, after = ((text or "").split() for text in texts)
    if before == after or None in texts:
        return ()
    gone = [f"-{one}" for one in before if one not in after]
    added = [f"+{one}" for one in after if one not in before]
    return (f"kernel parameters: {' '.join([*gone, *added]) or 'in another order'}",)


def _text(path: Path, largest: int = _LARGEST) -> str | None:
    """Read a text file of the store.

    :returns: an empty text if the file is missing; None if the file is binary, too large or outside of the store.
    """
    try:
        place = path.resolve()
        if not place.exists():
            return ""
        if not place.is_relative_to(_STORE) or not place.is_file() or place.stat().st_size > largest:
            return None
        return place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, RuntimeError):
        return None


def _accounts(toplevel: str) -> dict[str, dict[str, Any]] | None:
    found = _ACCOUNTS.search(_text(Path(toplevel, "activate"), _LARGEST_OF_USERS) or "")
    try:
        document = json.loads(_text(Path(found[0]), _LARGEST_OF_USERS) or "") if found else {}
        return {kind: {str(one["name"]): one for one in document[kind]} for kind in ("users", "groups")}
    except (ValueError, KeyError, TypeError):
        return None


def _differences(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new:
            yield f"{kind} {name}: {'new' if name in new else 'gone'}"
        elif old[name] != new[name]:
            keys = sorted(old[name].keys() | new[name].keys())
            yield f"{kind} {name}: other {', '.join(key for key in keys if old[name].get(key) != new[name].get(key))}"
