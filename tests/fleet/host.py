# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fleet needs of the computer it runs on."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent

_PACKAGES = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "mkfs.ext4": "e2fsprogs",
    "nix-build": "nix-bin",
    "nsenter": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}

# Each machine's systemd takes about ten of them, and Linux gives root 128 in all.
_WATCHERS = Path("/proc/sys/fs/inotify/max_user_instances")
_ENOUGH_WATCHERS = 4096


class FleetError(Exception):
    """The fleet can not do what it was asked; the text says what to do about it."""


def require_host() -> None:
    """Check that this computer can run machines, and let it run many.

    :raises FleetError: naming the Debian packages that are missing.
    """
    if os.geteuid() != 0:
        raise FleetError("The fleet makes namespaces and mounts: run it as root.")
    missing = sorted({package for tool, package in _PACKAGES.items() if shutil.which(tool) is None})
    if missing:
        raise FleetError(f"Missing on this computer: install the Debian packages {' '.join(missing)}.")
    with suppress(OSError):
        if int(_WATCHERS.read_text()) < _ENOUGH_WATCHERS:
            _WATCHERS.write_text(str(_ENOUGH_WATCHERS))


def call(
    argv: Sequence[str | os.PathLike[str]],
    *,
    stdin: bytes = b"",
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command of the host to its end.

    :raises FleetError: with all that the command said, when it failed or took too long.
    """
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as late:
        said = b"".join((late.stdout or b"", late.stderr or b"")).decode(errors="replace")
        raise FleetError(f"Took longer than {timeout} s: {_shown(argv)}\n{said}".rstrip()) from late
    result = subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
    if check and result.returncode != 0:
        raise FleetError(f"Ended with {result.returncode}: {_shown(argv)}\n{result.stdout}{result.stderr}".rstrip())
    return result


def _shown(argv: Sequence[str | os.PathLike[str]]) -> str:
    return " ".join(os.fspath(word) for word in argv)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; a process that dies lets go of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read, in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
