# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the copies of nixpkgs that a new deployment can use."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import pins, settings

NAME = "nixpkgs"
_PINS = {pins.NPINS: "npins", pins.NIV: "niv", pins.LOCK: "the flake's lock file"}
_CHANNEL = re.compile(r"nixos-[a-z0-9][a-z0-9.-]*|nixpkgs-unstable")
_URL = re.compile(r"[a-z][a-z0-9+.-]*:")


@dataclass(frozen=True)
class Nixpkgs:
    """A copy of nixpkgs that was found.

    :param place: the place in an entry of the search path; a relative path starts at the directory that was searched.
    :param kind: what names it, for people.
    """

    place: str
    kind: str

    @property
    def entry(self) -> str:
        """The entry of the search path."""
        return f"{NAME}={self.place}"

    def __str__(self) -> str:
        return f"{self.place} ({self.kind})"


def find(directory: str, environment: Mapping[str, str]) -> list[Nixpkgs]:
    """Find the copies of nixpkgs, the pinned ones that lie in a directory first.

    Neither fetches nor evaluates anything.

    :param environment: all variables of Nix.
    """
    known: dict[str, Nixpkgs] = {}
    for one in (*_pinned(directory), *_searched(environment), *_registered(environment)):
        known.setdefault(os.path.realpath(os.path.join(directory, os.path.expanduser(one.place))), one)
    return list(known.values())


def is_named(nix_path: Sequence[str]) -> bool:
    """Return whether an entry of a search path names a nixpkgs, or may have one."""
    return any("=" not in entry or entry.startswith(f"{NAME}=") for entry in nix_path)


def question(found: Sequence[Nixpkgs]) -> str:
    """Return the question for a nixpkgs."""
    if not found:
        return f"No {NAME} was found. Its path, its URL or its channel"
    listed = "".join(f"  {number}. {one}\n" for number, one in enumerate(found, 1))
    return f"These {NAME} were found:\n{listed}A number, or the path, URL or channel of another one [1]"


def choose(found: Sequence[Nixpkgs], answer: str | None, directory: str) -> Nixpkgs:
    """Return the nixpkgs that a user's answer means; the first that was found if the answer is empty.

    :param answer: the answer; None if the user was not asked.
    :param directory: where relative paths start.
    :raises OpsError: if the answer means none.
    """
    if not answer:
        if found:
            return found[0]
        raise OpsError(
            f"there is no {NAME} on this controller" if answer is None else f"no {NAME} was named",
            state="nothing was written",
            next_step=f"{nix.INSTALL} -e install_nixpkgs=CHANNEL, as in nixos-25.05, or name one:"
            f" -e nix_path={NAME}=PATH.",
        )
    if answer.isdecimal():
        if not 1 <= int(answer) <= len(found):
            raise OpsError(
                f"there is no {NAME} number {answer}", state="nothing was written", next_step="Run the same again."
            )
        return found[int(answer) - 1]
    return of_answer(answer, directory)


def of_answer(answer: str, directory: str) -> Nixpkgs:
    """Return the nixpkgs that a user names: by a path, a URL, or the name of a channel.

    :param directory: where relative paths start.
    :raises OpsError: if there is no such directory.
    """
    answer = answer.strip().removeprefix(f"{NAME}=")
    if _CHANNEL.fullmatch(answer):
        return Nixpkgs(f"channel:{answer}", "a channel")
    if _URL.match(answer):
        return Nixpkgs(answer, "a URL")
    place = os.path.join(directory, os.path.expanduser(answer))
    if "#" not in answer and not Path(place, "nixos/lib/eval-config.nix").exists():
        raise OpsError(
            f"there is no nixpkgs in {place}",
            state="nothing was written",
            next_step="Name the directory that has nixpkgs' nixos/lib/eval-config.nix, a URL, or a channel.",
        )
    return Nixpkgs(answer, "a path")


def _pinned(directory: str) -> Iterator[Nixpkgs]:
    for file, kind in _PINS.items():
        path = os.path.join(directory, file)
        try:
            names = pins.names(path) if Path(path).exists() else []
        except OpsError:
            # A file that is not understood is not the only place.
            continue
        if NAME in names:
            yield Nixpkgs(f"{file}#{NAME}", kind)


def _searched(environment: Mapping[str, str]) -> Iterator[Nixpkgs]:
    """Find what Nix itself takes: of NIX_PATH, or of the channels."""
    home = environment.get("HOME") or "~"
    for entry in settings.search_path((), environment):
        place = entry["path"] if entry["prefix"] else os.path.join(entry["path"], NAME)
        if entry["prefix"] not in ("", NAME):
            continue
        if entry["prefix"] and _URL.match(place):
            yield Nixpkgs(place, "NIX_PATH")
            return
        if Path(place).exists():
            is_own = home != "/" and place.startswith(f"{home}/")
            kind = "NIX_PATH" if "NIX_PATH" in environment else "a channel"
            # Another user has the same channel at the same place below another home.
            yield Nixpkgs(f"~{place.removeprefix(home)}" if is_own and kind == "a channel" else place, kind)
            return


def _registered(environment: Mapping[str, str]) -> Iterator[Nixpkgs]:
    """Find the entries of the user's and the system's flake registries. The global registry needs the network."""
    home = environment.get("HOME") or "/root"
    user = environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    system = environment.get("NIX_CONF_DIR") or "/etc/nix"
    for file in (os.path.join(user, "nix/registry.json"), os.path.join(system, "registry.json")):
        for entry in _entries(file):
            if place := _place(entry):
                yield Nixpkgs(place, f"the flake registry {file}")
                return


def _entries(file: str) -> list[Mapping[str, Any]]:
    try:
        flakes = json.loads(Path(file).read_text(encoding="utf-8"))["flakes"]
        return [one["to"] for one in flakes if one["from"] == {"type": "indirect", "id": NAME}]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _place(to: Mapping[str, Any]) -> str | None:
    """Return the place of a flake; None if an entry of the search path can't have it."""
    kind, path, url = (str(to.get(name, "")) for name in ("type", "path", "url"))
    if kind == "path" and Path(path).is_dir():
        return path
    if kind == "tarball" and _URL.match(url):
        return url
    if kind == "github" and "host" not in to:
        version = str(to.get("rev") or to.get("ref") or "HEAD")
        return f"https://github.com/{to.get('owner')}/{to.get('repo')}/archive/{version}.tar.gz"
    return None
