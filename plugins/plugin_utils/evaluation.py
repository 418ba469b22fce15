# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network files and remembered inputs in; definitions and derivations out."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils import nix_cli
from ansible_collections.nix.ops.plugins.plugin_utils import remembered_evaluations as disk
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.runner import LineSink

# Up to this many machines, one evaluation answers definitions and derivations.
EAGER = 10

_NIX = os.path.join(os.path.dirname(__file__), "nix")
_EVALUATING = re.compile(r"^evaluating file '(.*)'$")

_MACHINE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]*\$?")
# What remembered inputs look like.
STATE_VERSION = re.compile(r"[0-9]{2}\.[0-9]{2}")
PUBLIC_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]{40,2000}( [ -~]*)?")

_DEPLOYMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")

# Ansible gives these a meaning of its own.
_MISREAD = frozenset({"all", "ungrouped", "localhost", "omit"})


@dataclass(frozen=True)
class Network:
    """What is to be evaluated.

    :param name: the deployment's name.
    :param uuid: the deployment's UUID.
    :param files: absolute paths of the network files; empty where a flake is given.
    :param flake: reference of a flake whose nixosConfigurations are the machines.
    :param arguments: JSON values for network files that are functions.
    :param nix_path: search path entries that come before NIX_PATH.
    :param options: settings of Nix.
    """

    name: str
    uuid: str
    files: tuple[str, ...] = ()
    flake: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    nix_path: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _DEPLOYMENT_NAME.fullmatch(self.name):
            raise OpsError(
                f"{self.name!r} can not be a deployment's name",
                next_step="Use letters, digits, '_', '-' and '.', beginning with a letter or '_'.",
            )
        if bool(self.files) == bool(self.flake):
            raise OpsError(f"deployment {self.name} needs either files or a flake")


@dataclass(frozen=True)
class Remembered:
    """The remembered inputs of one machine.

    :param state_version: the NixOS release the machine was first seen with.
    :param ssh_public_key: the key of the deployment that may log in as root.
    """

    state_version: str | None = None
    ssh_public_key: str | None = None

    def as_json(self) -> dict[str, str]:
        """Give what is known, in the words of the Nix expressions."""
        known = {"stateVersion": self.state_version, "sshPublicKey": self.ssh_public_key}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True)
class Derivation:
    """How something is built, and where it will be."""

    drv_path: str
    out_path: str


@dataclass(frozen=True)
class Definition:
    """What the network says of one machine beside its system.

    :param target_user: none where the network leaves it open.
    :param always_activate: whether the network sets deployment.alwaysActivate; its default does not count.
    :param health_checks: deployment.healthChecks as JSON values, in the words of the host variable
        ``nix_health_checks``; None where nothing is to be checked.
    """

    name: str
    target_env: str
    target_host: str
    target_port: int
    target_user: str | None
    ssh_options: tuple[str, ...]
    privilege_escalation_command: tuple[str, ...]
    provision_ssh_key: bool
    always_activate: bool
    owners: tuple[str, ...]
    tags: tuple[str, ...]
    nixos_release: str
    health_checks: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Evaluation:
    """The answer of a network.

    :param description: network.description.
    :param definitions: all machines of the network, by name.
    :param derivations: the machines whose system was evaluated too.
    :param messages: what Nix said meanwhile: warnings and traces.
    """

    description: str
    definitions: Mapping[str, Definition]
    derivations: Mapping[str, Derivation]
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expression:
    """What is to be built where it is not a network: one of expression, file and flake.

    :param expression: text of a Nix expression, read relative to the working directory.
    :param file: path of a Nix file.
    :param flake: a flake's reference, without the `#attribute`.
    :param attribute: path of the attribute in it.
    :param arguments: JSON values for what is a function.
    """

    expression: str | None = None
    file: str | None = None
    flake: str | None = None
    attribute: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    nix_path: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.expression, self.file, self.flake)) != 1:
            raise OpsError("give exactly one of an expression, a file and a flake reference")


