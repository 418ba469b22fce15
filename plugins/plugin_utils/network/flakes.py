# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out what a flake depends on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.network.bounds import Bounds

_EXPERIMENTAL = ("--extra-experimental-features", "nix-command flakes")
_PINNED = re.compile(r"[/=][0-9a-f]{40}(?=[?&/]|$)|[?&]narHash=")
_FILE_URL = re.compile(r"(?:git\+)?file://(/[^?#]*)")


def bounds_of(reference: str, env: Mapping[str, str]) -> Bounds | None:
    """Return the bounds of a flake whose inputs are all locked: its directory, if it has one.

    :param env: variables in addition to the caller's own.
    :returns: None if the flake can change while its directory does not, or is in a directory of its own tree.
    """
    argv = ["nix", *_EXPERIMENTAL, "flake", "metadata", "--json", "--no-update-lock-file", "--", reference]
    completed = nix.run(argv, env=env)
    if completed.exit_code != 0:
        return None
    try:
        metadata = json.loads(completed.stdout)
        resolved, locks = metadata["resolved"], metadata["locks"]
        nodes = [node for name, node in locks["nodes"].items() if name != locks["root"]]
        if "dir" in resolved or not all(map(_is_locked, nodes)):
            return None
        directory = _directory_of(resolved)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if directory is None:
        return Bounds() if _PINNED.search(reference) else None
    bounds = Bounds().allow(directory)
    return bounds if bounds.trees else None


def _is_locked(node: Mapping[str, Any]) -> bool:
    locked = node["locked"]
    return "dir" not in locked and "narHash" in locked


def _directory_of(resolved: Mapping[str, Any]) -> str | None:
    if resolved["type"] == "path":
        return str(resolved["path"])
    found = _FILE_URL.fullmatch(str(resolved.get("url", "")))
    return found[1] if found and Path(found[1]).is_dir() else None
