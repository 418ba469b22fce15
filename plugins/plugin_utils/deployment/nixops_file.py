# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what ``nixops export`` of NixOps 1.7 and 2 writes.

Both write the rows of their state file: for each UUID the attributes of a deployment, and below ``resources`` those of
its machines and of all else that it made. All values are texts; some are JSON, and arguments are in Nix's syntax
(nixops/deployment.py, nixops/backends/*.py). Nothing in the file is trusted.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import nix_values
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import host_keys
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import (
    HOST,
    PUBLIC_KEY,
    STATE_VERSION,
    USER,
    check_name,
)

# Maximum size of a file: some kilobytes for each machine.
_LARGEST = 2**26

# Machines that exist already.
NONE = "none"

# Kinds of machines of NixOps and its plugins. Other resources are not machines.
KINDS = (
    *(NONE, "azure", "container", "digitalOcean", "droplet", "ec2", "gce", "hetzner", "hetznercloud", "libvirtd"),
    *("packet", "proxmox", "vbox", "virtualbox", "vsphere"),
)

# Attributes that only a machine has, for kinds of other plugins.
_OF_MACHINES = {"stateVersion", "sshPinged", "toplevel"}

_ADDRESSES = ("targetHost", "hetzner.mainIPv4", "publicIpv4", "privateIpv4")
_PRIVATE_KEYS = ("sshPrivateKey", "clientPrivateKey", "privateClientKey")
_PUBLIC_KEYS = ("sshPublicKey", "clientPublicKey", "publicClientKey")
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----\n[A-Za-z0-9+/=:,. \n-]{1,16000}")

# Paths, and entries of the search path: without control characters.
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,4096}")

# Attributes of a deployment that are read, or that a deploy makes anew.
_KNOWN = {"name", "nixExprs", "nixPath", "args", "description", "configsPath", "resources", "rollbackEnabled"}


@dataclass(frozen=True)
class Machine:
    """A machine as NixOps knew it.

    :param kind: ``none`` if it existed already, otherwise what made it.
    :param address: where NixOps last reached it; None if that is not known.
    :param private_key: the private key with which NixOps logged in; None if NixOps made none.
    :param public_key: its public half.
    :param host_keys: its host keys, each of two words.
    """

    name: str
    kind: str
    address: str | None = None
    port: int | None = None
    user: str | None = None
    private_ipv4: str | None = None
    public_ipv4: str | None = None
    state_version: str | None = None
    private_key: str | None = None
    public_key: str | None = None
    host_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exported:
    """A deployment as NixOps knew it.

    :param name: None if it has none.
    :param files: absolute paths of network files, or names of the Nix search path; NixOps 2 keeps none.
    :param left: what can't come along, line by line.
    """

    uuid: str
    name: str | None
    files: tuple[str, ...]
    nix_path: tuple[str, ...]
    arguments: Mapping[str, Any]
    machines: tuple[Machine, ...]
    left: tuple[str, ...]


def load(path: str) -> list[Exported]:
    """Read a file that ``nixops export`` wrote.

    :raises OpsError: if it can't be read, or anything in it is not valid.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise OpsError(
            f"{path} can't be read: {error.strerror}",
            state="nothing was written",
            next_step="Write it with: nixops export > FILE, and name it: -e import_file=FILE.",
        ) from error
    if len(content) > _LARGEST:
        _refuse(f"{path} has more than {_LARGEST >> 20} MiB")
    try:
        return read(content)
    except OpsError as error:
        error.what = f"{path}: {error.what}"
        raise


def read(text: str | bytes) -> list[Exported]:
    """Read the text of an export.

    :raises OpsError: if anything in it is not valid.
    """
    try:
        document = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        _refuse(f"it is not JSON: {error}")
    if not isinstance(document, dict) or not document:
        _refuse("it has no deployment")
    return [_deployment(key, attributes) for key, attributes in document.items()]


def is_open(path: str) -> bool:
    """Return whether others than its owner may read a file."""
    return bool(Path(path).stat().st_mode & 0o077)


def _refuse(what: str, machine: str | None = None) -> NoReturn:
    raise OpsError(
        what, machine=machine, state="nothing was written", next_step="Correct the file, or export it again."
    )


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in the same mapping")
    return found


class _Attributes:
    """Reads the attributes of a deployment or of a resource, all of which are texts.

    :param where: its name, for messages.
    """

    def __init__(self, where: str, values: Any) -> None:
        if not isinstance(values, dict):
            _refuse(f"{where!r} is not a mapping")
        self.where = where
        self.values: dict[str, Any] = values

    def text(self, name: str, pattern: re.Pattern[str] | None = None) -> str | None:
        """Return an attribute; None if it is missing or empty."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            _refuse(f"{self.where}: {name} is not a text")
        text = str(value)
        if pattern and not pattern.fullmatch(text):
            # Its value may be secret.
            _refuse(f"{self.where}: {name} is not valid")
        return text

    def first(self, names: Sequence[str], pattern: re.Pattern[str]) -> str | None:
        """Return the first attribute that is there."""
        return next((text for name in names if (text := self.text(name, pattern))), None)

    def ending(self, names: Sequence[str], pattern: re.Pattern[str]) -> str | None:
        """Return the first attribute with such a name, after the name of the kind of machine and a point."""
        return self.first([one for one in sorted(self.values) if one.rpartition(".")[2] in names], pattern)

    def json(self, name: str, wanted: type) -> Any:
        """Return an attribute that is JSON in a text; an empty value if it is missing."""
        try:
            value = json.loads(self.text(name) or json.dumps(wanted()), object_pairs_hook=_each_once)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, wanted):
            _refuse(f"{self.where}: {name} is not valid")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return an attribute that is a list of printable texts."""
        values = self.json(name, list)
        if not all(isinstance(one, str) and _PRINTABLE.fullmatch(one) and one[0] != "-" for one in values):
            _refuse(f"{self.where}: {name} is not valid")
        return tuple(values)


def _deployment(key: str, values: Any) -> Exported:
    try:
        identifier = str(uuid.UUID(key))
    except ValueError:
        _refuse(f"{key[:40]!r} is not a UUID")
    read = _Attributes(identifier, values)
    all_resources = _Attributes("resources", read.values.get("resources", {})).values
    resources = {name: _Attributes(name, one) for name, one in all_resources.items()}
    kept = {name: one for name, one in resources.items() if one.text("obsolete") != "1"}
    machines = [_machine(name, one, kept) for name, one in kept.items() if _is_machine(one)]
    arguments, expressions = _arguments(read)
    files = read.texts("nixExprs")
    if not all(file[0] in "/<" for file in files):
        _refuse(f"{identifier}: nixExprs has a path that is not absolute")
    return Exported(
        uuid=identifier,
        name=read.text("name", _PRINTABLE),
        files=files,
        nix_path=read.texts("nixPath"),
        arguments=arguments,
        machines=tuple(machines),
        left=(*expressions, *_left(read, resources), *_left_of([one for one in machines if one.kind != NONE], kept)),
    )


def _is_machine(read: _Attributes) -> bool:
    return read.text("type") in KINDS or bool(_OF_MACHINES & read.values.keys())


def _machine(name: str, read: _Attributes, resources: Mapping[str, _Attributes]) -> Machine:
    check_name(name)
    port = read.text("targetPort", re.compile(r"[0-9]{1,5}"))
    if port and not 0 < int(port) < 65536:
        _refuse(f"{name}: targetPort is not a TCP port")
    kind = read.text("type", re.compile(r"[A-Za-z0-9_-]{1,40}"))
    if kind is None:
        _refuse(f"{name}: type is missing")
    private, public = _key_pair(read, resources)
    address = read.first(_ADDRESSES, HOST)
    if read.text("ec2.usePrivateIpAddress") == "1":
        address = read.text("privateIpv4", HOST)
    return Machine(
        name=name,
        kind=kind,
        # A container on another machine is reached through that machine.
        address=None if read.text("container.host") not in (None, "localhost") else address,
        port=int(port) if port and port != "22" else None,
        user=None if (user := read.text("targetUser", USER)) == "root" else user,
        private_ipv4=read.text("privateIpv4", HOST),
        public_ipv4=read.text("publicIpv4", HOST),
        state_version=read.text("stateVersion", STATE_VERSION),
        private_key=private,
        public_key=public,
        host_keys=tuple(_host_keys(read)),
    )


def _key_pair(read: _Attributes, resources: Mapping[str, _Attributes]) -> tuple[str | None, str | None]:
    """Return the private key with which NixOps logged in to a machine, and its public half."""
    private, public = read.ending(_PRIVATE_KEYS, _PRIVATE_KEY), read.ending(_PUBLIC_KEYS, PUBLIC_KEY)
    if private or public:
        return private, public
    named = read.text("ec2.keyPair")
    for name, one in resources.items():
        of_ec2 = one.text("type") == "ec2-keypair" and named is not None and one.text("ec2.keyPairName") == named
        of_droplet = read.text("type") == "digitalOcean" and name == "ssh-key" and one.text("type") == "ssh-keypair"
        if of_ec2 or of_droplet:
            return one.text("privateKey", _PRIVATE_KEY), one.text("publicKey", PUBLIC_KEY)
    return None, None


def _host_keys(read: _Attributes) -> Iterator[str]:
    for name in sorted(read.values):
        if name.rpartition(".")[2] == "publicHostKey" and (line := read.text(name)):
            key = host_keys.read(line)
            if key is None:
                _refuse(f"{read.where}: {name} is not valid")
            yield key


def _arguments(read: _Attributes) -> tuple[dict[str, Any], list[str]]:
    """Return the plain values among the arguments, and lines that name the others."""
    values: dict[str, Any] = {}
    expressions = []
    for name, text in read.json("args", dict).items():
        if not isinstance(text, str) or not _PRINTABLE.fullmatch(name):
            _refuse(f"{read.where}: args is not valid")
        try:
            values[name] = nix_values.read(text)
        except nix_values.NoPlainValue:
            expressions.append(
                f"the argument {name}, since it is an expression: write its value into 'arguments' of the source"
            )
    return values, expressions


def _left(read: _Attributes, resources: Mapping[str, _Attributes]) -> Iterator[str]:
    """Yield what of a deployment can't come along, beside its machines."""
    kinds: dict[str, list[str]] = {}
    for name, one in resources.items():
        if not _is_machine(one):
            kinds.setdefault(one.text("type", _PRINTABLE) or "resource", []).append(name)
        elif one.text("obsolete") == "1":
            yield f"{name}, since it has left the network: NixOps marks it as obsolete"
    for kind, names in kinds.items():
        yield f"what NixOps made beside machines ({kind}): {', '.join(sorted(names))}"
    if read.text("rollbackEnabled") == "1":
        yield "earlier configurations of the whole network (nixops rollback); the machines keep their own generations"
    for name in sorted(read.values.keys() - _KNOWN):
        yield f"NixOps' setting {name}"


def _left_of(machines: Sequence[Machine], resources: Mapping[str, _Attributes]) -> Iterator[str]:
    """Yield what can't come along of the machines that NixOps made."""
    if machines:
        named = ", ".join(f"{one.name} ({one.kind})" for one in machines)
        yield (
            f"what NixOps added to the machines that it made, as boot loaders and file systems: {named}; write it into"
            " the network (nixos-generate-config shows it on the machine)"
        )
    for one in machines:
        if one.address is None:
            yield f"the address of {one.name}: set deployment.targetHost"
        if resources[one.name].text("ec2.privateKeyFile"):
            yield f"the key file of {one.name}: ssh has to offer it by itself (ssh-agent, ~/.ssh/config)"
