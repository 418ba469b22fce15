# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys by which a machine proves to ssh that it is the right one.

A host key is text of two words: its type and its base64. ssh gets the keys that the deployment itself knows by
KnownHostsCommand, in addition to all files of known hosts that ssh reads anyway.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils import process
from ansible_collections.nix.ops.plugins.plugin_utils.machine import connection as connections
from ansible_collections.nix.ops.plugins.plugin_utils.machine import ssh_configuration

_SCRIPT = Path(__file__).parent / "known_host_keys.sh"

_KEY = re.compile(r"(?P<key>[a-z0-9@.-]+ [A-Za-z0-9+/=]{40,4000})(?: .*)?")

# What ssh -G says of StrictHostKeyChecking if an unknown key is refused.
_STRICT = frozenset({"true", "yes", "ask"})

# With these options ssh writes the key of the host that answers into a separate file, and ends before it logs in: ssh
# writes the key before the authentication. For ssh the first value of an option counts.
_LOOK = (
    "BatchMode=yes",
    "CheckHostIP=no",
    "ControlMaster=no",
    "ControlPath=none",
    "GlobalKnownHostsFile=/dev/null",
    "HashKnownHosts=no",
    "KnownHostsCommand=none",
    "NoHostAuthenticationForLocalhost=no",
    "PermitLocalCommand=no",
    "PreferredAuthentications=none",
    "PubkeyAuthentication=no",
    "RequestTTY=no",
    "StrictHostKeyChecking=accept-new",
    "UpdateHostKeys=no",
    "VerifyHostKeyDNS=no",
)

# The algorithms that use a key of a type, if they have another name (RFC 8332).
_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")}

# The file of a host key below /etc/ssh, by the beginning of the key's type.
_FILES = {"ssh-rsa": "rsa", "ssh-ed25519": "ed25519", "ecdsa-": "ecdsa"}


class Verdict(StrEnum):
    """Why a host key is refused."""

    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Known:
    """A host key that is known of a machine.

    :param where: the file and line that has it, or other words for its place.
    :param remove: the command or the edit that removes it.
    :param is_revoked: whether the file marks it as revoked.
    """

    key: str
    where: str
    remove: str
    is_revoked: bool = False


@dataclass(frozen=True)
class Refused:
    """A host key that ssh does not accept.

    :param name: the name by which ssh looks the host up in its files.
    :param known: the keys that are known instead.
    :param unread: by what ssh may know more keys; None if all that it knows were compared.
    """

    name: str
    key: str
    verdict: Verdict
    known: tuple[Known, ...]
    unread: str | None = None


def read(line: str) -> str | None:
    """Return the host key in a line of a ``.pub`` file; None if there is none."""
    found = _KEY.fullmatch(line.strip())
    return found["key"] if found else None


def options(keys: Sequence[str]) -> list[str]:
    """Return the options by which ssh knows these host keys in addition to its own."""
    if not keys:
        return []
    words = " ".join(_quoted(word) for word in (str(_SCRIPT), *keys))
    return ["-o", f"KnownHostsCommand=/bin/sh {words}"]


def fingerprint(key: str, name: str) -> str:
    """Return a host key as ``ssh-keygen -l`` shows it.

    :param name: the machine's name or address, which is shown with it.
    """
    shown = process.run(["ssh-keygen", "-lf", "-"], stdin=f"{key} {name}\n".encode())
    return shown.stdout.strip() or key


def file_of(key: str) -> str:
    """Return where a NixOS machine has this public key."""
    kind = next((kind for begin, kind in _FILES.items() if key.startswith(begin)), "*")
    return f"/etc/ssh/ssh_host_{kind}_key.pub"


def is_checked(connection: Any) -> bool | None:
    """Return whether a connection of Ansible refuses an unknown host key; None for connections without host keys."""
    if connections.is_ssh(connection):
        # By default ssh asks, and without a terminal it refuses.
        set_somewhere = ssh_configuration.values("stricthostkeychecking", connections.command(connection)[1:])
        if {one.lower() for one in set_somewhere} <= _STRICT:
            return True
        return connections.configuration(connection).get("stricthostkeychecking") in _STRICT
    try:
        return connection.get_option("host_key_checking") is not False
    except KeyError:
        return None


