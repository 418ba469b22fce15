# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports deployments of NixOps: decides what to write for each, and writes it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils import process
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import (
    configuration,
    creation,
    fact_cache,
    host_keys,
    places,
    ssh_keys,
)
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.creation import File, Plan, quote
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.nixops_file import NONE, Exported, Machine
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Remembered
from ansible_collections.nix.ops.plugins.plugin_utils.network.source import SOURCE_SUFFIX, is_searched

_TEMPLATE = Path(__file__).parents[1] / "network" / "imported.nix"
_NOTHING_WRITTEN = "nothing was written"

# The networks that NixOps 2 finds by itself.
_NETWORK, _FLAKE = "nixops.nix", "flake.nix"


@dataclass(frozen=True)
class Import:
    """What the import of a deployment writes.

    :param plan: its files.
    :param states: what is remembered of each machine.
    :param known_hosts: the host keys of each machine.
    :param added: the directory of the network file for machines that NixOps made; None if it made none.
    """

    exported: Exported
    path: str
    plan: Plan
    states: Mapping[str, State]
    known_hosts: Mapping[str, tuple[str, ...]]
    added: str | None

    @property
    def name(self) -> str:
        """The deployment's name."""
        return os.path.basename(self.path).removesuffix(SOURCE_SUFFIX)


def choose(exports: Sequence[Exported], wanted: str | None, name: str | None) -> list[Exported]:
    """Return the deployments to import, each with a name.

    :param wanted: the name or UUID of the only one to import; None for all.
    :param name: another name for it.
    :raises OpsError: if there is none, one has no name, or two have the same.
    """
    chosen = [one for one in exports if wanted in (None, one.name, one.uuid)]
    if not chosen:
        raise _refusal(
            f"the file has no deployment {wanted}",
            f"Name one of these: {', '.join(one.name or one.uuid for one in exports)}.",
        )
    if name and len(chosen) > 1:
        raise _refusal("only one deployment can get another name", "Choose it with -e import_deployment=UUID.")
    named = [replace(one, name=name or one.name) for one in chosen]
    names = [one.name for one in named]
    for one in named:
        if not one.name:
            raise _refusal(
                f"the deployment {one.uuid} has no name",
                f"Name it: -e import_deployment={one.uuid} -e import_name=NAME.",
            )
        if names.count(one.name) > 1:
            raise _refusal(
                f"two deployments have the name {quote(one.name)}",
                f"Import each by itself, into a directory of its own: -e import_deployment={one.uuid}.",
            )
    return named


def check_new(exported: Exported, path: str, known: Iterable[Deployment]) -> None:
    """Refuse a deployment that is here already.

    :param path: the path of its source.
    :raises OpsError: if its UUID or its source exists.
    """
    for one in known:
        if one.uuid == exported.uuid:
            raise _refusal(
                f"there is a deployment with the UUID {exported.uuid} already: {quote(one.name)}, {one.path}",
                "Nothing is left to do, if it was imported before.",
            )
    if os.path.lexists(path):
        raise _refusal(f"{path} exists already", "Give the deployment another name: -e import_name=NAME.")


def options(exported: Exported, given: Mapping[str, Any], directory: str) -> dict[str, Any]:
    """Return the options of a source, as those of deployment_create.

    :param given: the options of deployment_import, which win over what NixOps kept.
    :raises OpsError: if the files of the network are not known.
    """
    networks, flake = list(given["networks"] or exported.files), given["flake"]
    gone = [file for file in exported.files if not is_searched(file) and not os.path.exists(file)]
    if flake:
        networks = []
    elif gone and not given["networks"]:
        raise _refusal(
            f"{gone[0]}, a network file of {quote(exported.name or exported.uuid)}, does not exist",
            "Name the files where they are now: -e networks=a.nix,b.nix.",
        )
    elif not networks and Path(directory, _NETWORK).exists():
        networks = [_NETWORK]
    elif not networks and Path(directory, _FLAKE).exists():
        flake = "."
    if not networks and not flake:
        raise _refusal(
            f"the network files of {quote(exported.name or exported.uuid)} are not known: NixOps 2 does not keep them,"
            f" and there is no {_NETWORK} or {_FLAKE} in {directory}",
            "Run the same again where they are, or name them: -e networks=a.nix,b.nix, or -e flake=.",
        )
    return {
        "deployment": exported.name,
        "networks": networks,
        "flake": flake,
        "uuid": exported.uuid,
        "arguments": dict(exported.arguments),
        "nix_path": list(given["nix_path"] or exported.nix_path),
        "options": {},
    }


