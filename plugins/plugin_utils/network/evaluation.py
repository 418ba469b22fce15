# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluates networks and other Nix expressions."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import bounded, evaluator, flakes, pins, private, settings
from ansible_collections.nix.ops.plugins.plugin_utils.network import cache as disk
from ansible_collections.nix.ops.plugins.plugin_utils.network.bounds import Bounds, bounds_of, forbidden, misjudged
from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluator import Asked, Follower, NixFailure
from ansible_collections.nix.ops.plugins.plugin_utils.network.fingerprint import STORE, Reads, is_nixpkgs
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
from ansible_collections.nix.ops.plugins.plugin_utils.network.workers import Cost, Meter, Pool
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Heartbeat, beat

# Up to this many machines, one evaluation returns definitions and derivations. Fewer if two processes are quicker.
EAGER = 10


class Listener(Protocol):
    """Hears of machines while others are still evaluated. Its methods may be called by several threads."""

    def made(self, name: str, derivation: Derivation) -> None:
        """Hear that a machine's system is evaluated. May be called again with the same."""

    def look(self) -> None:
        """Raise an exception to end the evaluation. Called about once a second."""


def evaluate(
    network: Network,
    *,
    remembered: Mapping[str, Remembered] | None = None,
    env: Mapping[str, str] | None = None,
    on_line: LineSink | None = None,
    remember: bool = True,
) -> Evaluation:
    """Evaluate the definitions of a network's machines, and their derivations if there are at most EAGER machines.

    Both come from one run of Nix. If it fails, the system of one machine may be the reason, so the definitions are
    evaluated again without the systems.

    :param remember: whether to use the result of an earlier run, and to keep this one for later runs.
    :raises OpsError: if the network does not evaluate, or has a value that is not supported.
    """
    once = _each_once(on_line)
    try:
        return _ask(network, None, EAGER, remembered or {}, env or {}, once, remember)
    except NixFailure:
        return _ask(network, None, 0, remembered or {}, env or {}, once, remember)


def definitions(
    network: Network,
    *,
    env: Mapping[str, str] | None = None,
    on_line: LineSink | None = None,
    remember: bool = True,
) -> Evaluation:
    """Return the definitions of a network's machines, without evaluating a system.

    Those of an earlier evaluation of this run count, whatever its remembered inputs were.

    :param remember: as for :func:`evaluate`.
    :raises OpsError: as :func:`evaluate`.
    """
    env, inputs = env or {}, last_inputs(network) or {}
    known = _known_definitions(_question(network, None, 0, {}, env)) if remember else None
    if known is None and remember:
        # An evaluation with the systems has the definitions as well.
        known = _recall(_question(network, None, EAGER, inputs, env))
    if known is None:
        return _ask(network, None, 0, inputs, env, _each_once(on_line), remember)
    for line in known.messages:
        if on_line is not None:
            on_line(line)
    return known


def instantiate(
    network: Network,
    names: Sequence[str],
    *,
    remembered: Mapping[str, Remembered] | None = None,
    env: Mapping[str, str] | None = None,
    on_line: LineSink | None = None,
    listener: Listener | None = None,
) -> dict[str, Derivation]:
    """Evaluate the derivations of exactly these machines.

    Uses an earlier evaluation if nothing that it read has changed.

    :param listener: hears of machines while others are evaluated. It hears nothing of an earlier evaluation.
    :raises OpsError: if a machine is not in the network, or its system does not evaluate.
    """
    if not names:
        return {}
    wanted = tuple(sorted(set(names)))
    # With the last inputs of the other machines, an earlier evaluation of all of them can be used.
    others = {name: inputs for name, inputs in (last_inputs(network) or {}).items() if name not in wanted}
    known, env = {**others, **(remembered or {})}, env or {}
    whole = _recall(_question(network, None, EAGER, known, env))
    if whole is not None and set(wanted) <= set(whole.derivations):
        answer = whole
    else:
        answer = _ask(network, wanted, 0, known, env, _each_once(on_line), True, listener)
    keep_inputs(network, known)
    return {name: answer.derivations[name] for name in wanted}


