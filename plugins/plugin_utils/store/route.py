# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets Nix's own commands reach a host with the options of its Ansible connection.

They share the open connection of Ansible, with every version of Nix: newer versions wait for a line that ssh prints
only for a connection of its own, and ssh.sh prints it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils import process
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import connection as connections
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import script

# ssh itself refuses it as an unknown option.
_PROVE = "--which-ssh-is-this"

# Names that every version of Nix accepts as the host in the address of a store.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")

# Tells the names of routes from those of the user's own stores, such as NIX_REMOTE=ssh-ng://builder.
_SUFFIX = ".nix-ops"


@dataclass(frozen=True)
class SshRoute:
    """How ssh reaches a host, and as which user commands run there.

    :param command: the real ssh with its options and, last, the destination.
    :param escalation: words that make a command run as another user, quoted for a shell; put before the command.
    """

    command: tuple[str, ...]
    escalation: tuple[str, ...]


def address(name: str) -> str:
    """Return the address of a host's store for Nix's commands, within :func:`environment`.

    :param name: the host's name. Nix only shows it, and only the route says where it leads.
    """
    return f"ssh://{destination(name)}"


def destination(name: str) -> str:
    """Return the host in :func:`address`."""
    plain = name if _PLAIN_NAME.fullmatch(name) else f"machine-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{plain}{_SUFFIX}"


def shown(line: str) -> str:
    """Return a line of Nix's output with the names of hosts as the user knows them."""
    return re.sub(rf"(ssh://[A-Za-z0-9.-]+){re.escape(_SUFFIX)}\b", r"\1", line)


@contextmanager
def environment(routes: Mapping[str, SshRoute]) -> Iterator[dict[str, str]]:
    """Yield variables with which Nix's commands take these routes, and ssh's own for other destinations.

    Nix takes the first ssh on its PATH that it can execute. On a file system that forbids that, it would be the
    user's own, which may know the destination as another host.

    :param routes: the route to each host, by its name.
    :raises OpsError: if Nix would run another ssh.
    """
    for parent in _parents():
        with tempfile.TemporaryDirectory(prefix="nix-ops-ssh-", dir=parent) as directory:
            proof = _write(Path(directory), routes)
            # Options of the user's are not for the routes: ssh.sh gives them to other destinations.
            variables = {"PATH": f"{directory}:{os.environ.get('PATH', os.defpath)}", "NIX_SSHOPTS": ""}
            if _is_first(proof, variables):
                yield variables
                return
    raise OpsError(
        f"no program can be executed in {' or '.join(_parents())}, so Nix would run another ssh than it should",
        state="nothing was copied",
        next_step="Set TMPDIR to a directory without ':' in its path, on a file system that is not mounted noexec.",
    )


def _write(directory: Path, routes: Mapping[str, SshRoute]) -> str:
    """Write the ssh for Nix, and return what it answers when it is asked which one it is."""
    proof = secrets.token_hex(16)
    (directory / "proof").write_text(f"{proof}\n", encoding="utf-8")
    (directory / "options").write_text(os.environ.get("NIX_SSHOPTS", ""), encoding="utf-8")
    for name, route in routes.items():
        place = directory / destination(name)
        place.mkdir()
        for file, words in (("command", route.command), ("escalation", route.escalation)):
            (place / file).write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    ssh = directory / "ssh"
    ssh.write_text(script("store/ssh"), encoding="utf-8")
    ssh.chmod(0o700)
    return proof


def _parents() -> list[str]:
    """Return the directories to try. All are the user's own, or sticky."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "nix.ops").expanduser()
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return [tempfile.gettempdir()]
    return [tempfile.gettempdir(), str(cache)]


def _is_first(proof: str, variables: dict[str, str]) -> bool:
    # Looked up as Nix does: execvp(3) goes on to the next directory if it may not execute a file.
    try:
        done = process.run(["ssh", _PROVE], env=variables)
    except OSError:
        return False
    return done.stdout == f"{proof}\n"


def of_connection(connection: Any, become: bool) -> SshRoute | None:
    """Return the route of an Ansible connection; None if it is not ssh, or Nix can't use it.

    Nix's copy protocol has no place for a sudo password, so a connection that needs one has no route.

    :param become: whether commands on the host run as another user than the connection's.
    :raises OpsError: if a value could be read as an option or has a line break.
    """
    if not connections.is_ssh(connection):
        return None
    escalation = _escalation(connection.become) if become else ()
    if escalation is None:
        return None
    real, *options = connections.command(connection)
    # ssh uses the first value of an option. A master connection would hold Nix's pipes open, and Nix would take the
    # output of a local command for the machine's answer.
    first = ["-o", "ControlMaster=no", "-o", "BatchMode=yes", "-o", "PermitLocalCommand=no"]
    host = str(connection.get_option("host"))
    if host.startswith("-"):
        raise OpsError(f"{host!r} could be read as an option of ssh", next_step="Correct 'ansible_host'.")
    # Last, so that it wins: a terminal would spoil Nix's protocol.
    command = (real, *first, *options, "-T", host)
    for word in (*command, *escalation):
        if "\n" in word:
            raise OpsError(f"{word!r} has a line break", next_step="Correct the connection's variables.")
    return SshRoute(command, escalation)


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
