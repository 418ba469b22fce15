# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembers evaluations of networks as long as nothing that Nix read has changed.

If it is not certain what an evaluation read, it is not remembered beyond the run: correct is more important than fast.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.network.reads import mentions

_SCHEMA = 1
_KEPT = 100
_STORE = "/nix/store/"

# Nix's own files.
_OF_NIX = "<nix/"

# Shell files that our own Nix files read.
_BOOT_GUARD = ("../machine/places.sh", "../activation/shared.sh", "../activation/boot_guard.sh")

# A tree with more entries than this is too large to check every time.
_ENTRIES = 200_000

# The clock of file systems ticks in steps of up to 10 ms.
_TICK = 0.02

_REMOTE = re.compile(r"^([^=]*=)?(https?://|file://|channel:|flake:)")
_INCLUDE = re.compile(r"^\s*!?include\s+(\S+)", re.MULTILINE)
_VARIABLES = re.compile(r"(NIX_|NIXPKGS_).*|HOME|XDG_CONFIG_HOME|XDG_CONFIG_DIRS|NIXOS_CONFIG")


class _Unbounded(Exception):
    """It is not certain what was read."""


@dataclass(frozen=True)
class _Print:
    """The fingerprint of a read, and when its subject last changed."""

    digest: str
    changed: float = 0.0


@dataclass(frozen=True)
class Reads:
    """What an evaluation read, each with its fingerprint.

    :param prints: kind of read, subject and fingerprint.
    :param bounded: whether these are certainly all reads.
    """

    prints: tuple[tuple[str, str, str], ...]
    bounded: bool

    def hold(self, env: Mapping[str, str]) -> bool:
        """Return whether nothing has changed since.

        :param env: variables in addition to the caller's own.
        """
        environment = {**os.environ, **env}
        try:
            return all(_print(kind, subject, environment).digest == was for kind, subject, was in self.prints)
        except (OSError, _Unbounded):
            return False


def key(question: Any, env: Mapping[str, str], own: str) -> str:
    """Return the key of an evaluation.

    :param question: everything that Nix is given, as JSON values; only its hash is kept.
    :param env: variables in addition to the caller's own.
    :param own: directory of our own Nix files.
    """
    environment = {**os.environ, **env}
    nix = shutil.which("nix-instantiate", path=environment.get("PATH"))
    asked = {
        "schema": _SCHEMA,
        "question": question,
        "variables": {name: value for name, value in environment.items() if _VARIABLES.fullmatch(name)},
        "nix": nix and [os.path.realpath(nix), _file(nix).digest],
        "settings": [_file(path).digest for path in _setting_files(environment)],
        "own": [_file(str(path)).digest for path in _own_files(own)],
    }
    return _digest(json.dumps(asked, sort_keys=True).encode())


def _own_files(own: str) -> list[Path]:
    return [*sorted(Path(own).glob("*.nix")), *(Path(own, name) for name in _BOOT_GUARD)]


def reads(
    evaluated: Iterable[str],
    network_files: Sequence[str],
    nix_path: Sequence[str],
    env: Mapping[str, str],
    *,
    started: float,
    own: str,
) -> Reads:
    """Return what an evaluation read.

    :param evaluated: the files that Nix named as evaluated.
    :param network_files: the network's own files.
    :param nix_path: entries of the search path that come before NIX_PATH.
    :param started: when the evaluation began; what changed since then may be newer than the evaluation.
    """
    environment = {**os.environ, **env}
    search_path = _SearchPath(nix_path, environment)
    wanted, bounded = _wanted(evaluated, network_files, search_path, environment, own)
    bounded = bounded and search_path.bounded
    prints = []
    for kind, subject in wanted:
        try:
            seen = _print(kind, subject, environment)
        except (OSError, _Unbounded):
            bounded = False
            continue
        prints.append((kind, subject, seen.digest))
        bounded = bounded and seen.changed < started - _TICK
    return Reads(tuple(prints), bounded)