def evaluate(
    network: Network,
    *,
    remembered: Mapping[str, Remembered] | None = None,
    env: Mapping[str, str] | None = None,
    on_line: LineSink | None = None,
    remember: bool = True,
    systems: bool = True,
) -> Evaluation:
    """Answer what the network's machines are.

    Definitions of all machines and, where there are at most EAGER, their derivations
    come from one run of Nix. Where that fails, one machine's system may be at fault, so
    the definitions are asked for alone.

    :param remember: whether an answer of an earlier run may be given, and this one kept for later runs.
    :param systems: whether derivations are wanted at all.
    :raises OpsError: where Nix refuses the network, or we do.
    """
    said: set[str] = set()

    def once(line: str) -> None:
        if on_line is not None and line not in said:
            on_line(line)
        said.add(line)

    try:
        return _ask(network, None, EAGER if systems else 0, remembered or {}, env or {}, once, remember)
    except _NixFailure:
        if not systems:
            raise
        return _ask(network, None, 0, remembered or {}, env or {}, once, remember)


def instantiate(
    network: Network,
    names: Sequence[str],
    *,
    remembered: Mapping[str, Remembered] | None = None,
    env: Mapping[str, str] | None = None,
    on_line: LineSink | None = None,
) -> dict[str, Derivation]:
    """Answer the derivations of exactly these machines.

    What this run or an earlier one has evaluated is used as long as it holds.

    :raises OpsError: where a machine is not in the network, or its system does not evaluate.
    """
    if not names:
        return {}
    wanted = tuple(sorted(set(names)))
    # A machine's inputs change no other machine: with those of the others the question is one that was asked before.
    others = {name: inputs for name, inputs in (last_inputs(network) or {}).items() if name not in wanted}
    known, env = {**others, **(remembered or {})}, env or {}
    whole = _recall(_Question(network, None, EAGER, known, env))
    if whole is not None and set(wanted) <= set(whole.derivations):
        answer = whole
    else:
        answer = _ask(network, wanted, 0, known, env, on_line, True)
    keep_inputs(network, known)
    return {name: answer.derivations[name] for name in wanted}


def last_inputs(network: Network) -> dict[str, Remembered] | None:
    """Give the remembered inputs that a network's machines were last instantiated with; None where none ever was.

    They are a guess at what the next derivations will be asked for with, for who can not know that yet.
    """
    kept = disk.load_inputs(_identity(network))
    if kept is None:
        return None
    known = {name: _inputs(one) for name, one in kept.items()}
    return {name: inputs for name, inputs in known.items() if inputs != Remembered()}


def keep_inputs(network: Network, remembered: Mapping[str, Remembered]) -> None:
    """Keep what :func:`last_inputs` gives."""
    known = {name: inputs.as_json() for name, inputs in remembered.items()}
    disk.store_inputs(_identity(network), {name: inputs for name, inputs in known.items() if inputs})


def _inputs(kept: Mapping[str, Any]) -> Remembered:
    def known(name: str, pattern: re.Pattern[str]) -> str | None:
        value = kept.get(name)
        return value if isinstance(value, str) and pattern.fullmatch(value) else None

    return Remembered(known("stateVersion", STATE_VERSION), known("sshPublicKey", PUBLIC_KEY))


def _identity(network: Network) -> list[Any]:
    return [network.name, network.uuid, list(network.files), network.flake]


def instantiate_expression(
    expression: Expression,
    *,
    env: Mapping[str, str] | None = None,
    on_line: LineSink | None = None,
    cwd: str | None = None,
) -> tuple[Derivation, ...]:
    """Answer the derivations behind an expression.

    :param cwd: the directory that relative paths start from.
    :raises OpsError: where it does not evaluate or holds no derivation.
    """
    given = {
        "file": str(Path(cwd or "", expression.file).absolute()) if expression.file else None,
        "flake": expression.flake,
        "attribute": list(expression.attribute),
        "arguments": dict(expression.arguments),
    }
    code = [] if expression.expression is None else ["--arg", "expression", expression.expression]
    asked = _nix(
        "expression.nix",
        given,
        [*code, *_search_path(expression.nix_path)],
        flakes=expression.flake is not None,
        env=_environment(expression.options, env or {}),
        on_line=on_line,
        cwd=cwd,
    )
    return tuple(Derivation(found["drv"], found["out"]) for found in asked.answer)


