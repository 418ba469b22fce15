# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides which keys of a machine are sent when."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.keys import contents, sending, together
from ansible_collections.nix.ops.plugins.plugin_utils.keys.contents import Sources
from ansible_collections.nix.ops.plugins.plugin_utils.keys.sending import Sending, Sent
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import ComparedKeys
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation, source
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Key, check_keys
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink


@dataclass(frozen=True)
class Preview:
    """What a sending would do.

    :param unknown: the keys whose command was not run, so that it is not known whether they differ.
    """

    sent: Sent
    unknown: tuple[str, ...] = ()


class Delivery:
    """The keys of a machine and their contents, which are collected once they are needed.

    :param machine: returns the machine.
    :param deployment: the UUID of the deployment.
    :param keys: all keys of the deployment on the machine.
    :param sources: where their contents come from.
    :param run: the run whose evaluated contents these are (:mod:`together`).
    :param keeps_old: whether the replaced keys are kept for a deploy that may take them back.
    :param differing: the keys that differed when the machine was asked; None if it was not.
    :param asks_first: whether the machine has to answer before it gets contents.
    :raises OpsError: if a key has no content, or a content has no key.
    """

    def __init__(
        self,
        machine: Callable[[], Machine],
        deployment: str,
        keys: Sequence[Key],
        sources: Sources,
        on_line: LineSink,
        *,
        run: str = "",
        keeps_old: bool = False,
        differing: Collection[str] | None = None,
        asks_first: bool = False,
    ) -> None:
        contents.check_names(sources.machine, {key.name: key.source for key in keys}, list(sources.given))
        self._machine = machine
        self._deployment = deployment
        self._run = run
        self._keys = tuple(keys)
        self._sources = sources
        self._say = on_line
        self._how = Sending(
            deployment, differing=differing, keeps="anew" if keeps_old else "forget", asks_first=asks_first
        )
        self._collected: dict[str, bytes] = {}
        self._unknown: tuple[str, ...] = ()
        # What became of the keys so far.
        self.sent = Sent()

    def check(self) -> None:
        """Collect the contents.

        :raises OpsError: if one is missing, empty, forbidden or can't be read.
        """
        self._contents(key.name for key in self._keys)

    def question(self) -> str:
        """Return the question by which a machine is described and its keys are compared. No command of a key is run."""
        found = contents.collect(self._keys, self._sources, run=False)
        self._unknown = tuple(sorted(name for name, content in found.items() if content is None))
        known = {name: content for name, content in found.items() if content is not None}
        return sending.question(self._deployment, self._keys, known)

    def compared(self, found: ComparedKeys | None) -> dict[str, Any] | None:
        """Return the answer to :meth:`question` by names; None if the machine can't tell, or tells what can't be."""
        if found is None or any(number >= len(self._keys) for number in found.differing):
            return None
        differing = sorted({self._keys[number].name for number in found.differing})
        told = {"differing": differing, "gone": list(found.gone), "unknown": list(self._unknown)}
        return {"run": self._run, **told}

    def preview(self, names: Collection[str] | None = None, *, whole: bool) -> Preview:
        """Return what sending all keys would do. No command of a key is run.

        :param names: compare these keys only.
        :param whole: whether keys that left the network would be removed.
        """
        chosen = self._choose(names)
        found = contents.collect(chosen, self._sources, run=False)
        known = {name: content for name, content in found.items() if content is not None}
        how = replace(self._how, whole=whole, lenient=True, look=True)
        sent = sending.send(self._machine(), self._keys, known, how)
        return Preview(sent, tuple(sorted(found.keys() - known.keys())))

    def send(self, names: Collection[str] | None = None, *, whole: bool = False, lenient: bool = False) -> Sent:
        """Send all keys.

        :param names: send these keys only.
        :param whole: whether to remove keys that left the network. What runs must not need them any more.
        :param lenient: whether an activation or a boot follows that makes missing users.
        """
        wanted = self._contents(key.name for key in self._choose(names))
        return self._send(wanted, replace(self._how, whole=whole, lenient=lenient))

    def send_before(self) -> Sent:
        """Send what an activation needs. Removes nothing, since the old system runs yet."""
        found = self._contents(key.name for key in self._keys if not key.after)
        return self._send(found, replace(self._how, before=True, lenient=True))

    def send_after(self, *, whole: bool, lenient: bool) -> None:
        """Send what is left after an activation, if anything is.

        :param whole: whether to remove the keys that left the network. What runs must not need them any more.
        :param lenient: whether a boot follows that makes missing users.
        """
        skipped = self.sent.is_activating
        wanted = [key.name for key in self._keys if skipped or key.after or key.name in self.sent.waits]
        if wanted or (whole and self.sent.left):
            found = self._contents(wanted)
            self._send(found, replace(self._how, whole=whole, lenient=lenient))

    def take_back(self) -> None:
        """Put back what :meth:`send_before` has replaced if no activation has begun. Best effort."""
        with suppress(ConnectionLost, OpsError):
            self.treat_old("unstarted")

    def treat_old(self, what: str) -> tuple[str, ...]:
        """Put back or remove what was replaced, as :func:`sending.treat_old`."""
        names = sending.treat_old(self._machine(), self._deployment, what)
        if names:
            self._say(f"the old keys are back: {', '.join(names)}")
        return names

    def _send(self, wanted: Mapping[str, bytes], how: Sending) -> Sent:
        sent = sending.send(self._machine(), self._keys, wanted, how)
        if self._how.keeps == "anew":
            # What follows belongs to the same deploy.
            self._how = replace(self._how, keeps="on")
        self.sent |= sent
        for line in lines(sent):
            self._say(line)
        return sent

    def _contents(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of these keys. Each is collected once."""
        wanted = set(names)
        found = contents.collect(
            [key for key in self._keys if key.name in wanted - self._collected.keys()], self._sources
        )
        self._collected |= {name: content for name, content in found.items() if content is not None}
        return {name: content for name, content in self._collected.items() if name in wanted}

    def _choose(self, names: Collection[str] | None) -> list[Key]:
        unknown = sorted(set(names or ()) - {key.name for key in self._keys})
        if unknown:
            raise OpsError(
                f"no key {', '.join(unknown)}",
                machine=self._sources.machine,
                state="no key was touched",
                next_step=f"Its keys are: {', '.join(key.name for key in self._keys) or 'none'}.",
            )
        return [key for key in self._keys if names is None or key.name in names]


@dataclass(frozen=True)
class Task:
    """What a delivery needs of a task of Ansible.

    :param name: the machine's name, for messages.
    :param machine: returns the machine.
    :param variables: the variables of the task.
    :param run: what tells this task from others, if no earlier one has evaluated contents.
    :param load: reads a YAML file, vaults included.
    :param env: the variables of Nix.
    :param is_checked: whether ssh checks the machine's host key; None if the connection has none.
    """

    name: str
    machine: Callable[[], Machine]
    variables: Mapping[str, Any]
    run: str
    load: Callable[[str], Any]
    env: Mapping[str, str]
    on_line: LineSink
    is_checked: bool | None


def of_options(options: Mapping[str, Any], task: Task) -> Delivery:
    """Return the delivery that the options of a module describe.

    :raises OpsError: as :class:`Delivery` does.
    """
    keys = [Key(key, **_known(definition)) for key, definition in sorted(options["definitions"].items())]
    check_keys(task.name, keys)
    network, compared = options["network"], options["compared"] or {}
    directory = os.path.dirname(network) if network else os.getcwd()
    run = str(compared.get("run") or task.run)
    evaluate = None
    if network:
        project = contents.project_of(directory) if options["files"] == "project" else None
        evaluate = partial(
            together.contents,
            run,
            network,
            options["machine"] or task.name,
            others=partial(together.others_of, task.variables, network),
            evaluate=partial(_evaluate, network, task, project),
        )
    sources = Sources(task.name, options["contents"], evaluate, directory, options["commands"], options["files"])
    return Delivery(
        task.machine,
        options["deployment"],
        keys,
        sources,
        task.on_line,
        run=run,
        keeps_old=bool(options.get("keep_old")),
        differing=compared.get("differing"),
        asks_first=task.is_checked is False,
    )


def _known(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {one.name: definition[one.name] for one in fields(Key) if one.name != "name" and one.name in definition}


def _evaluate(file: str, task: Task, project: str | None, keys: together.Wanted) -> together.Found:
    network = source.read_source(file, task.load)
    return evaluation.key_contents(network, keys, env=task.env, on_line=task.on_line, project=project)


def lines(sent: Sent) -> list[str]:
    """Return what became of the keys, without their contents."""
    told = {"added": sent.added, "changed": sent.changed, "removed": sent.removed}
    found = [f"keys {what}: {', '.join(names)}" for what, names in told.items() if names]
    return [*found, *([f"restarted {', '.join(sent.restarted)}"] if sent.restarted else [])]


def remaining(sent: Sent) -> list[str]:
    """Return a line about the keys that left the network and are still there, if there are any."""
    return [f"keys that left the network, until a deploy removes them: {', '.join(sent.left)}"] if sent.left else []


def as_json(sent: Sent, unknown: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return what became of the keys as the plain values that modules return."""
    # The key "changed" is Ansible's own.
    told = {
        "added": sent.added,
        "replaced": sent.changed,
        "removed": sent.removed,
        "left": sent.left,
        "restarted": sent.restarted,
    }
    return {**{what: list(names) for what, names in told.items()}, "unknown": list(unknown)}


def difference(sent: Sent, unknown: Sequence[str] = ()) -> str:
    """Return the difference as text for a diff."""
    told = [
        *lines(sent),
        *remaining(sent),
        *([f"keys of commands, not compared: {', '.join(unknown)}"] if unknown else []),
    ]
    return "".join(f"{line}\n" for line in told)
