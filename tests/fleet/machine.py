# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One live machine: power, link, and a way in that needs no sshd."""

from __future__ import annotations

import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .host import HERE, FleetError, call, write_private
from .network import Network
from .roots import FISH
from .supervisor import STAY_DOWN

_POLL = 0.05
_PATH = "/run/wrappers/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin"
_RESTLESS = {
    *("nix/var/nix/db", "nix/var/nix/gc.lock", "nix/var/nix/temproots", "nix/var/nix/userpool"),
    *("root/.cache", "var/lib/systemd", "var/log", "var/tmp"),
}
_LISTS = ("failed_units", "leftovers")


@dataclass(frozen=True)
class Kind:
    """What kind of machine it is.

    :param debian: the release its root is made of: ``bookworm`` has Nix 2.8, ``trixie`` 2.26.
    :param user: who logs in: ``root``, or ``deploy``, who has sudo and is not trusted by Nix.
    :param sudo_password: the password that sudo asks the user for; None where it asks for none.
    :param shell: the user's login shell: ``sh`` or ``fish``.
    :param jump: the machine it is reached through, and only through; None where the host reaches it.
    :param store_mib: the size of the file system that holds ``/nix``; None for no limit.
    :param wiped: whether its root is new at each boot, but for ``/nix`` and ``/boot``.
    :param nix: whether Nix is there.
    """

    debian: str = "bookworm"
    user: str = "root"
    sudo_password: str | None = None
    shell: str = "sh"
    jump: str | None = None
    store_mib: int | None = None
    wiped: bool = False
    nix: bool = True

    def __post_init__(self) -> None:
        if self.user not in ("root", "deploy"):
            raise FleetError(f"There is no user {self.user!r} on a machine; there are root and deploy.")
        if self.shell not in ("sh", "fish"):
            raise FleetError(f"There is no login shell {self.shell!r}; there are sh and fish.")
        if self.wiped and self.store_mib is not None:
            raise FleetError("A machine whose root is wiped has no store of limited size.")
        if self.sudo_password is not None and self.user == "root":
            raise FleetError("root needs no sudo: a sudo password goes with the user deploy.")


