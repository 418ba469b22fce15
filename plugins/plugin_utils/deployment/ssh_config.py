# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a configuration of OpenSSH, so that plain ``ssh MACHINE``, scp, rsync and editors reach machines.

It says what Ansible's connection says: where a machine was last acknowledged, port, user, keys, jump hosts, host keys.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import discovery, host_keys, places
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import connection as connections
from ansible_collections.nix.ops.plugins.plugin_utils.machine.connection import SSH_PORT
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host_keys import Known
from ansible_collections.nix.ops.plugins.plugin_utils.machine.ssh_configuration import DEFAULT_USER
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import check_name
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

# What a name or an address may have in a file in which blanks, quotes and # mean something.
_WORD = re.compile(r"[A-Za-z0-9_.:%@\[\]/~+,=][A-Za-z0-9_.:%@\[\]/~+,=-]*")
_OPTION = re.compile(r"\s*([A-Za-z][A-Za-z0-9]*)(?:\s*=\s*|\s+)(\S.*)")

# Options of ssh(1) with a value, and what they are in a file. Those that are None mean nothing there.
_WITH_VALUE: Mapping[str, str | None] = {
    "-J": "ProxyJump",
    "-i": "IdentityFile",
    "-l": "User",
    "-p": "Port",
    "-c": "Ciphers",
    "-m": "MACs",
    "-b": "BindAddress",
    "-B": "BindInterface",
    "-E": None,
}
_FLAGS: Mapping[str, str | None] = {
    "-4": "AddressFamily inet",
    "-6": "AddressFamily inet6",
    "-A": "ForwardAgent yes",
    "-a": "ForwardAgent no",
    "-K": "GSSAPIAuthentication yes",
    **dict.fromkeys(("-C", "-T", "-q", "-v", "-vv", "-vvv", "-x", "-n", "-tt", "-t")),
}
# They would begin another part of the file, or read another file.
_FORBIDDEN = ("host", "match", "include")
# Ansible's own sharing of connections, and what the file has in another form.
_LEFT_OUT = ("controlmaster", "controlpath", "controlpersist", "requesttty", "batchmode")
_OWN_HOST_KEYS = "known_host_keys.sh"
_OF_A_VAULT = re.compile(r'"?/proc/[0-9]+/fd/')


@dataclass(frozen=True)
class Configuration:
    """The configuration of a deployment's machines.

    :param known_hosts: the lines of known hosts that belong to it.
    :param notes: what could not be said in it, a sentence each.
    """

    text: str
    known_hosts: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Written:
    """A configuration that is in its place, or would be.

    :param before: what was there; empty if there was nothing.
    """

    path: str
    before: str
    after: str
    changed: bool
    notes: tuple[str, ...] = ()


@dataclass
class _Entry:
    """What is written of one machine."""

    lines: list[str] = field(default_factory=list)
    includes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def value(self, name: str) -> str | None:
        """Return the first value of an option, which is the one that counts for ssh."""
        found = (_OPTION.fullmatch(line) for line in self.lines)
        return next((one[2] for one in found if one and one[1].lower() == name.lower()), None)


def configure(
    name: str, uuid: str, hosts: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, str], warn: LineSink
) -> Configuration:
    """Return the configuration of a deployment's machines.

    :param name: the deployment's name.
    :param hosts: the variables of each host.
    :param defaults: Ansible's own settings ``ssh_args``, ``ssh_common_args`` and ``ssh_extra_args``.
    :raises OpsError: if a value could be read as more than a value.
    """
    file = places.ssh_known_hosts(uuid)
    parts = [f"# Written by nix.ops for the deployment {name}, {uuid}. Each deploy writes it anew."]
    known_hosts: list[str] = []
    notes: list[str] = []
    for host, variables in sorted(hosts.items()):
        check_name(host, "name of a host")
        entry = _entry(host, uuid, variables, defaults, warn)
        keys = _known_hosts(entry, host, uuid, variables)
        if keys and entry.value("UserKnownHostsFile") is None:
            known_hosts += keys
            entry.lines.append(f"UserKnownHostsFile ~/.ssh/known_hosts ~/.ssh/known_hosts2 {_quoted(str(file))}")
        parts.append("\n".join([f"Host {host}", *(f"  {line}" for line in (*entry.lines, *entry.includes))]))
        notes += entry.notes
    return Configuration("\n\n".join(parts) + "\n", "".join(f"{line}\n" for line in known_hosts), tuple(notes))


