# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How machines are divided among processes that evaluate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.network import memory
from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluator import Asked, Enough, Follower, NixFailure
from ansible_collections.nix.ops.plugins.plugin_utils.network.workers import Cost, Meter, Pool

GIB = 2**30
NAMES = [f"m{number:02}" for number in range(20)]
HEAVY = Cost(GIB, GIB // 8, 2.0, 1.0)


class Nix:
    """Evaluates machines without Nix.

    :param wrong: machines whose system does not evaluate, with the error.
    """

    def __init__(self, **wrong: Callable[[], NixFailure | None]) -> None:
        self.asked: list[list[str]] = []
        self.evaluated: list[str] = []
        self.running = self.most = 0
        self._wrong = wrong
        self._lock = threading.Lock()

    def __call__(self, names: Sequence[str], follower: Follower) -> Asked:
        with self._lock:
            self.asked.append(list(names))
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            return self._evaluate(names, follower)
        except Enough:
            return Asked(None, ("ended",), ())
        finally:
            self.running -= 1

    def _evaluate(self, names: Sequence[str], follower: Follower) -> Asked:
        assert follower.watch
        assert follower.made
        for name in names:
            time.sleep(0.01)
            follower.watch(0, 0)
            failure = self._wrong[name]() if name in self._wrong else None
            if failure:
                raise failure
            self.evaluated.append(name)
            follower.made(name, f"{name}.drv", name)
        derivations = {name: {"drv": f"{name}.drv", "out": name} for name in names}
        return Asked({"network": {"description": "d"}, "derivations": derivations}, ("said",), ())


@pytest.fixture(autouse=True)
def _computer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processors and much memory, and nothing that can be measured."""
    monkeypatch.setattr(memory, "cores", lambda: 2)
    monkeypatch.setattr(memory, "available", lambda: 16 * GIB)
    monkeypatch.setattr(memory, "peak", lambda _pid: None)


def evaluate(nix: Nix, cost: Cost | None = HEAVY, names: Sequence[str] = NAMES) -> Asked:
    shown: list[str] = []
    asked = Pool(nix, cost, shown.append).evaluate(names)
    assert asked.answer["derivations"] == {name: {"drv": f"{name}.drv", "out": name} for name in names}
    assert asked.answer["network"] == {"description": "d"}
    assert threading.active_count() == 1
    assert not shown
    return asked


def test_two_processes_divide_heavy_machines() -> None:
    nix = Nix()
    asked = evaluate(nix)
    first, second, *more = nix.asked
    assert (first, second, more) == (NAMES, NAMES[-9:], [])
    # The first process has been told all of them, and ends when the other has the rest.
    assert len(nix.evaluated) <= len(NAMES) + 2
    assert set(asked.messages) == {"ended", "said"}


@pytest.mark.parametrize(
    ("cost", "count"),
    [
        # Not known, light, and too few.
        (None, 20),
        (replace(HEAVY, first_seconds=0.2, more_seconds=0.1), 20),
        (HEAVY, 5),
    ],
)
def test_one_process_where_another_does_not_pay(cost: Cost | None, count: int) -> None:
    nix = Nix()
    evaluate(nix, cost, NAMES[:count])
    assert nix.asked == [NAMES[:count]]


def test_the_first_machine_tells_the_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "peak", lambda _pid: GIB)
    monkeypatch.setattr(memory, "seconds", lambda _pid: 2.0)
    nix = Nix()
    evaluate(nix, None)
    assert nix.asked == [NAMES, NAMES[-8:]]


def test_a_process_that_does_not_fit_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 3 * GIB)
    nix = Nix()
    evaluate(nix)
    assert nix.most == 1
    # Its memory is free again once the first one has ended.
    assert nix.asked[0] == NAMES


def test_a_process_ends_before_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "peak", lambda _pid: GIB)
    nix = Nix()
    monkeypatch.setattr(memory, "available", lambda: 2 * GIB if nix.running == 0 else GIB // 16)
    evaluate(nix, HEAVY)
    assert nix.most == 1
    assert len(nix.asked) > 1
    assert len(nix.evaluated) <= len(NAMES) + len(nix.asked)


def failure(*, was_killed: bool = False) -> NixFailure:
    error = NixFailure("the evaluation failed", next_step="Correct it.")
    error.was_killed = was_killed
    return error


def test_the_machine_that_fails_is_named_and_all_processes_end() -> None:
    nix = Nix(m03=failure)
    with pytest.raises(NixFailure) as caught:
        evaluate(nix)
    assert caught.value.failing == "m03"
    assert set(caught.value.made) >= {"m00", "m01", "m02"}
    assert len(nix.evaluated) < len(NAMES)
    assert threading.active_count() == 1


def test_a_process_that_is_killed_begins_again_alone() -> None:
    times = iter([failure(was_killed=True)])
    nix = Nix(m15=lambda: next(times, None))
    evaluate(nix)
    assert len(nix.asked) == 3


def test_a_machine_that_is_too_large_alone_is_named() -> None:
    nix = Nix(m03=lambda: failure(was_killed=True))
    with pytest.raises(NixFailure, match=r"Evaluating m03 takes \d+ MiB of memory or more.*has 16384 MiB left"):
        evaluate(nix, None)
    assert nix.asked == [NAMES, NAMES[3:]]


def test_a_machine_that_may_be_too_large_is_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: GIB // 2)
    shown: list[str] = []
    Pool(Nix(), HEAVY, shown.append).evaluate(["big"])
    assert shown == ["evaluating big takes 1024 MiB of memory or more, and the controller has 512 MiB left"]


def test_an_interrupt_ends_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(Nix(), HEAVY, print)

    def interrupt(*_event: object) -> None:
        raise SystemExit(130)

    monkeypatch.setattr(pool, "_one_made", interrupt)
    with pytest.raises(SystemExit):
        pool.evaluate(NAMES)
    assert threading.active_count() == 1


def test_costs_are_those_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter()
    assert meter.cost() is None
    costs = []
    for seconds, size in ((2.0, GIB), (3.0, GIB + 100), (4.0, GIB + 200)):
        monkeypatch.setattr(memory, "peak", lambda _pid, size=size: size)
        monkeypatch.setattr(memory, "seconds", lambda _pid, seconds=seconds: seconds)
        meter.made()
        costs.append(meter.cost())
    assert costs == [Cost(GIB, GIB // 2, 2, 1), Cost(GIB, 100, 2, 1), Cost(GIB, 100, 2, 1)]
    assert Cost(GIB, 100, 2, 1).bytes(3) == GIB + 200
