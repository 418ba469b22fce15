# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluates networks and other Nix expressions."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import cache as disk
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import (
    PUBLIC_KEY,
    STATE_VERSION,
    Derivation,
    Evaluation,
    Expression,
    Network,
    Remembered,
    evaluation_of,
)
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

# Up to this many machines, one evaluation returns definitions and derivations.
EAGER = 10

_NIX = os.path.dirname(__file__)
_EVALUATING = re.compile(r"^evaluating file '(.*)'$")


def evaluate(
    network: Network,
    *,
    remembered: Mapping[str, Remembered] | None = None,
    env: Mapping[str, str] | None = None,
    on_line: LineSink | None = None,
    remember: bool = True,
    systems: bool = True,
) -> Evaluation:
    """Evaluate the definitions of a network's machines, and their derivations if there are at most EAGER machines.

    Both come from one run of Nix. If it fails, the system of one machine may be the reason, so the definitions are
    evaluated again without the systems.

    :param remember: whether to use the result of an earlier run, and to keep this one for later runs.
    :param systems: whether to evaluate derivations.
    :raises OpsError: if the network does not evaluate, or has a value that is not supported.
    """
    shown: set[str] = set()

    def once(line: str) -> None:
        if on_line is not None and line not in shown:
            on_line(line)
        shown.add(line)

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
    """Evaluate the derivations of exactly these machines.

    Uses an earlier evaluation if nothing that it read has changed.

    :raises OpsError: if a machine is not in the network, or its system does not evaluate.
    """
    if not names:
        return {}
    wanted = tuple(sorted(set(names)))
    # With the last inputs of the other machines, an earlier evaluation of all of them can be used.
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
    """Return the remembered inputs with which a network's machines were last instantiated; None if never.

    They are a guess of the next inputs, for callers that don't have them yet.
    """
    kept = disk.load_inputs(_identity(network))
    if kept is None:
        return None
    known = {name: _inputs(one) for name, one in kept.items()}
    return {name: inputs for name, inputs in known.items() if inputs != Remembered()}


def keep_inputs(network: Network, remembered: Mapping[str, Remembered]) -> None:
    """Keep the inputs for :func:`last_inputs`."""
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
    """Evaluate the derivations of an expression.

    :param cwd: the directory for relative paths.
    :raises OpsError: if it does not evaluate, or has no derivation.
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


class _NixFailure(OpsError):
    """Nix failed to evaluate."""


@dataclass(frozen=True)
class _Asked:
    answer: Any
    messages: tuple[str, ...]
    files: tuple[str, ...]
    started: float


@dataclass(frozen=True)
class _Question:
    """Everything that an evaluation depends on, except the files that Nix reads."""

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


# Evaluations of this process and of the processes it was forked from, with what they read.
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
    evaluation = evaluation_of(answer["answer"], tuple(answer["messages"]))
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
    evaluation = evaluation_of(asked.answer, asked.messages)
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
        # The exception has the whole error, so it is not shown here as well.
        failing = failing or line.startswith("error:")
        if on_line is not None and not failing:
            on_line(line)

    started = time.time()
    with _private_json(given) as inputs:
        argv = ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode"]
        if verbose:
            # With -v Nix names the files that it evaluates.
            argv.append("-v")
        if flakes:
            argv += ["--extra-experimental-features", "nix-command flakes"]
        argv += [os.path.join(_NIX, file), "--argstr", "inputs", inputs, *arguments]
        completed = nix.run(argv, env=env, cwd=cwd, on_stderr=hear)
    if completed.exit_code != 0:
        raise _NixFailure(
            "the evaluation failed",
            output="\n".join(messages),
            state="no machine was touched",
            next_step="Correct the error that Nix shows above.",
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
            raise OpsError(f"{entry!r} is not a valid entry of the Nix path", next_step="Correct 'nix_path'.")
    return [word for entry in entries for word in ("-I", entry)]


def _environment(options: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    return nix.with_settings(options, env, os.environ.get("NIX_CONFIG", ""))
