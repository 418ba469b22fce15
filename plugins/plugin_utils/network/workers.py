# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluates the systems of machines in as many processes of Nix as pay and fit into the controller's memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ansible_collections.nix.ops.plugins.plugin_utils.network import memory
from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluator import Asked, Enough, Follower, NixFailure
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Heartbeat

# Seconds of a first machine below which another process is not worth a processor.
_HEAVY = 0.5

_INTERVAL = 1.0
_MIB = 2**20

# Evaluates the systems of some machines, one after another.
Ask = Callable[[Sequence[str], Follower], Asked]


@dataclass(frozen=True)
class Cost:
    """What evaluating systems of a network takes in one process, as it was measured.

    :param first_bytes: the largest memory until the first machine is evaluated, with what all machines share.
    :param more_bytes: the memory that each further machine adds.
    :param first_seconds: the processor's seconds until the first machine is evaluated.
    :param more_seconds: the processor's seconds that each further machine takes.
    """

    first_bytes: float
    more_bytes: float
    first_seconds: float
    more_seconds: float

    def bytes(self, machines: int) -> float:
        """Return the memory that a process for so many machines takes."""
        return self.first_bytes + max(0, machines - 1) * self.more_bytes

    def together(self) -> int | None:
        """Return up to how many machines one process is quicker than two; None if it always is."""
        if self.first_seconds < _HEAVY or self.more_seconds <= 0:
            return None
        return int(2 * self.first_seconds / self.more_seconds)

    def handed_over(self, left: int) -> int:
        """Return how many of the machines that are left another process should evaluate; 0 if none."""
        together = self.together()
        if together is None or left <= together:
            return 0
        # The other process has to evaluate first what all machines share.
        shared = self.first_seconds / self.more_seconds - 1
        return max(1, round((left - shared) / 2))