def plan(exported: Exported, path: str, config: Mapping[str, Any], *, with_keys: bool) -> Import:
    """Decide what to write for a deployment, without what is there already.

    :param path: the path of its source.
    :param config: the options of the source.
    :param with_keys: whether to write the private keys.
    :raises OpsError: if a private key is not valid, or another file is where one belongs.
    """
    added = f"{path.removesuffix(SOURCE_SUFFIX)}-imported"
    machines = {one.name: document for one in exported.machines if (document := _document(one)) is not None}
    files: list[File] = []
    if machines and config.get("files"):
        text = _TEMPLATE.read_text(encoding="utf-8").partition("\n\n")[2]
        places_of = json.dumps(machines, indent=2) + "\n"
        files = [
            File(os.path.join(added, "default.nix"), text, text),
            File(os.path.join(added, "machines.json"), places_of, places_of),
        ]
        config = {**config, "files": [*config["files"], os.path.basename(added)]}
    remembered = {}
    for one in exported.machines:
        public, pair = _key_pair(exported, one) if with_keys else (one.public_key, [])
        files += pair
        inputs = Remembered(one.state_version, public)
        remembered[one.name] = State(exported.uuid, str(exported.name), one.name, inputs)
    base = creation.plan(path, config, exported.uuid)
    pairs = (str(places.keys(exported.uuid)),) if with_keys else ()
    return Import(
        exported,
        path,
        Plan((*_missing(files), *base.files), (*base.directories, *pairs), base.hints),
        remembered,
        {one.name: one.host_keys for one in exported.machines if one.host_keys},
        added if machines else None,
    )


def check_cache(planned: Import) -> str | None:
    """Return the directory of the fact cache that a new ``ansible.cfg`` names; None for this run's own cache.

    :raises OpsError: if this run's own cache would forget.
    """
    uuid = planned.exported.uuid
    if facts := [one for one in planned.plan.directories if places.is_facts(one)]:
        return os.path.expanduser(facts[0])
    fact_cache.check(uuid)
    return None


def without_settings(planned: Import) -> Import:
    """Leave out the ``ansible.cfg``, which another deployment of the same import has written."""
    files = [file for file in planned.plan.files if os.path.basename(file.path) != configuration.NAME]
    directories = [one for one in planned.plan.directories if not places.is_facts(one)]
    hint = f"choose it with -i {os.path.basename(planned.path)}, or add that to 'inventory' in {configuration.NAME}"
    is_new = len(files) < len(planned.plan.files)
    hints = (hint, *planned.plan.hints) if is_new else planned.plan.hints
    return replace(planned, plan=Plan(tuple(files), tuple(directories), hints))


def write(planned: Import, facts: str | None) -> None:
    """Write all that belongs to a deployment.

    :param facts: the directory of its fact cache; None for this run's own.
    :raises OpsError: if a file can't be written; no file is left then.
    """
    uuid, added = planned.exported.uuid, planned.added
    with suppress(FileExistsError):
        if added and _writes_added(planned):
            os.mkdir(added)
    try:
        creation.write(os.path.dirname(planned.path), planned.plan)
    except OpsError:
        with suppress(OSError):
            os.rmdir(added or "")
        raise
    for machine, keys in planned.known_hosts.items():
        for key in keys:
            if key not in [one.key for one in host_keys.known(uuid, machine, ())]:
                host_keys.accept(uuid, machine, key)
    for machine, state in planned.states.items():
        fact_cache.keep(machine, state, facts)