def instantiate_each(
    network: Network,
    names: Sequence[str],
    *,
    remembered: Mapping[str, Remembered] | None = None,
    env: Mapping[str, str] | None = None,
    on_line: LineSink | None = None,
    listener: Listener | None = None,
) -> tuple[dict[str, Derivation], dict[str, OpsError]]:
    """Evaluate the derivations of these machines, also if those of others do not evaluate.

    :param listener: as for :func:`instantiate`.
    :returns: the derivations, and the error of each machine whose system does not evaluate.
    :raises OpsError: if the network itself does not evaluate.
    """
    left, show = set(names), _each_once(on_line)
    found: dict[str, Derivation] = {}
    failures: dict[str, OpsError] = {}
    while left:
        try:
            ask = partial(instantiate, remembered=remembered, env=env, on_line=show, listener=listener)
            found |= ask(network, sorted(left))
            break
        except NixFailure as failure:
            # An error in a definition stops the others, too.
            definitions(network, env=env)
            if failure.failing not in left:
                raise
            failure.machine = failure.failing
            failures[failure.failing] = failure
            found |= {name: Derivation(one["drv"], one["out"]) for name, one in failure.made.items()}
            left -= {failure.failing, *failure.made}
    return {name: found[name] for name in names if name in found}, failures


@dataclass(frozen=True)
class LastGood:
    """The definitions with which a network last evaluated. Nothing is built by them.

    :param time: when that was, in seconds since 1970.
    """

    evaluation: Evaluation
    time: int

    def __str__(self) -> str:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.time))


def last_good(network: Network) -> LastGood | None:
    """Return the definitions with which a network last evaluated; None if they are not kept."""
    kept = disk.load_definitions(_identity(network))
    if kept is None:
        return None
    try:
        return LastGood(evaluation_of({**kept[1], "derivations": {}}, ()), kept[0])
    except (OpsError, KeyError, TypeError, AttributeError):
        # Another version of the collection has kept them.
        return None


def copies(network: Network, path: str) -> bool:
    """Return whether a network that was evaluated reads a path as part of a directory, as by ``src = ./.``."""
    if network.flake is not None and Path(network.flake.removeprefix("path:"), ".git").exists():
        # Nix copies what Git knows.
        return False
    return disk.load_bounds(_identity(network)).cover(os.path.realpath(path))


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


def key_contents(
    network: Network,
    keys: Mapping[str, Sequence[str]],
    *,
    env: Mapping[str, str] | None = None,
    on_line: LineSink | None = None,
    project: str | None = None,
) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """Evaluate the contents of keys: for each machine and name ``text`` and ``command``. Nothing of it is kept.

    :param keys: for each machine the names of its keys.
    :param project: the only directory that may be read, beside nixpkgs and other entries of the Nix path; None for any.
    :raises OpsError: if the network does not evaluate.
    """
    question = _question(network, None, 0, {}, env or {})
    only = None if project is None else _readable(question, project)
    try:
        asked = evaluator.ask(
            "key-contents.nix",
            {**question.inputs(), "keys": {machine: list(names) for machine, names in keys.items()}},
            nix_path=question.network.nix_path,
            flakes=network.flake is not None,
            env=question.settings(),
            on_line=on_line,
            named=network.files,
            only=only,
        )
    except NixFailure as failure:
        if project is not None and forbidden(failure.output or ""):
            failure.next_step = (
                f"The contents of keys may come from the project {project} alone (deploy_key_files). Move what is read"
                " there, or give the contents in the variable nix_keys."
            )
        raise
    return dict(asked.answer)