class Machine:
    """A machine of a fleet; made by :class:`Fleet`.

    :param directory: where its disk and its papers are.
    :param network: the network of its fleet.
    """

    def __init__(self, directory: Path, network: Network) -> None:
        self.directory = directory
        facts = json.loads((directory / "machine.json").read_text())
        self.name: str = facts["name"]
        self.index: int = facts["index"]
        self.kind = Kind(**facts["kind"])
        self.port = 22
        self.user = self.kind.user
        self._network = network
        self._machine_id: str = facts["machine_id"]
        self._layers: list[str] = facts["layers"]
        self.toplevel: str = facts["toplevel"]

    @classmethod
    def create(
        cls, directory: Path, index: int, network: Network, kind: Kind, layers: Sequence[Path], toplevel: Path
    ) -> Machine:
        """Write a new machine's papers; nothing runs yet.

        :param layers: what is below its disk, lowest last.
        """
        directory.mkdir(parents=True, exist_ok=True)
        facts = {
            "name": directory.name,
            "index": index,
            "kind": asdict(kind),
            "machine_id": uuid.uuid4().hex,
            "layers": [str(layer) for layer in layers],
            "toplevel": str(toplevel),
        }
        host_key = directory / "host_key"
        if not host_key.exists():
            call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", directory.name, "-f", host_key])
        write_private(directory / "machine.json", json.dumps(facts))
        return cls(directory, network)

    @property
    def address(self) -> str:
        """The address its sshd is reached at, for a machine behind a jump host from there."""
        return self._network.address(self.index, behind=self.kind.jump is not None)

    @property
    def namespace(self) -> str:
        """The name of its network namespace."""
        return self._network.namespace(self.index)

    @property
    def identity_file(self) -> Path:
        """The private key that gets in."""
        return self._fleet_directory / "id_ed25519"

    @property
    def known_hosts_file(self) -> Path:
        """The host keys of all machines of its fleet."""
        return self._fleet_directory / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        """A configuration in which all machines of its fleet have their names."""
        return self._fleet_directory / "ssh_config"

    @property
    def host_public_key(self) -> str:
        """Its host key, without a comment."""
        return " ".join((self.directory / "host_key.pub").read_text().split()[:2])

    @property
    def ssh_args(self) -> tuple[str, ...]:
        """What ``ssh`` needs to reach ``user@address``, without a configuration file."""
        options = (
            f"IdentityFile={self.identity_file}",
            "IdentitiesOnly=yes",
            f"UserKnownHostsFile={self.known_hosts_file}",
            "GlobalKnownHostsFile=none",
            "StrictHostKeyChecking=yes",
            *self._through_jump_host(),
        )
        return tuple(word for option in options for word in ("-o", option))

    @property
    def console(self) -> Path:
        """What its console and its supervisor said."""
        return self.directory / "console.log"

    def facts(self) -> dict[str, Any]:
        """:returns: all that a test or a user must know to reach it."""
        return {
            "name": self.name,
            "state": self.state(),
            **{field.name: getattr(self.kind, field.name) for field in fields(Kind)},
            "address": self.address,
            "port": self.port,
            "identity_file": str(self.identity_file),
            "known_hosts_file": str(self.known_hosts_file),
            "host_public_key": self.host_public_key,
            "ssh_config": str(self.ssh_config),
            "ssh_args": list(self.ssh_args),
            "toplevel": self.toplevel,
            "directory": str(self.directory),
            "console": str(self.console),
        }

    @property
    def leader(self) -> int:
        """The machine's process 1, as this computer numbers it."""
        return self._nspawn_and_leader()[1]

    def state(self) -> str:
        """:returns: ``stopped``, ``booting``, ``ready`` or ``off`` (between two boots)."""
        return str(self._said()["state"]) if self._supervisor() is not None else "stopped"

    # Power

    def start(self) -> None:
        """Switch it on; nothing where it is on already."""
        if self._supervisor() is not None:
            return
        for stale in (STAY_DOWN, "state.json"):
            (self.directory / stale).unlink(missing_ok=True)
        cgroups = [] if _systemd_host() else _cgroups(self.namespace)
        write_private(self.directory / "plan.json", json.dumps(self._plan(cgroups)))
        command = [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *(sys.executable, "-I", str(HERE / "supervisor.py"), str(self.directory)),
        ]
        if _systemd_host():
            # Never the name of the last one: systemd may not have done away with that yet.
            unit = f"--unit=nix-ops-fleet-{self.namespace}-{time.monotonic_ns()}"
            command = ["systemd-run", "--scope", "--quiet", "--collect", unit, "--property=Delegate=yes", *command]
        with self.console.open("ab") as console:
            supervisor = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )
        write_private(self.directory / "supervisor.json", json.dumps([supervisor.pid, _started(supervisor.pid)]))
        # It outlives this process, which must not wait for it.
        supervisor.returncode = 0

    def stop(self) -> None:
        """Cut its power for good: nothing of it runs or is mounted afterwards, its disk stays."""
        supervisor = self._supervisor()
        if supervisor is not None:
            (self.directory / STAY_DOWN).touch()
            # Process 1 of its namespace: all others end with it.
            for child in _children(supervisor):
                _kill(child)
            _kill(supervisor)
        for cgroup in _cgroups(self.namespace):
            _remove_cgroup(Path(cgroup))

    def power_cut(self, *, stay_down: bool = False) -> None:
        """Kill everything on it at once; it comes back as after a power cut, unless it is to stay down."""
        if stay_down:
            self.stop()
            return
        boots = self._said()["boots"]
        nspawn, leader = self._nspawn_and_leader()
        _kill(nspawn)
        _kill(leader)
        self._wait(lambda: self._said()["boots"] > boots, 30, "did not come back after the power cut")

    def reboot(self, timeout: float = 60) -> None:
        """Reboot it from inside, and wait until it is up again."""
        boots = self._said()["boots"]
        self.run(["systemctl", "--no-block", "reboot"])
        self._wait(lambda: self._said()["boots"] > boots, timeout, "did not reboot")
        self.wait_up(timeout)

    def reset(self, to: str | None = None) -> None:
        """Make it a new machine again: same address and host key; up when this returns.

        :param to: the snapshot to boot from; None for the first system.
        :raises FleetError: when there is no such snapshot.
        """
        if to is not None and to not in self.snapshots:
            raise FleetError(f"{self.name} has no snapshot {to!r}; there are: {', '.join(self.snapshots) or 'none'}.")
        self.stop()
        self.wipe()
        if to is not None:
            write_private(self._over, to)
            # The snapshot has what is put on a new disk.
            (self.directory / "populated").touch()
        self.set_link("up")
        self.start()
        self.wait_up()

    def wipe(self) -> None:
        """Forget its disk, but for the snapshots; it must be off."""
        for name in ("upper", "work", "kept"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        for name in ("store.img", "populated", self._over.name):
            (self.directory / name).unlink(missing_ok=True)

    @property
    def snapshots(self) -> list[str]:
        """The names of the snapshots of its disk."""
        return sorted(papers.parent.name for papers in self.directory.glob("snapshots/*/layers.json"))

    def snapshot(self, name: str) -> None:
        """Cut its power and keep its disk, for :meth:`reset`; it is off and empty afterwards.

        :param name: what it is to be called; no snapshot may have the name.
        :raises FleetError: when a part of its disk is a file system of its own, which is not kept.
        """
        if self.kind.store_mib is not None or self.kind.wiped:
            raise FleetError(f"{self.name} has a store of limited size or of its own: there is no snapshot of that.")
        kept = self.directory / "snapshots" / name
        layers = [str(kept / "upper"), *self._layers_below()]
        self.stop()
        kept.mkdir(parents=True)
        (self.directory / "upper").rename(kept / "upper")
        write_private(kept / "layers.json", json.dumps(layers))
        self.wipe()

    def traces(self) -> str:
        """Tell apart a machine that nothing was done to: read what a test can change, out of band.

        :returns: a text that is the same as long as nothing of importance was changed since the boot.
        """
        script = (HERE / "traces.sh").read_bytes()
        return self.run(["/bin/sh", "-s"], stdin=script).stdout + "\n".join(_files(self.directory / "upper"))

    def wait_up(self, timeout: float = 60, *, after: str | None = None) -> None:
        """Wait until its systemd is done booting and its sshd lets the user in.

        :param after: the boot id of a boot that does not count.
        :raises FleetError: with the end of its console's output, when it is not up in time.
        """
        deadline = time.monotonic() + timeout
        self._wait(lambda: self._said()["state"] == "ready", timeout, "did not boot in time")
        if after is not None:
            self._wait(lambda: self._boot_id() != after, deadline - time.monotonic(), "did not boot again")
        self._wait(self._sshd_greets, deadline - time.monotonic(), "has no sshd in time")

    # Link

    def link_down(self) -> None:
        """Unplug it."""
        self.set_link("down")

    def link_up(self) -> None:
        """Plug it in again."""
        self.set_link("up")

    def set_link(self, state: str) -> None:
        """Set its link ``up`` or ``down``."""
        self._network.set_link(self.index, state, behind=self.kind.jump is not None)

    # Ways in

    def run(
        self, command: str | Sequence[str], *, stdin: bytes = b"", check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root on it, past sshd and the network.

        :param command: words, or a line for its ``/bin/sh``.
        """
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        return call([*self.enter(), *words], stdin=stdin, check=check, timeout=timeout)

    def enter(self) -> list[str]:
        """:returns: the words before a command that is to run on it, out of band."""
        return [
            *("nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"),
            *("--root", "--wdns=/", "env", "-i", f"PATH={_PATH}", "HOME=/root"),
        ]

    def ssh_command(self, *command: str) -> list[str]:
        """:returns: the ``ssh`` that runs a command on it as its user."""
        return ["ssh", "-F", str(self.ssh_config), self.name, *command]

    def ssh(
        self, command: str, *, stdin: bytes = b"", check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line on it as its user would, over a connection of its own."""
        return call(self.ssh_command("--", command), stdin=stdin, check=check, timeout=timeout)

    def inspect(self) -> dict[str, Any]:
        """Read, out of band, what it runs and boots and what is left over on it.

        :returns: the keys ``running``, ``booted``, ``profile``, ``boot_default`` (toplevels), ``generation``,
            ``sshd_pid``, ``boot_id``, ``machine_id``, ``system_state``, ``failed_units``, ``leftovers``.
        """
        told = self.run(["/bin/sh", "-s"], stdin=(HERE / "inspect.sh").read_bytes()).stdout
        result: dict[str, Any] = {key: [] for key in _LISTS}
        for line in told.splitlines():
            key, _tab, value = line.partition("\t")
            if key in _LISTS:
                result[key].append(value)
            else:
                result[key] = int(value) if key in ("generation", "sshd_pid") and value.isdecimal() else value
        return result

    # Inside

    @property
    def _over(self) -> Path:
        # The name of the snapshot below its disk.
        return self.directory / "over"

    def _layers_below(self) -> list[str]:
        if not self._over.exists():
            return self._layers
        papers = self.directory / "snapshots" / self._over.read_text() / "layers.json"
        return [str(layer) for layer in json.loads(papers.read_text())]

    @property
    def _fleet_directory(self) -> Path:
        return self.directory.parent.parent

    def _through_jump_host(self) -> Iterator[str]:
        if self.kind.jump is not None:
            config, jump = shlex.quote(str(self.ssh_config)), shlex.quote(self.kind.jump)
            yield f"ProxyCommand=ssh -F {config} -W %h:%p {jump}"

    def _plan(self, cgroups: list[str]) -> Mapping[str, Any]:
        home = "root" if self.user == "root" else f"home/{self.user}"
        shell = FISH if self.kind.shell == "fish" else "/bin/bash"
        asks = "yes" if self.kind.sudo_password is not None else "no"
        files = {
            f"{home}/.ssh/authorized_keys": (Path(f"{self.identity_file}.pub"), 0o600),
            "etc/ssh/ssh_host_ed25519_key": (self.directory / "host_key", 0o600),
            "etc/ssh/ssh_host_ed25519_key.pub": (self.directory / "host_key.pub", 0o644),
        }
        return {
            "name": self.name,
            "namespace": self.namespace,
            "machine_id": self._machine_id,
            "layers": self._layers_below(),
            "store_mib": self.kind.store_mib,
            "wiped": self.kind.wiped,
            "cgroups": cgroups,
            "user": self.user,
            "password": self.kind.sudo_password,
            "populate": [self.user, shell, asks, "no" if self.kind.nix else "yes"],
            "files": {
                # Without it systemd takes the boot for the very first, and enables what the distribution presets.
                "etc/machine-id": {"text": f"{self._machine_id}\n", "mode": 0o444},
                **{name: {"text": path.read_text(), "mode": mode} for name, (path, mode) in files.items()},
            },
        }

    def _said(self) -> dict[str, Any]:
        try:
            said: dict[str, Any] = json.loads((self.directory / "state.json").read_text())
        except FileNotFoundError:
            return {"state": "booting", "boots": 0}
        return said

    def _supervisor(self) -> int | None:
        try:
            pid, started = json.loads((self.directory / "supervisor.json").read_text())
        except FileNotFoundError:
            return None
        return int(pid) if _started(pid) == started else None

    def _nspawn_and_leader(self) -> tuple[int, int]:
        # unshare, then the supervisor, then nspawn, then the machine's own process 1.
        for supervisor in _children(self._supervisor() or 0):
            for nspawn in _children(supervisor):
                for leader in _children(nspawn):
                    if _is_process_one(leader):
                        return nspawn, leader
        raise FleetError(f"{self.name} is not running (state: {self.state()}): see {self.console}.")

    def _boot_id(self) -> str:
        return self.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout.strip()

    def _sshd_greets(self) -> bool:
        greeting = ["-o", "ConnectTimeout=2", "-o", "BatchMode=yes"]
        return call([*self.ssh_command()[:-1], *greeting, self.name, "true"], check=False).returncode == 0

    def _wait(self, reached: Callable[[], bool], timeout: float, otherwise: str) -> None:
        deadline = time.monotonic() + timeout
        while not reached():
            if self._supervisor() is None:
                raise FleetError(f"{self.name} is off and {otherwise}. Its console said:\n{self._console_end()}")
            if time.monotonic() > deadline:
                raise FleetError(f"{self.name} {otherwise}. Its console said:\n{self._console_end()}")
            time.sleep(_POLL)

    def _console_end(self) -> str:
        if not self.console.exists():
            return ""
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-30:])