def load(name: str) -> tuple[dict[str, Any], Reads] | None:
    """Return the answer that is kept for a key, and its reads, unchecked; None if nothing is kept."""
    try:
        kept = json.loads((_directory("evaluations") / name).read_text(encoding="utf-8"))
        return kept["answer"], Reads(tuple((kind, subject, was) for kind, subject, was in kept["reads"]), True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store(name: str, answer: Mapping[str, Any], seen: Reads) -> None:
    """Keep an answer. Does nothing if the directory can't be written."""
    _write(_directory("evaluations"), name, {"answer": answer, "reads": seen.prints})


def load_inputs(network: Any) -> dict[str, dict[str, Any]] | None:
    """Return the inputs with which a network's machines were last evaluated.

    :param network: JSON values that identify the network.
    :returns: the inputs of each machine, unchecked; None if nothing is kept.
    """
    try:
        kept = json.loads((_directory("inputs") / _inputs_name(network)).read_text(encoding="utf-8"))
        return {name: inputs for name, inputs in kept.items() if isinstance(inputs, dict)}
    except (OSError, ValueError, AttributeError):
        return None


def store_inputs(network: Any, inputs: Mapping[str, Mapping[str, str]]) -> None:
    """Keep the inputs for :func:`load_inputs`. Does nothing if the directory can't be written."""
    if inputs != load_inputs(network):
        _write(_directory("inputs"), _inputs_name(network), inputs)


def _inputs_name(network: Any) -> str:
    return _digest(json.dumps([_SCHEMA, network], sort_keys=True).encode())


def _write(directory: Path, name: str, document: Any) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=directory, prefix=".")
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(document, file)
        Path(path).replace(directory / name)
        for old in sorted(directory.glob("[!.]*"), key=lambda entry: entry.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)
    except OSError:
        return


def _directory(kind: str) -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache, "nix.ops", kind).expanduser()


def _wanted(
    evaluated: Iterable[str],
    network_files: Sequence[str],
    search_path: _SearchPath,
    environment: Mapping[str, str],
    own: str,
) -> tuple[dict[tuple[str, str], None], bool]:
    wanted: dict[tuple[str, str], None] = {("entry", entry): None for entry in search_path.paths()}
    for place in (".config/nixpkgs", ".nixpkgs"):
        wanted["tree", os.path.join(environment.get("HOME", "/root"), place)] = None
    bounded = True
    for path in dict.fromkeys(evaluated):
        if path.startswith((_STORE, own + "/", _OF_NIX)):
            continue
        if root := _nixpkgs_around(path, network_files):
            wanted["tree", root] = None
            continue
        wanted["file", path] = None
        if os.path.realpath(path).startswith(_STORE):
            continue
        try:
            found = mentions(Path(path).read_text(encoding="utf-8"), os.path.dirname(path))
        except (OSError, ValueError):
            bounded = False
            continue
        searched = {search_path.find(name) for name in found.searched}
        bounded = bounded and found.bounded and None not in searched
        wanted.update({("tree", tree): None for tree in found.paths | {path for path in searched if path}})
        wanted.update({("string", string): None for string in found.strings})
        wanted.update({("variable", variable): None for variable in found.variables})
    return wanted, bounded


def _nixpkgs_around(path: str, network_files: Sequence[str]) -> str | None:
    """Return the checkout of nixpkgs that a file belongs to; None if it also contains a network file."""
    root = _checkout_above(os.path.dirname(path))
    if root is None or any(file.startswith(root + "/") for file in network_files):
        return None
    return root


@cache
def _checkout_above(directory: str) -> str | None:
    if Path(directory, "nixos/lib/eval-config.nix").exists():
        return directory
    above = os.path.dirname(directory)
    return None if above == directory else _checkout_above(above)


class _SearchPath:
    """The search path of Nix, for names between `<` and `>`."""

    def __init__(self, nix_path: Sequence[str], environment: Mapping[str, str]) -> None:
        self._entries = [*nix_path, *_split_nix_path(environment)]
        self.bounded = not any(_REMOTE.search(entry) for entry in self._entries) and not any(
            "nix-path" in _text(path) for path in _setting_files(environment)
        )

    def paths(self) -> list[str]:
        """Return the paths of all entries."""
        return [entry.split("=", 1)[-1] for entry in self._entries]

    def find(self, name: str) -> str | None:
        """Return the path that a name resolves to; None if no entry has the name."""
        for entry in self._entries:
            prefix, _equals, path = entry.rpartition("=")
            if prefix and name != prefix and not name.startswith(prefix + "/"):
                continue
            candidate = os.path.normpath(os.path.join(path, name[len(prefix) :].lstrip("/")))
            if Path(candidate).exists():
                return candidate
        # <nix/…> is part of Nix itself.
        return os.devnull if name.startswith("nix/") else None


