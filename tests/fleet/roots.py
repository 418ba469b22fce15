# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layers that machines share: a Debian root without Python, and a first system over it."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from .host import HERE, FleetError, call, locked

DEBIANS = ("bookworm", "trixie")
FISH = "/usr/bin/fish"

_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    # A login is a session with a user manager, as on NixOS.
    "libpam-systemd",
    "openssh-server",
    "nix-bin",
    "iproute2",
    "sudo",
    "procps",
    "libnss-myhostname",
    # What fish needs, which is unpacked without its dependencies (root-setup.sh).
    "libpcre2-32-0",
    "libtinfo6",
    "libstdc++6",
)
# Where Nix has no daemon, there need not be a group of build users.
_NIX_OPTIONS = (
    *("--option", "substituters", ""),
    *("--option", "build-users-group", ""),
    *("--option", "sandbox", "false"),
)
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")


def cache_directory() -> Path:
    """:returns: where the layers are kept between fleets."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nix-ops-fleet"


def root(debian: str) -> Path:
    """:returns: the Debian root of this release, made now if it is not in the cache."""
    if debian not in DEBIANS:
        raise FleetError(f"There is no root {debian!r}; there are {', '.join(DEBIANS)}.")
    setup = HERE / "root-setup.sh"
    recipe = _hash(debian, *_PACKAGES, *_LEFT_OUT, setup.read_text())
    roots = cache_directory() / "roots"
    made = roots / f"{debian}-{recipe}"

    def make(unfinished: Path) -> None:
        print(f"Making a Debian root: {debian}", file=sys.stderr)
        call(
            [
                *("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--format=directory"),
                '--aptopt=Apt::Install-Recommends "false"',
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
                f"--include={','.join(_PACKAGES)}",
                f"--customize-hook={setup}",
                *(debian, str(unfinished), *_sources(debian)),
            ]
        )
        _refuse_python(unfinished)

    return made_once(made, debian, make)


def made_once(made: Path, name: str, make: Callable[[Path], object]) -> Path:
    """Have a directory of the cache made, unless it is there; whoever needs it meanwhile waits.

    :param made: where it is to be.
    :param name: what it is one of, of which one is made at a time.
    :param make: makes it at the path it is given, which holds nothing that counts.
    :returns: ``made``.
    """
    with locked(made.with_name(f"{name}.lock")):
        if not made.exists():
            unfinished = made.with_name(f"{name}.tmp")
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(made)
    return made


def first_toplevel() -> Path:
    """:returns: the toplevel that a new machine boots, built from ``configuration.nix``."""
    nixpkgs = HERE.parent / "nixpkgs"
    built = call(
        [
            *("nix-build", str(nixpkgs / "nixos"), "--no-out-link", "--attr", "system"),
            *("-I", f"nixpkgs={nixpkgs}", "-I", f"nixos-config={HERE / 'configuration.nix'}"),
            *_NIX_OPTIONS,
        ]
    )
    return Path(built.stdout.strip())


def provisioned(debian: str, toplevel: Path) -> tuple[Path, ...]:
    """:returns: the layers of a machine that has ``toplevel`` as its generation 1, lowest last."""
    base = root(debian)
    script, stage1 = HERE / "provision.sh", HERE / "stage-1.sh"
    recipe = _hash(base.name, str(toplevel), script.read_text(), stage1.read_text())
    systems = cache_directory() / "systems"
    made = systems / f"{debian}-{recipe}"
    made_once(made, debian, lambda unfinished: _provision([script, base, unfinished, toplevel, stage1], toplevel))
    return made / "upper", base


def _provision(command: list[Path], toplevel: Path) -> None:
    closure = call(["nix-store", "--query", "--requisites", toplevel]).stdout.split()
    with subprocess.Popen(["nix-store", "--export", *_NIX_OPTIONS, *closure], stdout=subprocess.PIPE) as export:
        done = subprocess.run(
            ["unshare", "--mount", *command], stdin=export.stdout, capture_output=True, text=True, check=False
        )
    if done.returncode != 0 or export.returncode != 0:
        raise FleetError(f"The first system could not be put into a root:\n{done.stdout}{done.stderr}".rstrip())


def _sources(debian: str) -> list[str]:
    """Turn the host's own package sources into those of a release."""
    host = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    listed = call(
        [
            *("apt-get", "indextargets", "--no-release-info"),
            *("--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"),
        ]
    )
    sources = []
    for line in dict.fromkeys(listed.stdout.splitlines()):
        site, release, component = line.split()
        if component == "main" and release in (host, f"{host}-updates", f"{host}-security"):
            sources.append(f"deb {site} {release.replace(host, debian)} {component}")
    if not sources:
        raise FleetError(
            "apt knows no source of this computer's own Debian release, which the machines' roots are made from."
        )
    return sources


def _refuse_python(made: Path) -> None:
    found = [path for path in _programs(made) if path.name.startswith(("python", "pypy"))]
    if found:
        raise FleetError(f"A machine must have no Python, but the root has {found[0].relative_to(made)}.")


def _programs(made: Path) -> Iterator[Path]:
    for directory in ("usr/bin", "usr/sbin", "usr/local/bin", "opt"):
        yield from (made / directory).rglob("*")


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