def write(uuid: str, wanted: Configuration, *, dry: bool) -> Written:
    """Put a configuration in its place, readable by its owner alone, unless it is there already.

    :param dry: only tell what would be written.
    :raises OpsError: if it can't be written.
    """
    file, known_hosts = places.ssh_config(uuid), places.ssh_known_hosts(uuid)
    before = _read(file)
    changed = before != wanted.text or _read(known_hosts) != wanted.known_hosts
    if changed and not dry:
        # The configuration names the other file.
        _replace(known_hosts, wanted.known_hosts)
        _replace(file, wanted.text)
    return Written(str(file), before, wanted.text, changed, wanted.notes)


def of_inventory(hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, dict[str, Mapping[str, Any]]]]:
    """Return the name and the machines of each deployment of an inventory, by UUID.

    :param hosts: the variables of each host.
    """
    found: dict[str, tuple[str, dict[str, Mapping[str, Any]]]] = {}
    for host, variables in hosts.items():
        if "nix_network" in variables:
            uuid = str(variables["nix_deployment_uuid"])
            found.setdefault(uuid, (str(variables["nix_deployment"]), {}))[1][str(host)] = variables
    return found


def refresh(hosts: Mapping[str, Mapping[str, Any]], warn: LineSink) -> list[str]:
    """Write the configurations anew that deployments of an inventory have; return the paths of those that changed.

    Best effort: the deploy has its result.

    :param hosts: the variables of all hosts.
    """
    if not _some_are_written():
        return []
    changed = []
    for uuid, (name, machines) in of_inventory(hosts).items():
        if not places.ssh_config(uuid).exists():
            continue
        try:
            found = write(uuid, configure(name, uuid, machines, defaults(), warn), dry=False)
        except OpsError as error:
            warn(f"the configuration of ssh for {name} is not up to date: {error}")
            continue
        if found.changed:
            changed.append(found.path)
    return changed


def _some_are_written() -> bool:
    """Return whether a deployment has a configuration, without the variables of any host: they cost time."""
    try:
        return any(places.ssh_config("any").parent.iterdir())
    except (OSError, OpsError):
        return False


def defaults() -> dict[str, str]:
    """Return Ansible's own settings of the connection ssh."""
    return {name: connections.setting(name) for name in ("ssh_args", "ssh_common_args", "ssh_extra_args")}


def _entry(host: str, uuid: str, variables: Mapping[str, Any], settings: Mapping[str, str], warn: LineSink) -> _Entry:
    state = discovery.remembered(host, uuid, warn)
    known = state.acknowledged if state else None
    entry = _Entry()

    def say(name: str, value: object) -> None:
        entry.lines.append(f"{name} {_word(host, name, str(value)).replace('%', '%%')}")

    def read(name: str) -> None:
        given = variables.get(f"ansible_{name}")
        text = settings[name] if given is None else str(given)
        _translate(host, _split(host, name, text), entry)

    say("HostName", known.address if known else variables.get("ansible_host") or host)
    read("ssh_args")
    # The port of ssh's own configuration is recorded as ssh's default.
    acknowledged = known.port if known and known.port != SSH_PORT else None
    if port := acknowledged or (None if known else variables.get("ansible_port")):
        say("Port", port)
    if key := variables.get("ansible_ssh_private_key_file"):
        entry.lines.append(f"IdentityFile {_quoted(os.path.expanduser(str(key)))}")
    if user := variables.get("ansible_user"):
        say("User", user)
    read("ssh_common_args")
    read("ssh_extra_args")
    if entry.value("User") is None and not entry.includes:
        say("User", variables.get("nix_ssh_user") or DEFAULT_USER)
    return entry


