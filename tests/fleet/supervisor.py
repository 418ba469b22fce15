# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The power supply of one machine: mounts its disk, boots it, and boots it again after a reboot or a power cut.

It is process 1 of a process and mount namespace of its own, so that killing it takes the machine, its
mounts and its loop devices away together, and nothing is ever left behind. Run as a program with the machine's
directory as its argument; reads ``plan.json`` there and writes ``state.json``.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
REBOOT = 133
STAY_DOWN = "stay-down"
# What a root that is new at each boot keeps.
_KEPT = ("nix", "boot")
_NSPAWN_RUN = Path("/run/systemd/nspawn")


class Supervisor:
    """One machine's disk and process 1.

    :param directory: the machine's directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._plan: dict[str, Any] = json.loads((directory / "plan.json").read_text())
        self._root = directory / "root"
        self._boots = 0
        # Where systemd is the host's process 1, it made the cgroup that we are in.
        self._cgroups = [Path(made) for made in self._plan["cgroups"]] or [_own_cgroup()]
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # An abstract name is bound to the network namespace, not to a path of limited length.
        self._notify.bind(f"\0nix-ops-fleet/{self._plan['namespace']}")

    def run(self) -> None:
        """Keep the machine running until it is powered off."""
        # Beside the machine's cgroup and not above it: one that has processes can't hand its controllers down.
        self._enter_cgroups("supervisor")
        self._mount()
        self._populate()
        while True:
            exit_code = self._boot()
            if (self._directory / STAY_DOWN).exists() or not (exit_code == REBOOT or exit_code < 0):
                break
        self._say("stopped", exit_code=exit_code)

    def _mount(self) -> None:
        for name in ("root", "upper", "work"):
            (self._directory / name).mkdir(exist_ok=True)
        layers = ":".join(self._plan["layers"])
        options = f"lowerdir={layers},upperdir={self._directory / 'upper'},workdir={self._directory / 'work'}"
        # With redirects a directory of a lower layer can be renamed, as Nix does when it collects garbage.
        _call("mount", "-t", "overlay", "overlay", "-o", f"{options},redirect_dir=on", str(self._root))
        if self._plan["store_mib"]:
            self._mount_store()
        elif self._plan["wiped"] and not (self._directory / "kept").exists():
            for name in _KEPT:
                _call("mkdir", "-p", f"{self._directory}/kept/{name}")
                _call("cp", "-a", f"{self._root}/{name}/.", f"{self._directory}/kept/{name}")

    def _wipe(self) -> None:
        _call("umount", str(self._root))
        for name in ("upper", "work"):
            shutil.rmtree(self._directory / name)
        (self._directory / "populated").unlink()
        self._mount()
        self._populate()

    def _mount_store(self) -> None:
        image, mounted = self._directory / "store.img", self._directory / "nix"
        mounted.mkdir(exist_ok=True)
        fresh = not image.exists()
        if fresh:
            with image.open("wb") as file:
                file.truncate(self._plan["store_mib"] * 1024 * 1024)
            # Without a journal and a reserve, the room is what was asked for.
            _call("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", "-N", "8192", str(image))
        _call("mount", "-o", "loop", str(image), str(mounted))
        if fresh:
            _call("cp", "-a", f"{self._root}/nix/.", str(mounted))

    def _populate(self) -> None:
        done = self._directory / "populated"
        if done.exists():
            return
        for name, entry in self._plan["files"].items():
            file = self._root / name
            file.parent.mkdir(mode=0o700, exist_ok=True)
            file.write_text(entry["text"])
            file.chmod(entry["mode"])
        chroot = ("chroot", str(self._root))
        _call(*chroot, "/bin/sh", "-s", "--", *self._plan["populate"], stdin=(HERE / "populate.sh").read_text())
        if self._plan["password"]:
            _call(*chroot, "/usr/sbin/chpasswd", stdin=f"{self._plan['user']}:{self._plan['password']}\n")
        done.touch()

    def _boot(self) -> int:
        self._boots += 1
        if self._plan["wiped"] and self._boots > 1:
            self._wipe()
        self._forget_last_boot()
        self._enter_cgroups("machine")
        with subprocess.Popen(self._nspawn(), stdin=subprocess.DEVNULL, env=self._environment()) as machine:
            self._enter_cgroups("supervisor")
            self._say("booting")
            with selectors.DefaultSelector() as events:
                events.register(self._notify, selectors.EVENT_READ)
                ended = os.pidfd_open(machine.pid)
                events.register(ended, selectors.EVENT_READ)
                while not any(key.fd == ended for key, _events in events.select()):
                    if b"READY=1" in self._notify.recv(4096).split(b"\n"):
                        self._say("ready")
                os.close(ended)
            exit_code = machine.wait()
        self._say("off")
        self._reap()
        return exit_code

    def _forget_last_boot(self) -> None:
        # What nspawn mounts here by the machine's name is in its way after a power cut, and would stay on the host.
        _NSPAWN_RUN.mkdir(parents=True, exist_ok=True)
        if _NSPAWN_RUN.is_mount():
            _call("umount", "--recursive", str(_NSPAWN_RUN))
        _call("mount", "-t", "tmpfs", "tmpfs", str(_NSPAWN_RUN))

    def _nspawn(self) -> list[str]:
        small = ["--bind", f"{self._directory / 'nix'}:/nix"] if self._plan["store_mib"] else []
        kept = [f"--bind={self._directory}/kept/{name}:/{name}" for name in _KEPT] if self._plan["wiped"] else []
        return [
            *("systemd-nspawn", "--quiet", "--settings=no", "--register=no", "--keep-unit"),
            *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--notify-ready=yes"),
            *("--console=read-only", "--kill-signal=SIGRTMIN+3"),
            *("--directory", str(self._root), "--machine", self._plan["name"], "--uuid", self._plan["machine_id"]),
            f"--network-namespace-path=/run/netns/{self._plan['namespace']}",
            # Its addresses are its own affair, as on any computer.
            "--capability=CAP_NET_ADMIN",
            *small,
            *kept,
            "/sbin/init",
        ]

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "NOTIFY_SOCKET": f"@nix-ops-fleet/{self._plan['namespace']}",
            # systemd 257 does not boot with the cgroups of old, whatever the host has.
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
            # A machine's /tmp is on its disk, as NixOS has it.
            "SYSTEMD_NSPAWN_TMPFS_TMP": "0",
            "SYSTEMD_NSPAWN_LOCK": "0",
        }

    def _enter_cgroups(self, leaf: str) -> None:
        for cgroup in self._cgroups:
            (cgroup / leaf).mkdir(parents=True, exist_ok=True)
            (cgroup / leaf / "cgroup.procs").write_text("0")

    def _say(self, state: str, **more: object) -> None:
        temporary = self._directory / "state.json.tmp"
        temporary.write_text(json.dumps({"state": state, "boots": self._boots, **more}))
        temporary.replace(self._directory / "state.json")

    def _reap(self) -> None:
        # What a killed machine leaves ends as our child: only then is its disk at rest.
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


def _call(*argv: str, stdin: str = "") -> None:
    subprocess.run(argv, input=stdin, text=True, check=True)


def _own_cgroup() -> Path:
    unified = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    return Path("/sys/fs/cgroup", unified.removeprefix("0::/"))


def main() -> None:
    """Supervise the machine whose directory is the only argument."""
    Supervisor(Path(sys.argv[1])).run()


if __name__ == "__main__":
    main()
