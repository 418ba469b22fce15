# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps evaluations of networks, with what they read, for later runs."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.network import fingerprint, place
from ansible_collections.nix.ops.plugins.plugin_utils.network.bounds import Bounds
from ansible_collections.nix.ops.plugins.plugin_utils.network.fingerprint import Reads
from ansible_collections.nix.ops.plugins.plugin_utils.network.settings import setting_files

_SCHEMA = 2

# Shell files that our own Nix files read.
_BOOT_GUARD = ("../machine/places.sh", "../activation/shared.sh", "../activation/boot_guard.sh")

_VARIABLES = re.compile(r"(NIX_|NIXPKGS_).*|HOME|XDG_CONFIG_HOME|XDG_CONFIG_DIRS|NIXOS_CONFIG")


@dataclass(frozen=True)
class Kept:
    """What is kept of the last evaluation for a key.

    :param reads: what it read. Without an answer: Nix can't be kept within bounds as long as they hold.
    :param answer: the answer of Nix. None if it is not kept.
    :param messages: Nix's warnings and traces.
    :param is_volatile: whether the answer can change at any time.
    """

    reads: Reads | None = None
    answer: Mapping[str, Any] | None = None
    messages: tuple[str, ...] = ()
    is_volatile: bool = False

    def is_answer(self, environment: Mapping[str, str]) -> bool:
        """Return whether this is still the answer."""
        return self.answer is not None and self.reads is not None and self.reads.hold(environment)

    def is_refusal(self, environment: Mapping[str, str]) -> bool:
        """Return whether Nix would still need to read more than can be allowed."""
        return self.answer is None and self.reads is not None and self.reads.hold(environment)


def key(question: Any, environment: Mapping[str, str], own: str) -> str:
    """Return the key of an evaluation.

    :param question: everything that Nix is given, as JSON values; only its hash is kept.
    :param environment: all variables of the evaluation.
    :param own: directory of our own Nix files.
    """
    nix = shutil.which("nix-instantiate", path=environment.get("PATH"))
    asked = {
        "schema": _SCHEMA,
        "question": question,
        "variables": {name: value for name, value in environment.items() if _VARIABLES.fullmatch(name)},
        "nix": nix and fingerprint.file(nix).digest,
        "settings": [fingerprint.file(path).digest for path in setting_files(environment)],
        "own": [fingerprint.file(str(path)).digest for path in _own_files(own)],
    }
    return _hash(asked)


def load(name: str) -> Kept | None:
    """Return what is kept for a key, unchecked; None if nothing is."""
    try:
        kept = json.loads((place.directory("evaluations") / name).read_text(encoding="utf-8"))
        digests = kept["reads"]
        reads = None if digests is None else Reads(tuple((kind, subject, digest) for kind, subject, digest in digests))
        return Kept(reads, kept["answer"], tuple(map(str, kept["messages"])), kept["volatile"] is True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_kept() -> bool:
    """Return whether evaluations can be kept: whether the directory can be written."""
    directory = place.directory("evaluations")
    with suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.access(directory, os.W_OK | os.X_OK)


def store(name: str, kept: Kept) -> None:
    """Keep an evaluation. Does nothing if the directory can't be written."""
    reads = None if kept.reads is None else kept.reads.digests
    answer = {"answer": kept.answer, "messages": kept.messages}
    document = {"reads": reads, "volatile": kept.is_volatile, **answer}
    _write("evaluations", name, document)


def load_bounds(network: Any) -> Bounds:
    """Return what the last evaluation of a network had to read.

    :param network: JSON values that identify the network.
    """
    try:
        kept = json.loads((place.directory("bounds") / _name_of(network)).read_text(encoding="utf-8"))
        return Bounds(*(tuple(map(str, kept[kind])) for kind in ("links", "trees", "files")))
    except (OSError, ValueError, KeyError, TypeError):
        return Bounds()


def store_bounds(network: Any, bounds: Bounds) -> None:
    """Keep the bounds for :func:`load_bounds`. Does nothing if the directory can't be written."""
    if replace(bounds, private=()) != load_bounds(network):
        kept = {"links": bounds.links, "trees": bounds.trees, "files": bounds.files}
        _write("bounds", _name_of(network), kept)


def load_definitions(network: Any) -> tuple[int, Mapping[str, Any]] | None:
    """Return the definitions with which a network last evaluated.

    :param network: JSON values that identify the network.
    :returns: the time in seconds since 1970, and the answer of Nix, unchecked; None if nothing is kept.
    """
    try:
        kept = json.loads((place.directory("definitions") / _name_of(network)).read_text(encoding="utf-8"))
        return int(kept["time"]), dict(kept["answer"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store_definitions(network: Any, answer: Mapping[str, Any], *, now: int) -> None:
    """Keep definitions for :func:`load_definitions`. Does nothing if the directory can't be written."""
    _write("definitions", _name_of(network), {"time": now, "answer": answer})


def load_inputs(network: Any) -> dict[str, dict[str, Any]] | None:
    """Return the inputs with which a network's machines were last evaluated.

    :param network: JSON values that identify the network.
    :returns: the inputs of each machine, unchecked; None if nothing is kept.
    """
    try:
        kept = json.loads((place.directory("inputs") / _name_of(network)).read_text(encoding="utf-8"))
        return {name: inputs for name, inputs in kept.items() if isinstance(inputs, dict)}
    except (OSError, ValueError, AttributeError):
        return None


def store_inputs(network: Any, inputs: Mapping[str, Mapping[str, str]]) -> None:
    """Keep the inputs for :func:`load_inputs`. Does nothing if the directory can't be written."""
    if inputs != load_inputs(network):
        _write("inputs", _name_of(network), inputs)


def load_cost(network: Any) -> dict[str, float] | None:
    """Return what evaluating the network's systems has cost, unchecked; None if that is not kept."""
    try:
        kept = json.loads((place.directory("costs") / _name_of(network)).read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in kept.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def store_cost(network: Any, cost: Mapping[str, float]) -> None:
    """Keep the cost for :func:`load_cost`. Does nothing if the directory can't be written."""
    _write("costs", _name_of(network), cost)


def _name_of(network: Any) -> str:
    return _hash([1, network])


def _write(kind: str, name: str, document: Any) -> None:
    place.write(kind, name, json.dumps(document).encode())


def _own_files(own: str) -> list[Path]:
    return [*sorted(Path(own).glob("*.nix")), *(Path(own, name) for name in _BOOT_GUARD)]


def _hash(document: Any) -> str:
    return fingerprint.digest(json.dumps(document, sort_keys=True).encode())