def inspect(
    file: str,
    network: Network,
    given: Mapping[str, Any],
    *,
    remembered: Mapping[str, Remembered] | None = None,
    env: Mapping[str, str] | None = None,
    on_line: LineSink | None = None,
) -> Any:
    """Return what one of the files ``show-*.nix`` answers about a network. Nothing of it is kept.

    :param given: JSON values for the file, beside those of the network.
    :raises OpsError: if the network does not evaluate.
    """
    question = _question(network, None, 0, remembered or {}, env or {})
    asked = evaluator.ask(
        file,
        {**question.inputs(), **given},
        nix_path=question.network.nix_path,
        flakes=network.flake is not None,
        env=question.settings(),
        on_line=on_line,
        named=network.files,
    )
    return asked.answer


def _readable(question: _Question, project: str) -> list[str]:
    """Return what may be read if only a project may: it, nixpkgs, and what the user's own Nix path names.

    :raises OpsError: if the source, which comes with the project, names another place.
    """
    places = [entry["path"] for entry in settings.search_path(question.network.nix_path, {"NIX_PATH": ""})]
    for place in places:
        real = os.path.realpath(place)
        if not f"{real}/".startswith((f"{project}/", STORE)) and not is_nixpkgs(real):
            raise OpsError(
                f"nix_path of the source names {place}, outside of the project {project} (deploy_key_files)",
                state="no machine was touched",
                next_step="Move it into the project, or name it in the variable NIX_PATH.",
            )
    own = settings.search_path((), question.environment())
    return [project, *places, *(entry["path"] for entry in own)]


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
    file = str(Path(cwd or "", expression.file).absolute()) if expression.file else None
    given = {
        "file": file,
        "flake": expression.flake,
        "attribute": list(expression.attribute),
        "arguments": dict(expression.arguments),
    }
    env = _with_options(expression.options, env or {})
    asked = evaluator.ask(
        "expression.nix",
        given,
        nix_path=pins.resolve(expression.nix_path, env),
        arguments=[] if expression.expression is None else ["--arg", "expression", expression.expression],
        flakes=expression.flake is not None,
        env=env,
        on_line=on_line,
        cwd=cwd,
        named=[file or cwd or os.getcwd()],
    )
    return tuple(Derivation(found["drv"], found["out"]) for found in asked.answer)


@dataclass(frozen=True)
class _Question:
    """Everything that an evaluation depends on, except the files that Nix reads."""

    network: Network
    names: tuple[str, ...] | None
    eager: int
    remembered: Mapping[str, Remembered]
    env: Mapping[str, str]
    addresses: Mapping[str, str | None] | None = None

    def inputs(self, names: Sequence[str] | None = None) -> dict[str, Any]:
        """Return what Nix is given.

        :param names: the machines whose systems to evaluate; by default those of the question.
        """
        network = self.network
        names = self.names if names is None else names
        return {
            "files": list(network.files),
            "flake": network.flake,
            "arguments": dict(network.arguments),
            "name": network.name,
            "uuid": network.uuid,
            "remembered": {name: inputs.as_json() for name, inputs in self.remembered.items() if inputs.as_json()},
            "names": None if names is None else list(names),
            "eager": self.eager,
            "addresses": None if self.addresses is None else dict(self.addresses),
        }

    def settings(self) -> dict[str, str]:
        """Return Nix's variables in addition to those of the process."""
        return _with_options(self.network.options, self.env)

    def environment(self) -> dict[str, str]:
        """Return all variables of the evaluation."""
        return {**os.environ, **self.settings()}

    @cached_property
    def key(self) -> str:
        return disk.key([self.inputs(), list(self.network.nix_path)], self.environment(), evaluator.NIX)


def _question(
    network: Network,
    names: tuple[str, ...] | None,
    eager: int,
    remembered: Mapping[str, Remembered],
    env: Mapping[str, str],
) -> _Question:
    """Return a question with the places of pinned sources, so that a change of a pin is another question."""
    entries = pins.resolve(network.nix_path, _with_options(network.options, env))
    question = _Question(replace(network, nix_path=entries), names, eager, remembered, env)
    known = None if names is None else _known_definitions(question)
    if known is None:
        return question
    # A machine's host file has the addresses of all others, which need not be evaluated for that again.
    return replace(question, addresses={name: one.address for name, one in known.definitions.items()})


