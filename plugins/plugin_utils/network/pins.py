# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the places of pinned sources, such as a nixpkgs of npins, niv or a flake's lock file.

In an entry of the search path, ``FILE#PIN`` is the place of a pin: ``nixpkgs=npins/sources.json#nixpkgs``.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluator

LOCK = "flake.lock"
NPINS = "npins/sources.json"
NIV = "nix/sources.json"

# The Nix file beside a file of pins that knows what to do with them.
_READERS = {"npins": "default.nix", "nix": "sources.nix"}
_ENTRY = re.compile(r"(?:([^=]*)=)?(/.*/(?:flake\.lock|(?:npins|nix)/sources\.json))#([^#]+)")

# A lock file of a flake of this version or an older one.
_LOCK_VERSION = 7

# The places of pins by their file, its text, and their name.
_known: dict[tuple[str, str, str], str] = {}


def resolve(entries: Sequence[str], env: Mapping[str, str]) -> tuple[str, ...]:
    """Return entries of the search path with the place of each pin. Other entries stay as they are.

    Nix fetches a source that its store lacks.

    :param entries: entries with absolute paths.
    :param env: variables of Nix in addition to the caller's own.
    :raises OpsError: if there is no such pin, or it can't be fetched.
    """
    return tuple(_resolve(entry, env) for entry in entries)


def names(path: str) -> list[str]:
    """Return the names of the pins in a file.

    :raises OpsError: if the file can't be read.
    """
    pins = _read(path, _text(path))
    return sorted(pins)


def _resolve(entry: str, env: Mapping[str, str]) -> str:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        return entry
    prefix, path, name = found.groups()
    text = _text(path)
    key = (path, text, name)
    if key not in _known:
        _known[key] = _place(path, text, name, env)
    return _known[key] if prefix is None else f"{prefix}={_known[key]}"


def _place(path: str, text: str, name: str, env: Mapping[str, str]) -> str:
    pins = _read(path, text)
    if name not in pins:
        near = difflib.get_close_matches(name, pins, n=1)
        raise OpsError(
            f"{path} has no pin {name!r}",
            state="nothing was evaluated",
            next_step=f"Write {path}#{near[0]}." if near else f"Use one of its pins: {', '.join(sorted(pins))}.",
        )
    directory = os.path.dirname(path)
    reader = os.path.join(directory, _READERS.get(os.path.basename(directory), ""))
    given = {"locked": pins[name]} if os.path.basename(path) == LOCK else {"file": reader, "name": name}
    try:
        asked = evaluator.ask("pins.nix", given, flakes="locked" in given, env=env, named=[directory])
    except OpsError as error:
        error.what = f"the pin {name!r} of {path} can't be fetched"
        error.state = "nothing was evaluated"
        error.next_step = "Correct the error that Nix shows above: fetch it once where the network is reachable."
        raise
    return str(asked.answer)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OpsError(
            f"the pins of {path} can't be read: {error}",
            state="nothing was evaluated",
            next_step="Correct 'nix_path'.",
        ) from error


def _read(path: str, text: str) -> Mapping[str, Any]:
    """Return the pins of a file: the locked inputs of a flake, or what the tool keeps of each pin."""
    try:
        found = json.loads(text)
        if os.path.basename(path) == LOCK:
            return _inputs(found)
        pins = found["pins"] if os.path.basename(os.path.dirname(path)) == "npins" else found
        return {str(name): pin for name, pin in pins.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OpsError(
            f"{path} has no pins that are understood: {type(error).__name__}: {error}",
            state="nothing was evaluated",
            next_step="Write it anew with its own tool, or name another place of nixpkgs.",
        ) from error


def _inputs(lock: Mapping[str, Any]) -> dict[str, Any]:
    if int(lock["version"]) > _LOCK_VERSION:
        raise ValueError(f"version {lock['version']}")
    nodes, root = lock["nodes"], lock["root"]

    def follow(step: str | Sequence[str]) -> str:
        if isinstance(step, str):
            return step
        # What it follows is named by its way from the flake itself.
        node = str(root)
        for name in step:
            node = follow(nodes[node]["inputs"][name])
        return node

    inputs = {str(name): nodes[follow(step)] for name, step in nodes[root].get("inputs", {}).items()}
    return {
        name: {key: value for key, value in node["locked"].items() if key != "dir"} for name, node in inputs.items()
    }