def _split(host: str, name: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise _refused(host, f"ansible_{name}", text) from error


def _translate(host: str, words: Sequence[str], entry: _Entry) -> None:
    """Write options of ssh's command line as lines of a file."""
    left = iter(words)
    for word in left:
        letter, joined = word[:2], word[2:]
        if letter in ("-o", "-F", *_WITH_VALUE):
            value = joined or next(left, "")
            if letter == "-o":
                _translate_option(host, value, entry)
            elif letter == "-F":
                _include(host, value, entry)
            elif name := _WITH_VALUE[letter]:
                path = letter == "-i"
                entry.lines.append(f"{name} {_quoted(value) if path else _word(host, name, value)}")
        elif word in _FLAGS:
            if line := _FLAGS[word]:
                entry.lines.append(line)
        else:
            entry.notes.append(f"{host}: the option {word} of ssh has no place in a file, so it is left out.")


def _translate_option(host: str, text: str, entry: _Entry) -> None:
    found = _OPTION.fullmatch(text)
    # The same words stand in a file, where ssh reads them in the same way.
    if not found or not text.isprintable() or found[1].lower() in _FORBIDDEN:
        raise _refused(host, "an option of ssh", text)
    name, value = found[1], found[2]
    if name.lower() in _LEFT_OUT or _OWN_HOST_KEYS in value:
        return
    if name.lower() == "identityfile" and _OF_A_VAULT.match(value):
        entry.notes.append(f"{host}: its key is encrypted by ansible-vault, so that plain ssh offers your own keys.")
        return
    line = f"{name} {value}"
    if line not in entry.lines:
        entry.lines.append(line)


def _include(host: str, path: str, entry: _Entry) -> None:
    if path != "none":
        if not path.isprintable():
            raise _refused(host, "-F", path)
        # Last, since the first value of an option counts: Ansible's own options come before the file as well.
        entry.includes.append(f"Include {_quoted(os.path.abspath(os.path.expanduser(path)), percent=False)}")


def _known_hosts(entry: _Entry, host: str, uuid: str, variables: Mapping[str, Any]) -> list[str]:
    known = host_keys.of_variables(variables)
    alias, address = entry.value("HostKeyAlias"), entry.value("HostName") or host
    port = entry.value("Port") or str(SSH_PORT)
    name = alias or (address.replace("%%", "%").lower() if port == str(SSH_PORT) else f"[{address.lower()}]:{port}")
    return list(dict.fromkeys(_line(name, one) for one in known))


def _line(name: str, known: Known) -> str:
    return f"{'@revoked ' if known.is_revoked else ''}{name} {known.key}"


def _word(host: str, name: str, value: str) -> str:
    if not _WORD.fullmatch(value):
        raise _refused(host, name, value)
    return value


def _refused(host: str, name: str, value: str) -> OpsError:
    return OpsError(
        f"{name} {value!r} can't be written into a configuration of ssh",
        machine=host,
        state="the configuration was not written",
        next_step="Correct it where it is set: deployment.targetHost or sshOptions of the network, or a variable"
        " ansible_* of the host.",
    )


def _quoted(path: str, *, percent: bool = True) -> str:
    """Quote a path for a file of ssh."""
    if not path.isprintable():
        raise OpsError(f"{path!r} can't be written into a configuration of ssh", next_step="Rename it.")
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped.replace("%", "%%") if percent else escaped}"'


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _unwritable(file, error) from error


def _replace(file: Path, text: str) -> None:
    """Write a file at once, for its owner alone."""
    try:
        places.make_private(file.parent)
        # A name that ssh's Include DIRECTORY/* does not match.
        descriptor, new = tempfile.mkstemp(dir=file.parent, prefix=".new-")
        try:
            with open(descriptor, "w", encoding="utf-8") as opened:
                opened.write(text)
            os.replace(new, file)
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise
    except OSError as error:
        raise _unwritable(file, error) from error


def _unwritable(file: Path, error: OSError) -> OpsError:
    return OpsError(
        f"the configuration of ssh can't be written to {file}",
        output=str(error),
        state="what was there is still there",
        next_step=f"Make {file.parent} writable, or set XDG_STATE_HOME.",
    )