# Evaluations of this process and of the processes it was forked from, with what they read.
_answers: dict[str, tuple[Evaluation, Reads]] = {}


def _remember_here(question: _Question, evaluation: Evaluation, reads: Reads) -> None:
    """Remember an evaluation for the rest of this run."""
    _answers[question.key] = (evaluation, reads)
    if question.names is None:
        _answers[_key_of_definitions(question)] = (evaluation, reads)


def _known_definitions(question: _Question) -> Evaluation | None:
    """Return the last definitions of a network that were evaluated in this run; None if they no longer hold."""
    evaluation, reads = _answers.get(_key_of_definitions(question), (None, Reads(())))
    return evaluation if evaluation and reads.hold(question.environment()) else None


def _key_of_definitions(question: _Question) -> str:
    """Return the key of a network's last definitions."""
    return f"definitions {replace(question, names=None, eager=0, remembered={}).key}"


def _recall(question: _Question) -> Evaluation | None:
    key = question.key
    environment = question.environment()
    if key in _answers:
        evaluation, reads = _answers[key]
        if reads.hold(environment) and _exist(evaluation):
            return evaluation
        del _answers[key]
    kept = disk.load(key)
    if kept is None or kept.answer is None or kept.reads is None or not kept.is_answer(environment):
        return None
    evaluation = evaluation_of(kept.answer, kept.messages)
    if not _exist(evaluation):
        return None
    _remember_here(question, evaluation, kept.reads)
    return evaluation


def _exist(evaluation: Evaluation) -> bool:
    """Return whether no garbage collection has removed the derivations of an evaluation."""
    return all(Path(derivation.drv_path).exists() for derivation in evaluation.derivations.values())


def _ask(
    network: Network,
    names: tuple[str, ...] | None,
    eager: int,
    remembered: Mapping[str, Remembered],
    env: Mapping[str, str],
    show: LineSink,
    remember: bool,
    listener: Listener | None = None,
) -> Evaluation:
    question = _question(network, names, eager, remembered, env)
    recalled = _recall(question) if remember else None
    if recalled is not None:
        for line in recalled.messages:
            show(line)
        return recalled
    evaluation, reads = _evaluate(question, show, remember, listener)
    _remember_here(question, evaluation, reads)
    return evaluation


def _each_once(on_line: LineSink | None) -> LineSink:
    """Return a sink that shows each line once: another attempt of Nix says the same again."""
    shown: set[str] = set()

    def show(line: str) -> None:
        if on_line is not None and line not in shown:
            on_line(line)
        shown.add(line)

    return show


def _evaluate(
    question: _Question, show: LineSink, remember: bool, listener: Listener | None
) -> tuple[Evaluation, Reads]:
    """Evaluate, and keep the result for later runs.

    :returns: the evaluation, and what it depends on within this run.
    """
    network, environment = question.network, question.environment()
    identity, key = _identity(network), question.key
    ask = _Asking(question, show, listener)
    first = _first_bounds(question)
    if first is None:
        asked = ask(None)
        reads = bounded.within_run(Bounds().allow(*network.files), environment)
    else:
        bounds = first | disk.load_bounds(identity)
        outcome = bounded.evaluate(ask, bounds, disk.load(key), environment, is_kept=remember and disk.is_kept())
        asked, reads = outcome.asked, outcome.reads
        disk.store_bounds(identity, outcome.bounds)
        if remember:
            disk.store(key, outcome.kept)
    evaluation = evaluation_of(asked.answer, asked.messages)
    if question.names is None:
        kept = {kind: asked.answer[kind] for kind in ("network", "definitions")}
        disk.store_definitions(identity, kept, now=int(time.time()))
    return evaluation, reads


