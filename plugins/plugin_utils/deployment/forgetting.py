# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forgets machines and deployments. The machines themselves stay as they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import configuration, discovery, fact_cache, places
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import YES, Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine, place
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation
from ansible_collections.nix.ops.plugins.plugin_utils.network.source import SOURCE_SUFFIX
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

_NOTHING_REMOVED = "nothing was removed"

_FORGOTTEN = {"busy": Key(YES), "forgotten": Key(YES)}


@dataclass(frozen=True)
class Removal:
    """What a deployment leaves on the controller.

    :param files: files and links.
    :param directories: directories with all that is in them.
    :param known_hosts: the file with the accepted host keys; None if no line of it is removed.
    :param machine: the machine whose lines are removed from ``known_hosts``.
    """

    files: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    known_hosts: str | None = None
    machine: str | None = None

    def paths(self) -> list[str]:
        """Return what is removed, for the user."""
        lines = [f"{self.known_hosts} (the lines of {self.machine})"] if self.known_hosts else []
        return [*self.files, *self.directories, *lines]


def of_machine(uuid: str, deployment: str, machine: str, source: str) -> Removal:
    """Return what the controller keeps of one machine, except its facts.

    A private key in a directory that the source names is the user's own file, and stays.

    :param source: the path of the deployment's source.
    """
    keys = places.keys(uuid)
    links = [
        one / machine for one in (places.toplevels(uuid, deployment, source), places.old_toplevels(deployment, source))
    ]
    links += [one / machine for one in sorted(places.deploys(uuid).glob("*"))]
    files = [one for one in (keys / machine, keys / f"{machine}.pub", *dict.fromkeys(links)) if os.path.lexists(one)]
    known = places.known_hosts(uuid)
    is_known = any(line.startswith(f"{machine} ") for line in _lines(known))
    return Removal(tuple(map(str, files)), (), str(known) if is_known else None, machine)


def of_deployment(deployment: Deployment, *, keeps_keys: bool) -> Removal:
    """Return what the controller keeps of a deployment, its source first.

    :param keeps_keys: whether the private keys stay: machines that exist may accept no other ones.
    """
    uuid, path = deployment.uuid, deployment.path
    files = [Path(path), places.known_hosts(uuid), places.ssh_config(uuid), places.ssh_known_hosts(uuid)]
    directories = [places.toplevels(uuid, deployment.name, path), places.deploys(uuid)]
    if not keeps_keys:
        directories.append(places.keys(uuid))
    if cfg := _own_configuration(deployment):
        files.append(cfg)
        directories.append(Path(places.facts(uuid)).expanduser())
    return Removal(
        tuple(str(one) for one in files if os.path.lexists(one)),
        tuple(str(one) for one in directories if one.is_dir()),
    )


def remove(what: Removal) -> None:
    """Remove files, directories and lines. What is gone already counts as removed.

    :raises OpsError: if something can't be removed.
    """
    try:
        for directory in what.directories:
            shutil.rmtree(directory)
        # The source comes last: as long as it is there, the same can be run again.
        for file in reversed(what.files):
            Path(file).unlink(missing_ok=True)
        if what.known_hosts:
            _without_lines(Path(what.known_hosts), f"{what.machine} ")
    except OSError as error:
        raise OpsError(
            "not everything could be removed",
            output=str(error),
            state="what could be removed before is gone",
            next_step="Make it writable, then run the same again.",
        ) from error


def machines_of(deployment: Deployment, env: Mapping[str, str], warn: LineSink) -> dict[str, State]:
    """Return the states of the machines of a deployment that exist, by host.

    The machines are those of the network, or of its last good definitions, and all that the controller keeps files of.

    :raises OpsError: if the fact cache can't tell.
    """
    fact_cache.check(deployment.uuid)
    names: dict[str, None] = {}
    if deployment.network is not None:
        try:
            names |= dict.fromkeys(evaluation.evaluate(deployment.network, env=env).definitions)
        except OpsError:
            last = evaluation.last_good(deployment.network)
            names |= dict.fromkeys(last.evaluation.definitions if last else ())
    kept = places.toplevels(deployment.uuid, deployment.name, deployment.path), places.keys(deployment.uuid)
    for directory in kept:
        with suppress(OSError):
            names |= dict.fromkeys(one.removesuffix(".pub") for one in os.listdir(directory))
    return discovery.deployed(deployment, names, warn)


