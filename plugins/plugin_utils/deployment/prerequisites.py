# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks what a controller needs before its first deployment: Nix, its build users, and ssh with a key."""

from __future__ import annotations

import grp
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import settings

_OLDEST = (2, 8)
_VERSION = re.compile(r" (\d+)\.(\d+)\S*$")
_GROUP = "nixbld"

_NO_SSH = f"ssh is not on the controller's PATH; install it with {nix.INSTALL}"
_NO_KEY = (
    "no SSH key was found in ~/.ssh or in an agent: make one with ssh-keygen -t ed25519, and put ~/.ssh/id_ed25519.pub"
    " into users.users.root.openssh.authorizedKeys.keys of each machine"
)


def check(environment: Mapping[str, str]) -> None:
    """Check that Nix can evaluate and build.

    :param environment: variables of Nix in addition to the caller's own.
    :raises OpsError: if Nix is missing or too old, or its group of build users is missing.
    """
    [line, *_more] = nix.lines(["nix-store", "--version"], "Nix does not tell its version", env=environment) or [""]
    version = _VERSION.search(line)
    if version is None or tuple(map(int, version.groups())) < _OLDEST:
        raise OpsError(
            f"Nix {'.'.join(map(str, _OLDEST))} or later is needed, and nix-store is: {line}",
            state="nothing was written",
            next_step="Install a newer Nix (https://nixos.org/download), then run the same again.",
        )
    if group := _missing_group({**os.environ, **environment}):
        raise OpsError(
            f"the group {group!r} of Nix's build users is missing or has no users, so Nix can't build as root",
            state="nothing was written",
            next_step=nix.INSTALL,
        )


def hints(environment: Mapping[str, str]) -> list[str]:
    """Return what a deploy will miss to log in to a machine, line by line.

    :param environment: all variables.
    """
    if shutil.which("ssh", path=environment.get("PATH")) is None:
        return [_NO_SSH]
    return [] if _has_key(environment) else [_NO_KEY]


def _missing_group(environment: Mapping[str, str]) -> str | None:
    """Return the group that Nix needs in order to build as root, if it is missing."""
    if os.geteuid() != 0 or environment.get("NIX_REMOTE", "auto") not in ("", "auto", "local", "daemon"):
        return None
    if settings.value_of("auto-allocate-uids", environment) == "true":
        return None
    group = settings.value_of("build-users-group", environment)
    name = _GROUP if group is None else group
    return name if name and not _members(name) else None


def _members(group: str) -> list[str]:
    try:
        return grp.getgrnam(group).gr_mem
    except KeyError:
        return []


def _has_key(environment: Mapping[str, str]) -> bool:
    directory = Path(environment.get("HOME") or "~").expanduser() / ".ssh"
    try:
        configured = "identityfile" in (directory / "config").read_text(encoding="utf-8", errors="replace").lower()
    except OSError:
        configured = False
    return configured or bool(environment.get("SSH_AUTH_SOCK")) or any(directory.glob("id_*"))