@dataclass
class Meter:
    """Measures a process that evaluates systems.

    :param pid: the process id of Nix.
    :param count: how many machines are evaluated.
    """

    pid: int | None = None
    count: int = 0
    _first: tuple[float, int] | None = None
    _last: tuple[float, int] = (0.0, 0)

    def started(self, pid: int) -> None:
        """Begin with a process."""
        self.pid = pid

    def made(self) -> None:
        """Measure after another machine is evaluated."""
        self.count += 1
        self._last = (memory.seconds(self.pid), memory.peak(self.pid) or 0)
        self._first = self._first or self._last

    def cost(self) -> Cost | None:
        """Return what was measured; None before the first machine, or where memory is not known."""
        if self._first is None or not self._first[1]:
            return None
        (seconds, size), further = self._first, self.count - 1
        if not further:
            # Until a second machine says more: about half of it is shared by all machines.
            return Cost(size, size // 2, seconds, seconds / 2)
        return Cost(size, (self._last[1] - size) // further, seconds, (self._last[0] - seconds) / further)


class _Worker:
    """A process of Nix, and the thread that follows it.

    :param names: the machines that it evaluates. Another worker may take the last of them.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.given = len(names)
        self.meter = Meter()
        self.has_to_end = False
        self.thread: threading.Thread | None = None

    @property
    def left(self) -> list[str]:
        """The machines that it has not begun with."""
        return self.names[self.meter.count + 1 :]

    def check(self) -> None:
        """End the process if nothing is left for it."""
        if self.has_to_end or (self.meter.count >= len(self.names) < self.given):
            raise Enough


class Pool:
    """Evaluates the systems of machines.

    :param ask: evaluates some of them in one process.
    :param cost: what was measured in an earlier run; None if it is not known.
    :param show: called with lines about a long wait.
    :ivar made: the derivations so far, as evaluation.nix returns them.
    """

    def __init__(self, ask: Ask, cost: Cost | None, show: LineSink) -> None:
        self.made: dict[str, Mapping[str, str]] = {}
        self.cost = cost
        self._ask = ask
        self._heartbeat = Heartbeat("the evaluation", show, self._progress)
        self._show = show
        self._wanted: tuple[str, ...] = ()
        self._cores = memory.cores()
        # The workers' threads only put events there, so that all else happens in one thread.
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._waiting: list[list[str]] = []
        self._asked: list[Asked] = []

    def evaluate(self, names: Sequence[str]) -> Asked:
        """Evaluate the systems of these machines.

        :raises NixFailure: if a system does not evaluate. The error names the first one.
        """
        self._wanted = tuple(names)
        self._begin(list(names))
        try:
            while self._workers:
                try:
                    self._events.get(timeout=_INTERVAL)()
                except queue.Empty:
                    self._heartbeat.beat()
        finally:
            self._end()
        answers = [asked.answer for asked in self._asked if asked.answer is not None]
        answer = {**answers[-1], "derivations": {name: self.made[name] for name in names}}
        messages = dict.fromkeys(line for asked in self._asked for line in asked.messages)
        reports = dict.fromkeys(report for asked in self._asked for report in asked.reports)
        return Asked(answer, tuple(messages), tuple(reports))

    def _progress(self) -> str:
        return f"{len(self.made)} of {len(self._wanted)} systems are evaluated"

    def _begin(self, names: list[str]) -> None:
        free = memory.available()
        if self.cost and free is not None and self.cost.bytes(1) > free:
            self._show(f"evaluating {names[0]} {_needs(self.cost.bytes(1), free)}")
        worker = _Worker(names)
        worker.thread = threading.Thread(target=self._follow, args=(worker, tuple(names)), daemon=True)
        self._workers.append(worker)
        worker.thread.start()
        self._begin_more()

    def _begin_more(self) -> None:
        """Begin with machines that wait, or have another process take some of the machines of a running one."""
        if self._waiting and (not self._workers or self._fits(len(self._waiting[0]))):
            self._begin(self._waiting.pop(0))
            return
        slowest = max(self._workers, key=lambda worker: len(worker.left), default=None)
        if slowest is None or self._waiting or self.cost is None or len(self._workers) >= self._cores:
            return
        count = self.cost.handed_over(len(slowest.left))
        if count and self._fits(count):
            taken = slowest.names[-count:]
            slowest.names = slowest.names[:-count]
            self._begin(taken)

    def _fits(self, machines: int) -> bool:
        """Return whether another process has enough memory, beside what the running ones will take."""
        free = memory.available()
        if self.cost is None or free is None or len(self._workers) >= self._cores:
            return False
        growth = sum(
            max(0, self.cost.bytes(len(one.names)) - (memory.peak(one.meter.pid) or 0)) for one in self._workers
        )
        return self.cost.bytes(machines) + growth <= free

    def _follow(self, worker: _Worker, names: Sequence[str]) -> None:
        """Evaluate in a thread."""

        def made(name: str, drv: str, out: str) -> None:
            worker.meter.made()
            self._events.put(partial(self._one_made, worker, name, {"drv": drv, "out": out}))
            worker.check()

        follower = Follower(worker.meter.started, made, lambda _pid, _printed: worker.check(), len(names))
        try:
            asked = self._ask(names, follower)
        except Exception as error:
            self._events.put(partial(self._failed, worker, error))
        else:
            self._events.put(partial(self._ended, worker, asked))

    def _one_made(self, worker: _Worker, name: str, derivation: Mapping[str, str]) -> None:
        if name in self._wanted:
            self.made[name] = derivation
        self.cost = max(self._workers, key=lambda one: one.meter.count).meter.cost() or self.cost
        free = memory.available()
        if self.cost and free is not None and worker.left and self.cost.more_bytes > free:
            # A new process begins without what this one has collected.
            worker.has_to_end = True
        self._begin_more()

    def _ended(self, worker: _Worker, asked: Asked) -> None:
        self._workers.remove(worker)
        self._asked.append(asked)
        if asked.answer is not None:
            self.made.update(asked.answer["derivations"])
        self._wait_with(worker)

    def _failed(self, worker: _Worker, error: Exception) -> None:
        self._workers.remove(worker)
        if not isinstance(error, NixFailure):
            raise error
        if error.was_killed and (self._workers or worker.meter.count):
            # The system has ended it for want of memory. It has more of it alone, or without the machines before.
            self._cores = 1
            self._wait_with(worker)
            return
        error.failing = next((name for name in worker.names if name not in self.made), None)
        error.made = dict(self.made)
        if error.was_killed:
            took, free = memory.largest_child(), memory.available()
            error.next_step = f"Evaluating {error.failing} {_needs(took, free)}. {error.next_step}"
        raise error

    def _wait_with(self, worker: _Worker) -> None:
        if left := [name for name in worker.names if name not in self.made]:
            self._waiting.append(left)
        self._begin_more()

    def _end(self) -> None:
        for worker in self._workers:
            worker.has_to_end = True
        for worker in self._workers:
            if worker.thread:
                worker.thread.join()


def _needs(took: float, free: int | None) -> str:
    there = "" if free is None else f", and the controller has {free // _MIB} MiB left"
    return f"takes {took / _MIB:.0f} MiB of memory or more{there}"