def examine(connection: Any, own: Sequence[Known], told: str) -> Refused | None:
    """Find out which host key ssh refuses, by asking the host for its key once more.

    Works through any proxy or jump host, and no secret is sent.

    :returns: None if there is no answer, or the key is known.

    :param connection: Ansible's ssh connection.
    :param own: the keys that the deployment knows.
    :param told: what ssh said. It may know of keys that no file has.
    """
    settings = connections.configuration(connection)
    files = " ".join(settings.get(f"{whose}knownhostsfile", "") for whose in ("user", "global")).split()
    found = _offered(connection, _kinds(own))
    if found is None:
        return None
    known = [*(one for file in files for one in _of_file(os.path.expanduser(file), found[0])), *own]
    if _kinds(known) != _kinds(own):
        # ssh asks for a key of a known type first.
        found = _offered(connection, _kinds(known)) or found
    refused = judge(*found, known, told)
    return replace(refused, unread=unread(settings, own)) if refused else None


def unread(settings: Mapping[str, str], own: Sequence[Known]) -> str | None:
    """Return by what ssh may know keys that :func:`examine` can't read; None if there is nothing of that kind.

    :param settings: ssh's configuration.
    :param own: the keys that the deployment knows. The option that tells them hides a command of the user's.
    """
    command = settings.get("knownhostscommand", "none")
    if command != "none" and not own:
        return f"KnownHostsCommand {command}"
    for whose in ("User", "Global"):
        files = settings.get(f"{whose.lower()}knownhostsfile", "")
        # ssh -G does not quote the names: one with a space falls into parts.
        if not all(file == "none" or file.startswith(("/", "~")) for file in files.split()):
            return f"{whose}KnownHostsFile {files}"
    return None


def judge(name: str, key: str, known: Sequence[Known], told: str) -> Refused | None:
    """Decide why ssh refuses a host key; None if the key is known.

    :param told: what ssh said.
    """
    revoked = tuple(one for one in known if one.is_revoked and one.key == key)
    if revoked or "revoked" in told.lower():
        return Refused(name, key, Verdict.REVOKED, revoked)
    valid = tuple(one for one in known if not one.is_revoked)
    if any(one.key == key for one in valid):
        return None
    # ssh may know keys that no file has. So its words can make a key a changed one, and never a new one.
    is_changed = valid or "has changed" in told.lower()
    return Refused(name, key, Verdict.CHANGED if is_changed else Verdict.UNKNOWN, valid)


def of_lines(lines: Sequence[str], file: str, name: str) -> Iterator[Known]:
    """Read what ``ssh-keygen -F`` found in a file of known hosts.

    :param name: the name that it looked for.
    """
    number = ""
    for line in lines:
        if found := re.match(r"# Host .* found: line ([0-9]+)", line):
            number = found[1]
            continue
        marker, _space, rest = line.partition(" ") if line.startswith("@") else ("", "", line)
        key = read(rest.partition(" ")[2])
        # A certificate authority is not a key of the host.
        if key and marker in ("", "@revoked"):
            remove = f"ssh-keygen -R {shlex.quote(name)} -f {shlex.quote(file)}"
            yield Known(key, f"{file} line {number}", remove, marker == "@revoked")


def _of_file(file: str, name: str) -> Iterator[Known]:
    if not os.path.isfile(file):
        return iter(())
    found = process.run(["ssh-keygen", "-F", name, "-f", file])
    return of_lines(found.stdout.splitlines(), file, name)


def _kinds(known: Sequence[Known]) -> list[str]:
    return sorted({one.key.partition(" ")[0] for one in known})


def _offered(connection: Any, kinds: Sequence[str]) -> tuple[str, str] | None:
    """Return the name by which ssh knows the host of a connection, and the key that it offers.

    :param kinds: the types of keys to ask for first.
    """
    with tempfile.TemporaryDirectory(prefix="nix-ops-host-key-") as directory:
        file = Path(directory, "known_hosts")
        wanted = [*_LOOK, f"UserKnownHostsFile={_quoted(str(file))}"]
        if kinds:
            algorithms = [one for kind in kinds for one in _ALGORITHMS.get(kind, (kind,))]
            wanted.append(f"HostKeyAlgorithms=^{','.join(algorithms)}")
        connections.try_out(connection, [word for option in wanted for word in ("-o", option)])
        try:
            line = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        except OSError:
            return None
    names, _space, rest = line.partition(" ")
    key = read(rest)
    return (names.partition(",")[0], key) if key else None


def _quoted(word: str) -> str:
    """Quote a word for a value of ssh's configuration that is split into words."""
    escaped = word.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
