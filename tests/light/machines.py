# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roots of machines, and an ssh that leads into them.

Each machine is a directory over the fleet's layers. Its commands run in a chroot; a stand-in of systemd-run runs the
activation. All mounts are in the mount namespace of the process, so that they end with it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from fleet import roots

HERE = Path(__file__).resolve().parent
NETWORK = HERE / "network"
_DEBIAN = "bookworm"
_MS_BIND = 4096
_LIBC = ctypes.CDLL(None, use_errno=True)


class LightMachines:
    """Machines by the names machine0, machine1 and so on.

    :param directory: where they are kept.
    """

    def __init__(self, directory: Path, count: int) -> None:
        self.directory = directory
        self.names = [f"machine{index}" for index in range(count)]
        (directory / "dead").mkdir(parents=True)
        self._programs = directory / "bin"
        self._programs.mkdir()
        shutil.copy(HERE / "ssh.sh", self._programs / "ssh")

    @property
    def times(self) -> Path:
        """The processor times of the commands that were run on machines, as times(1) of the shell prints them."""
        return self.directory / "times"

    def variables(self) -> dict[str, str]:
        """Return the variables by which ssh leads to the machines."""
        return {"NIX_OPS_LIGHT": str(self.directory), "PATH": f"{self._programs}:{os.environ['PATH']}"}

    def make(self) -> None:
        """Make all machines, with the fleet's first system."""
        toplevel = roots.first_toplevel()
        layers = [self._stand_ins(toplevel), *roots.provisioned(_DEBIAN, toplevel)]
        for name in self.names:
            self._make(self.directory / "machines" / name, layers)

    def lose(self, names: Iterable[str]) -> None:
        """Let exactly these machines take no connections."""
        dead = self.directory / "dead"
        for one in dead.iterdir():
            one.unlink()
        for name in names:
            (dead / name).touch()

    def seconds(self) -> float:
        """Return the processor time of the commands that were run on machines."""
        words = self.times.read_text().split() if self.times.exists() else []
        return sum(int(minutes) * 60 + float(seconds[:-1]) for minutes, seconds in (word.split("m") for word in words))

    def _stand_ins(self, toplevel: Path) -> Path:
        """Make the layer that makes the Debian root of the fleet look like a NixOS machine."""
        layer = self.directory / "layer"
        (layer / "usr/bin").mkdir(parents=True)
        (layer / "etc").mkdir()
        (layer / "run/systemd/system").mkdir(parents=True)
        for name in ("systemctl", "systemd-run"):
            shutil.copy(HERE / f"{name}.sh", layer / "usr/bin" / name)
        (layer / "etc/os-release").write_text('ID=nixos\nVERSION_ID="24.05"\n')
        for link in ("current-system", "booted-system"):
            (layer / "run" / link).symlink_to(toplevel)
        return layer

    def _make(self, directory: Path, layers: list[Path]) -> None:
        upper, work, root = (directory / name for name in ("upper", "work", "root"))
        for one in (upper, work, root):
            one.mkdir(parents=True)
        lower = ":".join(map(str, layers))
        _mount("overlay", root, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")
        for shared in ("proc", "dev"):
            _mount(f"/{shared}", root / shared, None, _MS_BIND, None)


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str | None) -> None:
    """Mount without mount(8), which reads the list of all mounts each time."""
    words = [None if word is None else word.encode() for word in (source, str(target), kind)]
    data = None if options is None else options.encode()
    if _LIBC.mount(*words, ctypes.c_ulong(flags), data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