def _split_nix_path(environment: Mapping[str, str]) -> list[str]:
    # Colons separate entries, except in a URL.
    if "NIX_PATH" in environment:
        return [entry for entry in re.split(r":(?!//)", environment["NIX_PATH"]) if entry]
    root_channels = "/nix/var/nix/profiles/per-user/root/channels"
    own_channels = os.path.join(environment.get("HOME", "/root"), ".nix-defexpr/channels")
    return [own_channels, f"nixpkgs={root_channels}/nixpkgs", root_channels]


def _setting_files(environment: Mapping[str, str]) -> list[str]:
    home = environment.get("HOME", "/root")
    user = environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    places = [user, *environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    given = environment.get("NIX_USER_CONF_FILES")
    files = [
        os.path.join(environment.get("NIX_CONF_DIR", "/etc/nix"), "nix.conf"),
        *(given.split(":") if given else (os.path.join(place, "nix/nix.conf") for place in places)),
    ]
    for path in files:
        for included in _INCLUDE.findall(_text(path)):
            found = os.path.join(os.path.dirname(path), included)
            if found not in files:
                files.append(found)
    return files


def _print(kind: str, subject: str, environment: Mapping[str, str]) -> _Print:
    if kind == "variable":
        return _Print(_digest(environment.get(subject, "").encode()))
    return {"file": _file, "tree": _tree, "string": _string, "entry": _entry}[kind](subject)


def _file(path: str) -> _Print:
    """Return the fingerprint of a file: its content, or its path if it is in the store."""
    real = os.path.realpath(path)
    if real.startswith(_STORE):
        return _Print(real)
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            return _Print(_digest(file.read()), max(status.st_mtime, status.st_ctime))
    except (FileNotFoundError, NotADirectoryError):
        return _Print("absent")


def _tree(path: str) -> _Print:
    """Return the fingerprint of a tree: a file's content, or the metadata of all files of a directory."""
    real = os.path.realpath(path)
    if real.startswith(_STORE) or not Path(path).is_dir():
        return _file(path) if Path(path).exists() else _Print("absent")
    hashed = hashlib.sha256(real.encode())
    changed = 0.0
    for count, (name, status) in enumerate(_walk(path, real)):
        if count > _ENTRIES:
            raise _Unbounded(path)
        changed = max(changed, status.st_ctime)
        seen = (name, status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        hashed.update(repr(seen).encode(errors="surrogateescape"))
    return _Print(hashed.hexdigest(), changed)


def _walk(directory: str, top: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode) and not os.path.realpath(entry.path).startswith((top + "/", _STORE)):
            raise _Unbounded(entry.path)
        if entry.name == ".git":
            yield from _revision(entry.path, status)
            continue
        yield entry.path, status
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(entry.path, top)


def _revision(path: str, status: os.stat_result) -> Iterator[tuple[str, os.stat_result]]:
    """List the files that define a repository's revision. Git commands that only read change the others."""
    if not stat.S_ISDIR(status.st_mode):
        raise _Unbounded(path)
    for kept in (Path(path, "HEAD"), Path(path, "packed-refs")):
        if kept.exists():
            yield str(kept), kept.stat()
    refs = Path(path, "refs")
    if refs.is_dir():
        yield from _walk(str(refs), path)


def _string(path: str) -> _Print:
    """Return the fingerprint of a path in a string: most of these paths are places on a machine."""
    if Path(path).is_file():
        return _file(path)
    return _Print("directory" if Path(path).is_dir() else "absent")


def _entry(path: str) -> _Print:
    """Return the fingerprint of an entry of the search path: the names that it has."""
    entry = Path(path)
    offered = sorted((one.name, os.path.realpath(one)) for one in entry.iterdir()) if entry.is_dir() else []
    return _Print(_digest(repr((os.path.realpath(path), entry.exists(), offered)).encode()))


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