def check_name(name: str, what: str = "a machine's name") -> None:
    """Refuse a name that Ansible or a shell could misread.

    :raises OpsError: where it is one.
    """
    if not _MACHINE_NAME.fullmatch(name) or name.lower() in _MISREAD:
        raise OpsError(
            f"{name!r} can not be {what}: Ansible or a shell could misread it",
            next_step="Use letters, digits, '_', '-' and '.', beginning with a letter or '_'.",
        )


class _NixFailure(OpsError):
    """Nix itself refused to evaluate."""


@dataclass(frozen=True)
class _Asked:
    answer: Any
    messages: tuple[str, ...]
    files: tuple[str, ...]
    started: float


@dataclass(frozen=True)
class _Question:
    """All that an answer depends on, beside what Nix reads."""

    network: Network
    names: tuple[str, ...] | None
    eager: int
    remembered: Mapping[str, Remembered]
    env: Mapping[str, str]

    def inputs(self) -> dict[str, Any]:
        network = self.network
        return {
            "files": list(network.files),
            "flake": network.flake,
            "arguments": dict(network.arguments),
            "name": network.name,
            "uuid": network.uuid,
            "remembered": {name: inputs.as_json() for name, inputs in self.remembered.items() if inputs.as_json()},
            "names": None if self.names is None else list(self.names),
            "eager": self.eager,
        }

    def key(self) -> str:
        settings = [*self.network.nix_path, sorted(self.network.options.items())]
        return disk.key([self.inputs(), settings], self.env, _NIX)


# Answers of this process and of those it was forked from, and what they were read from.
_answers: dict[str, tuple[Evaluation, disk.Reads]] = {}


def _recall(question: _Question) -> Evaluation | None:
    key = question.key()
    if key in _answers:
        evaluation, reads = _answers[key]
        if reads.hold(question.env):
            return evaluation
        del _answers[key]
        return None
    if question.network.flake is not None:
        return None
    kept = disk.load(key)
    if kept is None:
        return None
    answer, reads = kept
    if not reads.hold(question.env):
        return None
    evaluation = _evaluation(answer["answer"], tuple(answer["messages"]))
    if not all(Path(derivation.drv_path).exists() for derivation in evaluation.derivations.values()):
        return None
    _answers[key] = (evaluation, reads)
    return evaluation


def _ask(
    network: Network,
    names: tuple[str, ...] | None,
    eager: int,
    remembered: Mapping[str, Remembered],
    env: Mapping[str, str],
    on_line: LineSink | None,
    remember: bool,
) -> Evaluation:
    question = _Question(network, names, eager, remembered, env)
    recalled = _recall(question) if remember else None
    if recalled is not None:
        for line in recalled.messages:
            if on_line is not None:
                on_line(line)
        return recalled
    asked = _nix(
        "evaluation.nix",
        question.inputs(),
        _search_path(network.nix_path),
        flakes=network.flake is not None,
        env=_environment(network.options, env),
        on_line=on_line,
        verbose=network.flake is None,
    )
    evaluation = _evaluation(asked.answer, asked.messages)
    reads = disk.reads(asked.files, network.files, network.nix_path, env, started=asked.started, own=_NIX)
    key = question.key()
    _answers[key] = (evaluation, reads)
    if remember and network.flake is None and reads.bounded:
        disk.store(key, {"answer": asked.answer, "messages": list(asked.messages)}, reads)
    return evaluation


def _nix(
    file: str,
    given: Mapping[str, Any],
    arguments: Sequence[str],
    *,
    flakes: bool,
    env: Mapping[str, str],
    on_line: LineSink | None,
    verbose: bool = False,
    cwd: str | None = None,
) -> _Asked:
    messages: list[str] = []
    files: list[str] = []
    failing = False

    def hear(line: str) -> None:
        nonlocal failing
        if evaluating := _EVALUATING.match(line):
            files.append(evaluating[1])
            return
        messages.append(line)
        # The error is told once, whole, by whoever catches it.
        failing = failing or line.startswith("error:")
        if on_line is not None and not failing:
            on_line(line)

    started = time.time()
    with _private_json(given) as inputs:
        argv = ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode"]
        if verbose:
            # Makes Nix tell which files it evaluates.
            argv.append("-v")
        if flakes:
            argv += ["--extra-experimental-features", "nix-command flakes"]
        argv += [os.path.join(_NIX, file), "--argstr", "inputs", inputs, *arguments]
        completed = nix_cli.run(argv, env=env, cwd=cwd, on_stderr=hear)
    if completed.exit_code != 0:
        raise _NixFailure(
            "Nix could not evaluate",
            output="\n".join(messages),
            state="no machine was touched",
            next_step="Correct what Nix names above.",
            exit_code=completed.exit_code,
        )
    return _Asked(json.loads(completed.stdout), tuple(messages), tuple(files), started)