class _Asking:
    """Asks Nix a question within bounds, as often as it takes."""

    def __init__(self, question: _Question, show: LineSink, listener: Listener | None) -> None:
        self._question = question
        self._show = show
        self._listener = listener
        # The machine that has failed, and what was evaluated within bounds before.
        self._suspect: str | None = None
        self._made: Mapping[str, Mapping[str, str]] = {}

    def __call__(self, bounds: Bounds | None) -> Asked:
        """Ask once.

        :raises NixFailure: if Nix fails.
        """
        identity = _identity(self._question.network)
        cost = _cost(identity)
        if self._question.names is None:
            meter = Meter()
            asked = self._nix(bounds, cost, None, self._follower(meter))
            _keep_cost(identity, meter.cost(), cost)
            return asked
        pool = Pool(partial(self._nix, bounds, cost), cost, self._show)
        before = {} if bounds else self._made
        left = sorted(
            (name for name in self._question.names if name not in before), key=lambda name: name != self._suspect
        )
        try:
            asked = pool.evaluate(left)
        except NixFailure as failure:
            failure.made = {**before, **failure.made}
            self._suspect = failure.failing
            is_sure = bounds and not misjudged(failure.reports, bounds) and not forbidden(failure.output or "")
            self._made = failure.made if is_sure else {}
            raise
        finally:
            _keep_cost(identity, pool.cost, cost)
        return replace(asked, answer={**asked.answer, "derivations": {**before, **asked.answer["derivations"]}})

    def _nix(self, bounds: Bounds | None, cost: Cost | None, names: Sequence[str] | None, follower: Follower) -> Asked:
        inputs = self._question.inputs(names)
        together = cost.together() if cost else None
        return evaluator.ask(
            "evaluation.nix",
            inputs if together is None else {**inputs, "eager": min(together, self._question.eager)},
            nix_path=self._question.network.nix_path,
            flakes=self._question.network.flake is not None,
            env=self._question.settings(),
            on_line=self._show,
            bounds=bounds,
            named=self._question.network.files,
            follower=_telling(follower, self._listener, bounds) if self._listener else follower,
        )

    def _follower(self, meter: Meter) -> Follower:
        heartbeat = Heartbeat("the evaluation", self._show)
        return Follower(meter.started, lambda *_made: meter.made(), partial(beat, heartbeat))


def _telling(follower: Follower, listener: Listener, bounds: Bounds | None) -> Follower:
    """Return a follower that also tells a listener of each machine, unless the bounds made Nix see another network."""
    misjudgements: list[str] = []

    def reported(kind: str, subject: str) -> None:
        if bounds is not None:
            misjudgements.extend(misjudged([(kind, subject)], bounds))

    def made(name: str, drv: str, out: str) -> None:
        if not misjudgements:
            listener.made(name, Derivation(drv, out))
        if follower.made is not None:
            follower.made(name, drv, out)

    def watch(pid: int, printed: int) -> None:
        listener.look()
        if follower.watch is not None:
            follower.watch(pid, printed)

    return replace(follower, made=made, watch=watch, reported=reported)


def _cost(identity: Any) -> Cost | None:
    """Return what evaluating a network's systems has cost in an earlier run; None if that is not known."""
    try:
        return Cost(**disk.load_cost(identity) or {})
    except TypeError:
        return None


def _keep_cost(identity: Any, cost: Cost | None, before: Cost | None) -> None:
    if cost is not None and cost != before:
        disk.store_cost(identity, asdict(cost))


def _first_bounds(question: _Question) -> Bounds | None:
    """Return what a network certainly reads; None if it can't be known what else it does."""
    network, environment = question.network, question.environment()
    keys = private.private_keys(network.ssh_keys)
    if network.flake is not None:
        private.check_flake(network.flake, keys)
    if not settings.are_common(environment):
        return None
    if network.flake is not None:
        return flakes.bounds_of(network.flake, question.settings())
    return bounds_of(network.files, settings.search_path(network.nix_path, environment), keys)


def _with_options(options: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    return nix.with_settings(options, env, os.environ.get("NIX_CONFIG", ""))