def _files(upper: Path) -> Iterator[str]:
    """Name the files that were written, without those that a machine writes by itself or when it is only asked."""
    for directory, names, files in os.walk(upper):
        inside = Path(directory).relative_to(upper)
        names[:] = sorted(name for name in names if str(inside / name) not in _RESTLESS)
        # Of a directory only what is in it: a file that was there for a moment changes nothing.
        # os.walk() takes a link to a directory for a directory.
        links = [name for name in names if Path(directory, name).is_symlink()]
        for name in sorted([*files, *links]):
            if str(inside / name) not in _RESTLESS:
                status = os.lstat(Path(directory, name))
                yield f"{inside / name} {status.st_mode:o} {status.st_uid} {status.st_size} {status.st_mtime_ns}"


def _started(pid: int) -> str | None:
    """When a process was started, which tells it from a later one of the same number; None where it has ended."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if after_name[0] in "ZX" else after_name[19]


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _is_process_one(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
    return len(numbers) > 2 and numbers[-1] == "1"


def _kill(pid: int) -> None:
    """Kill a process and wait until it has ended, whoever its parent is."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [], 30)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _systemd_host() -> bool:
    return Path("/run/systemd/system").is_dir()


def _cgroups(name: str) -> list[str]:
    """The machine's own cgroup in each hierarchy that systemd looks at."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [
        f"{point}/nix-ops-fleet-{name}"
        for _device, point, kind, options, *_rest in mounts
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(","))
    ]


def _remove_cgroup(cgroup: Path) -> None:
    if not cgroup.exists():
        return
    for below in sorted((path for path in cgroup.rglob("*") if path.is_dir()), key=lambda p: -len(p.parts)):
        below.rmdir()
    cgroup.rmdir()
