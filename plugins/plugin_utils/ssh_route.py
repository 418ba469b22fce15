# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way Nix's own commands take to a host: the options of its Ansible connection.

They share its open connection, with every version of Nix: newer ones wait for a line that ssh says
only when it makes a connection of its own, and this ssh says it (sh/ssh.sh).

This is the one file that uses the private interfaces of Ansible's ssh connection.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import script

_SSH = ("ssh", "ansible.builtin.ssh")

# The first value that ssh is given counts.
_OF_ITS_OWN = "-o ControlMaster=no -o ControlPath=none"


@dataclass(frozen=True)
class Endpoint:
    """Where a host's SSH server is.

    :param port: None where ssh's own configuration tells it.
    """

    address: str
    port: int | None

    def check(self) -> None:
        """Refuse what is no place of an SSH server.

        :raises OpsError: naming the value.
        """
        if not self.address or self.address.startswith("-") or any(one.isspace() for one in self.address):
            raise OpsError(f"{self.address!r} is no address", next_step="Correct 'address'.")
        if self.port is not None and not 0 < self.port < 65536:
            raise OpsError(f"{self.port} is no port", next_step="Correct 'port'.")

    def __str__(self) -> str:
        return f"{self.address} port {self.port or 22}"


def endpoint(connection: Any) -> Endpoint | None:
    """Where an Ansible connection leads; None where it is not ssh."""
    if connection.transport not in _SSH:
        return None
    port = connection.get_option("port")
    return Endpoint(str(connection.get_option("host")), int(port) if port else None)


class Ways:
    """Where a host may be reached. Its connection leads to one of these at a time.

    :param connection: Ansible's ssh connection.
    :param told: where the host is said to be now.
    :param known: where it was last acknowledged, which is tried first.
    """

    def __init__(self, connection: Any, told: Endpoint, known: Endpoint | None) -> None:
        self._connection = connection
        self.told = told
        self._ways = deque([told])
        if known is not None and (known.address, known.port) != (told.address, told.port or 22):
            self._ways.appendleft(known)
            _lead(connection, known)

    @property
    def now(self) -> Endpoint:
        """Where the connection leads."""
        return self._ways[0]

    def __len__(self) -> int:
        return len(self._ways)

    def turn(self) -> None:
        """Have the connection lead to the next one."""
        self._ways.rotate(-1)
        _lead(self._connection, self.now)

    def prefer_told(self) -> None:
        """Have the connection lead where the host is said to be now first, and then where it was."""
        while self.now != self.told:
            self.turn()

    def settle(self) -> None:
        """Have the connection lead where the host is said to be now, and nowhere else from then on."""
        self._ways = deque([self.told])
        _lead(self._connection, self.told)

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """Have the connection lead where the host is said to be now, sharing no open one."""
        arguments = self._connection.get_option("ssh_args")
        self._connection.set_option("ssh_args", f"{_OF_ITS_OWN} {arguments or ''}".strip())
        _lead(self._connection, self.told)
        try:
            yield
        finally:
            self._connection.set_option("ssh_args", arguments)
            _lead(self._connection, self.now)


def _lead(connection: Any, where: Endpoint) -> None:
    connection.set_option("host", where.address)
    connection.set_option("port", where.port)
    # What names the shared connection, until a command is run.
    connection.host = where.address


@dataclass(frozen=True)
class SshRoute:
    """How ssh reaches a host, and as whom.

    :param command: the real ssh with its options and, last, the destination.
    :param escalation: words before a command that is to run as another user, quoted for a shell.
    """

    command: tuple[str, ...]
    escalation: tuple[str, ...]

    @contextmanager
    def environment(self) -> Iterator[dict[str, str]]:
        """Variables with which Nix's commands take this route, whatever destination they name."""
        with tempfile.TemporaryDirectory(prefix="nix-ops-ssh-") as directory:
            here = Path(directory)
            (here / "command").write_text("".join(f"{word}\n" for word in self.command), encoding="utf-8")
            (here / "escalation").write_text("".join(f"{word}\n" for word in self.escalation), encoding="utf-8")
            ssh = here / "ssh"
            ssh.write_text(script("ssh"), encoding="utf-8")
            ssh.chmod(0o700)
            yield {"PATH": f"{directory}:{os.environ.get('PATH', os.defpath)}", "NIX_SSHOPTS": ""}


def of_connection(connection: Any, become: bool) -> SshRoute | None:
    """The route of an Ansible connection; None where it is not ssh, or can't be taken by Nix.

    Nix's copy protocol has no place for a password of sudo, so a connection that needs one
    gives no route.

    :param become: whether commands on the host run as another user than the connection's.
    :raises OpsError: where a value could be read as an option or has a line break.
    """
    if connection.transport not in _SSH:
        return None
    escalation = _escalation(connection.become) if become else ()
    if escalation is None:
        return None
    executable = connection.get_option("ssh_executable")
    real = shutil.which(executable)
    if real is None:
        raise OpsError(f"{executable} is not on the controller's PATH", next_step="Install an OpenSSH client.")
    built = [os.fsdecode(word) for word in connection._build_command(executable, "ssh")]
    _close_password_pipe(connection)
    options = built[built.index(executable) + 1 :]
    # ssh takes the first value it is given: Nix's own ssh never becomes a master, which would
    # hold Nix's pipes, and never asks.
    first = ["-o", "ControlMaster=no", "-o", "BatchMode=yes"]
    host = str(connection.get_option("host"))
    if host.startswith("-"):
        raise OpsError(f"{host!r} could be read as an option of ssh", next_step="Correct 'ansible_host'.")
    command = (real, *first, *options, host)
    for word in (*command, *escalation):
        if "\n" in word:
            raise OpsError(f"{word!r} has a line break", next_step="Correct the connection's variables.")
    return SshRoute(command, escalation)


def drop(connection: Any) -> None:
    """End the shared connection of a host whose link is dead; whoever waits for its answer is told at once."""
    if connection.transport not in _SSH or not connection.get_option("control_path_dir"):
        return
    argv = connection._build_command(connection.get_option("ssh_executable"), "ssh", "-O", "exit", connection.host)
    _close_password_pipe(connection)
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _close_password_pipe(connection: Any) -> None:
    for descriptor in getattr(connection, "sshpass_pipe", None) or ():
        os.close(descriptor)
    connection.sshpass_pipe = None


def _escalation(become: Any) -> tuple[str, ...] | None:
    name = str(become.name).rpartition(".")[2]
    if become.get_option("become_pass"):
        return None
    user = become.get_option("become_user") or "root"
    flags = shlex.split(become.get_option("become_flags") or "")
    match name:
        case "sudo":
            words = [become.get_option("become_exe") or "sudo", *flags, "-n", "-u", user, "--"]
        case "doas":
            words = [become.get_option("become_exe") or "doas", *flags, "-n", "-u", user, "--"]
        case "command":
            words = list(become.get_option("command"))
        case _:
            return None
    return tuple(shlex.quote(word) for word in words)
