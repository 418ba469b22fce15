# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps private SSH keys out of the Nix store, where all users could read them.

A key that is encrypted by ansible-vault does not count.
"""

from __future__ import annotations

import filecmp
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

_PRIVATE = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_LOCAL_FLAKE = re.compile(r"(?:path:|git\+file:(?://)?)?(/[^?#]*).*")

_ELSEWHERE = (
    "Move the keys out of that directory, and name their place by 'ssh_keys' of the source. Without it they are"
    " in the user's home. Or encrypt them by ansible-vault."
)


def private_keys(directory: str | None) -> tuple[str, ...]:
    """Return the real paths of the private keys in a directory that are not encrypted."""
    if directory is None:
        return ()
    try:
        files = sorted(entry.path for entry in os.scandir(directory) if entry.is_file())
    except OSError:
        return ()
    return tuple(os.path.realpath(path) for path in files if _is_private(path))


def covered(path: str, keys: Iterable[str]) -> str | None:
    """Return a private key that is at a path or below it, if there is one."""
    real = os.path.realpath(path)
    return next((key for key in keys if f"{key}/".startswith(f"{real}/")), None)


def refuse(key: str, what: str) -> OpsError:
    """Return the error for a private key that would get into the store.

    :param what: what would copy it.
    """
    return OpsError(
        f"{what} would copy the private key {key} into the Nix store, where all users can read it",
        state="nothing was copied",
        next_step=_ELSEWHERE,
    )


def check_flake(reference: str, keys: Sequence[str]) -> None:
    """Refuse a flake whose source has private keys: Nix copies all of its source into the store.

    :raises OpsError: naming the first key.
    """
    local = _LOCAL_FLAKE.fullmatch(reference)
    key = covered(local[1], keys) if local else None
    if local is None or key is None:
        return
    is_repository = not reference.startswith("path:") and Path(local[1], ".git").exists()
    tracked = [one for one in keys if _is_tracked(one)] if is_repository else [key]
    if tracked:
        raise refuse(tracked[0], f"the flake {reference}")


def check_store(derivations: Sequence[str], keys: Sequence[str], *, env: Mapping[str, str]) -> None:
    """Refuse derivations of whose sources one has a private key.

    :param derivations: paths in the controller's store.
    :raises OpsError: naming the key and its copy.
    """
    if not keys or not derivations:
        return
    sizes: dict[int, list[str]] = {}
    for key in keys:
        sizes.setdefault(os.stat(key).st_size, []).append(key)
    for source in nix.requisites(derivations, env=env):
        for path in () if source.endswith(".drv") else _files_of(source):
            candidates = sizes.get(os.lstat(path).st_size, [])
            if found := [key for key in candidates if filecmp.cmp(path, key, shallow=False)]:
                raise OpsError(
                    f"the private key {found[0]} is in the Nix store, where all users can read it: {path}",
                    state="no machine was touched",
                    next_step=f"{_ELSEWHERE} This key may have been read, so replace it by a new one. Remove the copy:"
                    f" nix-store --delete {source}",
                )


def _files_of(source: str) -> Iterator[str]:
    if os.path.isfile(source) and not os.path.islink(source):
        yield source
    for directory, _directories, names in os.walk(source):
        for name in names:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                yield path


def _is_private(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return bool(_PRIVATE.match(file.read(80)))
    except OSError:
        return False


def _is_tracked(path: str) -> bool:
    directory, name = os.path.split(path)
    argv = ["git", "-C", directory, "ls-files", "--error-unmatch", "--", name]
    try:
        return subprocess.run(argv, check=False, capture_output=True).returncode == 0
    except OSError:
        # Without Git, Nix can't read the flake either.
        return False