@contextmanager
def _private_json(value: Mapping[str, Any]) -> Iterator[str]:
    directory = tempfile.mkdtemp(prefix="nix.ops-")
    try:
        path = os.path.join(directory, "inputs.json")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(value, file)
        yield path
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _search_path(entries: Sequence[str]) -> list[str]:
    for entry in entries:
        if entry.startswith("-"):
            raise OpsError(f"{entry!r} can not be an entry of the Nix path", next_step="Correct 'nix_path'.")
    return [word for entry in entries for word in ("-I", entry)]


def _environment(options: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    return nix_cli.with_settings(options, env, os.environ.get("NIX_CONFIG", ""))


def _evaluation(answer: Mapping[str, Any], messages: tuple[str, ...]) -> Evaluation:
    for name in answer["definitions"]:
        check_name(name)
    return Evaluation(
        description=answer["network"]["description"],
        definitions={name: _definition(name, one) for name, one in answer["definitions"].items()},
        derivations={name: Derivation(one["drv"], one["out"]) for name, one in answer["derivations"].items()},
        messages=messages,
    )


def _definition(name: str, answer: Mapping[str, Any]) -> Definition:
    definition = Definition(
        name=name,
        target_env=answer["targetEnv"],
        target_host=answer["targetHost"],
        target_port=answer["targetPort"],
        target_user=answer["targetUser"],
        ssh_options=tuple(answer["sshOptions"]),
        privilege_escalation_command=tuple(answer["privilegeEscalationCommand"]),
        provision_ssh_key=answer["provisionSSHKey"],
        always_activate=answer["alwaysActivate"],
        owners=tuple(answer["owners"]),
        tags=tuple(answer["tags"]),
        nixos_release=answer["nixosRelease"],
        health_checks=_health_checks(answer["healthChecks"]),
    )
    _check(definition, answer["keys"])
    return definition


def _health_checks(answer: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    words = {"validateCerts": "validate_certs"}
    http = [{words.get(name, name): value for name, value in check.items()} for check in answer["http"]]
    return {**answer, "http": http}


def _check(definition: Definition, keys: Sequence[str]) -> None:
    def refuse(option: str, why: str, next_step: str) -> None:
        raise OpsError(f"deployment.{option} {why}", machine=definition.name, next_step=next_step)

    if definition.target_env != "none":
        refuse(
            "targetEnv",
            f"is {definition.target_env!r}, but only machines that exist already ('none') are supported",
            'Set deployment.targetEnv = "none", or leave it out.',
        )
    if not _HOST.fullmatch(definition.target_host):
        refuse(
            "targetHost",
            f"is {definition.target_host!r}, which is no host name or address",
            "Set it to the name or address by which the controller reaches the machine.",
        )
    if not 0 < definition.target_port < 65536:
        refuse("targetPort", f"is {definition.target_port}, which is no TCP port", "Set it to the SSH server's port.")
    if definition.target_user is not None and not _USER.fullmatch(definition.target_user):
        refuse(
            "targetUser",
            f"is {definition.target_user!r}, which is no user name",
            "Set it to the user of the SSH connection.",
        )
    if definition.target_user not in (None, "root") and not definition.privilege_escalation_command:
        refuse(
            "privilegeEscalationCommand",
            f"is empty, but {definition.target_user!r} has to become root",
            'Name a command, for example [ "sudo" "-H" "--" ].',
        )
    if keys:
        refuse(
            "keys",
            f"({', '.join(keys)}) is not supported yet",
            "Take deployment.keys out of the network; nothing was deployed without its keys.",
        )
