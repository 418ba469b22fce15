# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an Ansible connection leads, and the ssh command that it runs.

This is the only file that uses the private interfaces of Ansible's ssh connection.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.loader import connection_loader

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

_SSH = ("ssh", "ansible.builtin.ssh")
SSH_PORT = 22

# For ssh the first value of an option counts.
_OF_ITS_OWN = "-o ControlMaster=no -o ControlPath=none"

# Seconds for the process that shares a connection to answer.
_CONTROL = 5.0

# Seconds until a connection that is only tried out is ended. The user may have set longer limits for ssh.
_TRIAL = 20.0


@dataclass(frozen=True)
class Endpoint:
    """The place of a host's SSH server.

    :param port: None if ssh's own configuration sets it.
    """

    address: str
    port: int | None

    def check(self) -> None:
        """Check the address and the port.

        :raises OpsError: if one is not valid.
        """
        if not self.address or self.address.startswith("-") or any(one.isspace() for one in self.address):
            raise OpsError(f"{self.address!r} is not a valid address", next_step="Correct 'address'.")
        if self.port is not None and not 0 < self.port < 65536:
            raise OpsError(f"{self.port} is not a valid port", next_step="Correct 'port'.")

    def __str__(self) -> str:
        return f"{self.address} port {self.port or SSH_PORT}"


def setting(option: str) -> str:
    """Return an option of Ansible's ssh connection, as it is set for all hosts. A variable would hide it."""
    # Loading the plugin declares its options.
    connection_loader.get("ssh", class_only=True)
    return str(constants.config.get_config_value(option, plugin_type="connection", plugin_name="ssh") or "")


def is_ssh(connection: Any) -> bool:
    """Return whether an Ansible connection is ssh."""
    return connection.transport in _SSH


def endpoint(connection: Any) -> Endpoint | None:
    """Return where an Ansible connection leads; None if it is not ssh."""
    if not is_ssh(connection):
        return None
    port = connection.get_option("port")
    return Endpoint(str(connection.get_option("host")), int(port) if port else None)


class Addresses:
    """The addresses of a host. Its connection leads to one of them at a time.

    :param connection: Ansible's ssh connection.
    :param told: the configured address.
    :param known: where the host was last acknowledged. It is tried first.
    """

    def __init__(self, connection: Any, told: Endpoint, known: Endpoint | None) -> None:
        self._connection = connection
        self.told = told
        self._addresses = deque([told])
        if known is not None and str(known) != str(told):
            self._addresses.appendleft(known)
            _lead(connection, known)

    @property
    def now(self) -> Endpoint:
        """The address that the connection leads to."""
        return self._addresses[0]

    def __len__(self) -> int:
        return len(self._addresses)

    def turn(self) -> None:
        """Use the next address."""
        self._addresses.rotate(-1)
        _lead(self._connection, self.now)

    def prefer_told(self) -> None:
        """Try the configured address first, then the one where the host was."""
        while self.now != self.told:
            self.turn()

    def settle(self) -> None:
        """Use only the configured address from now on."""
        self._addresses = deque([self.told])
        _lead(self._connection, self.told)

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """Use the configured address over a new connection, not over an open one."""
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
    # drop() finds the shared connection by this before a command is run.
    connection.host = where.address


def drop(connection: Any) -> bool:
    """End a host's shared connection whose link is dead, so that nothing waits for its answer.

    :returns: whether the process that shares it did not react, so that it was killed.
    """
    if not is_ssh(connection) or not connection.get_option("control_path_dir"):
        return False
    if _control(connection, "-O", "exit", connection.host) is not None:
        return False
    # Where it can't be killed, the next connection at least does not find it.
    settings = _control(connection, "-G", connection.host) or ""
    for path in re.findall(r"^controlpath (/.*)$", settings, re.MULTILINE):
        _kill_sharing(path)
        Path(path).unlink(missing_ok=True)
    return True


def _control(connection: Any, *words: str) -> str | None:
    """Run the connection's ssh with words that need no host; return its output, or None if it does not end."""
    argv = connection._build_command(connection.get_option("ssh_executable"), "ssh", *words)
    _close_password_pipe(connection)
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_CONTROL, encoding="utf-8"
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout


def _kill_sharing(path: str) -> None:
    """Kill the process that shares a connection at this socket: ssh writes the path into its title."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cmdline").read_bytes().rstrip(b"\0") == os.fsencode(f"ssh: {path} [mux]"):
                os.kill(int(process.name), signal.SIGKILL)


def _close_password_pipe(connection: Any) -> None:
    for descriptor in getattr(connection, "sshpass_pipe", None) or ():
        os.close(descriptor)
    connection.sshpass_pipe = None


def configuration(connection: Any) -> dict[str, str]:
    """Return the configuration of ssh for a connection, with lower-case names, as ``ssh -G`` tells it."""
    lines = (_control(connection, "-G", connection.host) or "").splitlines()
    return {name: value for name, _space, value in (line.partition(" ") for line in lines)}


def try_out(connection: Any, words: Sequence[str]) -> None:
    """Run the connection's ssh once, with these options before its own, and ignore how it ends."""
    real, *options = command(connection)
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [real, *words, *options, "--", str(connection.get_option("host")), "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_TRIAL,
        )


def add(connection: Any, words: Sequence[str]) -> None:
    """Add options to all SSH commands of a connection, unless it has them. Options that the user gives to all win."""
    added = shlex.join(words)
    for name in ("ssh_extra_args", "sftp_extra_args", "scp_extra_args"):
        present = connection.get_option(name) or ""
        if added not in present:
            connection.set_option(name, f"{added} {present}".strip())


def gives_password(connection: Any) -> bool:
    """Return whether an Ansible connection logs in with a password."""
    try:
        return bool(connection.get_option("password"))
    except KeyError:
        return False


def command(connection: Any) -> list[str]:
    """Return the ssh command of an Ansible connection: the program and its options, without the destination.

    :raises OpsError: if the program is missing on the controller.
    """
    executable = connection.get_option("ssh_executable")
    real = shutil.which(executable)
    if real is None:
        raise OpsError(f"{executable} is not on the controller's PATH", next_step="Install an OpenSSH client.")
    built = [os.fsdecode(word) for word in connection._build_command(executable, "ssh")]
    _close_password_pipe(connection)
    return [real, *built[built.index(executable) + 1 :]]