def obsolete(deployment: Deployment, env: Mapping[str, str], warn: LineSink) -> dict[str, str]:
    """Return the names of the machines that were deployed and have left the network, by host.

    :raises OpsError: if the network does not evaluate, or the fact cache can't tell.
    """
    if deployment.network is None:
        raise OpsError(f"{deployment.path} can't be read", output=deployment.problem, state="nothing was forgotten")
    fact_cache.check(deployment.uuid)
    names = evaluation.evaluate(deployment.network, env=env).definitions
    deployed = discovery.deployed(deployment, names, warn)
    hosts = {deployment.host(name) for name in names}
    return {host: one.machine for host, one in deployed.items() if host not in hosts and one.machine not in names}


def check_no_machines(deployment: Deployment, machines: Collection[str]) -> None:
    """Refuse to delete a deployment whose machines exist.

    :raises OpsError: naming the machines.
    """
    if not machines:
        return
    there = sorted(host for host in machines if host in deployment.hosts.values())
    gone = sorted(set(machines) - set(there))
    known = ", ".join(there) or "none in the inventory"
    obsolete = f"; no longer in the network: {', '.join(gone)}" if gone else ""
    raise OpsError(
        f"deployment {deployment.name} still has machines: {known}{obsolete}",
        state=_NOTHING_REMOVED,
        next_step="Forget its machines first with nix.ops.destroy, or delete it in spite of them with"
        " -e delete_force=true. The machines themselves stay as they are in both cases.",
    )


def unknown_machines(deployment: Deployment, error: OpsError) -> OpsError:
    """Return the error for a deployment of whose machines nothing is known.

    :param error: why the fact cache can't tell.
    """
    return OpsError(
        f"it is not known whether machines of deployment {deployment.name} exist",
        output=error.what,
        state=_NOTHING_REMOVED,
        next_step="Use the ansible.cfg of its deploys, or delete it in spite of that with -e delete_force=true.",
    )


def on_machine(machine: Machine, uuid: str) -> None:
    """Remove what a deployment keeps on a machine: its record, the list of its keys, and its GC root.

    :raises OpsError: if an activation is at work, which would write the record again.
    :raises ConnectionLost: if the machine can't be reached.
    """
    told = machine.ask("deployment/forget", uuid, schema=_FORGOTTEN, awaits="the removal of its record")
    if "forgotten" not in told:
        raise busy(machine.name)


def busy(machine: str) -> OpsError:
    """Return the error for a machine with an activation at work, which would write its record again."""
    return OpsError(
        "an activation is at work on the machine",
        machine=machine,
        state="nothing was forgotten",
        next_step="Wait for it to end, or end it with nix.ops.unlock. Then run the same again.",
    )


def place_of_record(uuid: str) -> str:
    """Return where a machine has its record of a deployment."""
    return f"{place('records')}/{uuid}"


def left(deployment: Deployment, machines: Iterable[str]) -> list[str]:
    """Return lines about what a deleted deployment leaves, and what remains to do for the user.

    :param machines: the hosts of machines that exist.
    """
    lines = []
    if machines := sorted(machines):
        lines.append(f"the machines stay as they are: {', '.join(machines)}")
        lines.append(f"their own records stay too: {place_of_record(deployment.uuid)} on each")
        if (keys := places.keys(deployment.uuid)).is_dir():
            lines.append(f"their private keys stay in {keys}: they may accept no other ones")
    settings, name = configuration.of_this_run(), os.path.basename(deployment.path)
    if settings.file and Path(settings.file).exists() and name in map(os.path.basename, settings.inventory):
        lines.append(f"remove {name} from 'inventory' in {settings.file}")
    return lines


def _own_configuration(deployment: Deployment) -> Path | None:
    """Return the ``ansible.cfg`` that was written for this deployment alone, and that nobody has edited."""
    directory = Path(deployment.path).parent
    file = directory / configuration.NAME
    others = [one for one in directory.glob(f"*{SOURCE_SUFFIX}") if str(one) != deployment.path]
    try:
        text = file.read_text(encoding="utf-8")
        settings = configuration.of_directory(str(directory))
        own = configuration.compose(deployment.path, deployment.uuid, settings.enabled if settings else ())
    except (OSError, ValueError, OpsError):
        return None
    return file if text == own and not others else None


def _lines(file: Path) -> Iterator[str]:
    with suppress(OSError):
        yield from file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)


def _without_lines(file: Path, begin: str) -> None:
    kept = [line for line in _lines(file) if not line.startswith(begin)]
    new = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as opened:
        opened.writelines(kept)
    new.replace(file)