def describe_deployment(planned: Import) -> str:
    """Return a deployment's UUID and its machines, for people."""
    return f"deployment {quote(planned.exported.uuid)}: {', '.join(sorted(planned.states)) or 'no machines'}"


def describe_written(planned: Import) -> Iterator[str]:
    """Yield what was written, line by line."""
    keys = str(places.keys(planned.exported.uuid))
    yield f"imported {describe_deployment(planned)}"
    for file in planned.plan.files:
        if os.path.dirname(file.path) != keys:
            yield f"wrote {file.path}"
    if private := [file for file in planned.plan.files if os.path.dirname(file.path) == keys and file.private]:
        yield f"wrote the private SSH keys of {len(private)} machines into {keys}"


def describe(planned: Import, machines: Iterable[str] | None) -> Iterator[str]:
    """Yield what can't come along, line by line.

    :param machines: the machines of the network; None if it does not evaluate.
    """
    for line in planned.exported.left:
        yield f"can't come along: {line}"
    exported = {one.name for one in planned.exported.machines}
    if planned.added and not _writes_added(planned):
        yield "can't come along: where the machines are that NixOps made, since the network is a flake"
    if machines is None:
        return
    for name in sorted(exported - set(machines)):
        yield f"can't come along: {name}, since the network has no machine of that name"
    for name in sorted(set(machines) - exported):
        yield f"{name} is new: NixOps has not deployed it"


def _writes_added(planned: Import) -> bool:
    return any(os.path.dirname(file.path) == planned.added for file in planned.plan.files)


def _document(machine: Machine) -> dict[str, Any] | None:
    """Return where a machine is that NixOps made; None for one that existed already, since its network tells."""
    if machine.kind == NONE:
        return None
    found = {
        "address": machine.address,
        "port": machine.port,
        "user": machine.user,
        "privateIPv4": machine.private_ipv4,
        "publicIPv4": machine.public_ipv4,
    }
    return {name: value for name, value in found.items() if value is not None}


def _key_pair(exported: Exported, machine: Machine) -> tuple[str | None, list[File]]:
    """Return the public key of a machine, and the files of its key pair."""
    if machine.private_key is None:
        return machine.public_key, []
    private = f"{machine.private_key.strip()}\n"
    # From a pipe, so that no file has the key before it is checked.
    told = process.run(["ssh-keygen", "-y", "-P", "", "-f", "/dev/stdin"], stdin=private.encode())
    derived = told.stdout.split()[:2]
    if told.exit_code != 0 or len(derived) != 2:
        raise _refusal(
            f"{machine.name}: its private key is not one that ssh can read",
            "Import without private keys, and log in with keys of yours: -e import_keys=false.",
        )
    # The comment is a part of the system, and some versions of ssh-keygen leave it out.
    public = machine.public_key or " ".join(derived)
    if public.split()[:2] != derived:
        raise _refusal(
            f"{machine.name}: its public key does not belong to its private key",
            "Correct the file, or export it again.",
        )
    path = ssh_keys.path_of(exported.uuid, machine.name)
    return public, [
        File(path, private, "(hidden)\n", private=True),
        File(f"{path}.pub", f"{public}\n", f"{public}\n"),
    ]


def _missing(files: Iterable[File]) -> list[File]:
    """Return the files that are not there already.

    :raises OpsError: if another file is in the place of one.
    """
    missing = []
    for file in files:
        if not os.path.lexists(file.path):
            missing.append(file)
        elif not _has(file):
            raise _refusal(f"{file.path} exists already, and is something else", "Move it away.")
    return missing


def _has(file: File) -> bool:
    try:
        return Path(file.path).read_text(encoding="utf-8") == file.text
    except (OSError, ValueError):
        return False


def _refusal(what: str, next_step: str) -> OpsError:
    return OpsError(what, state=_NOTHING_WRITTEN, next_step=next_step)
