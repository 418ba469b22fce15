# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contents of keys are evaluated once for the processes of a run, and never for another machine's fault."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.keys import together

FORK = multiprocessing.get_context("fork")
KEYS = {"a": ["x"], "b": ["x", "y"], "c": ["x"]}


def evaluated(wanted: together.Wanted) -> together.Found:
    """Return contents that name their keys."""
    return {name: {key: {"text": f"{name} {key}", "command": None} for key in keys} for name, keys in wanted.items()}


def ask(run: str, machine: str, names: Sequence[str], calls: list[together.Wanted], bad: str = "") -> Any:
    """Ask for the contents of a machine's keys."""

    def evaluate(wanted: together.Wanted) -> together.Found:
        calls.append(wanted)
        if bad in wanted:
            raise OpsError(f"{bad} does not evaluate")
        return evaluated(wanted)

    return together.contents(run, "/net", machine, names, others=lambda: KEYS, evaluate=evaluate)


def test_processes_of_a_run_evaluate_once() -> None:
    count: Synchronized[int] = FORK.Value("i", 0)

    def work(machine: str) -> None:
        calls: list[together.Wanted] = []
        assert ask("first", machine, KEYS[machine], calls) == evaluated(KEYS)[machine]
        with count.get_lock():
            count.value += len(calls)

    workers = [FORK.Process(target=work, args=(machine,)) for machine in KEYS]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert count.value == 1


def test_another_run_evaluates_anew_and_so_does_another_key() -> None:
    calls: list[together.Wanted] = []
    ask("second", "a", ["x"], calls)
    ask("second", "b", ["y"], calls)
    assert len(calls) == 1
    assert ask("second", "b", ["x", "z"], calls)["z"]["text"] == "b z"
    ask("third", "a", ["x"], calls)
    assert len(calls) == 3


def test_machine_does_not_suffer_from_the_keys_of_another_one() -> None:
    calls: list[together.Wanted] = []
    assert ask("fourth", "a", ["x"], calls, bad="c") == evaluated(KEYS)["a"]
    ask("fourth", "b", ["x"], calls, bad="c")
    with pytest.raises(OpsError, match="c does not evaluate"):
        ask("fourth", "c", ["x"], calls, bad="c")
    assert calls == [KEYS, {"a": ["x"]}, {"b": ["x"]}, {"c": ["x"]}]


class Hosts(dict[str, Any]):
    """Variables of hosts, which are not to be evaluated."""

    def raw_get(self, host: str) -> Any:
        return super().__getitem__(host)

    def __getitem__(self, host: str) -> Any:
        raise AssertionError(host)


def test_others_are_the_machines_of_the_play_whose_contents_are_evaluated() -> None:
    sources = {
        "t": {"source": "text"},
        "c": {"source": "keyCommand"},
        "f": {"source": "keyFile"},
        "g": {"source": None},
    }
    one = {"nix_network": "/net", "nix_deployment_keys": sources}
    hosts = Hosts(
        {
            "one": {**one, "nix_machine": "m1"},
            "two": {**one, "nix_machine": "m2", "nix_keys": {"t": "{{ secret }}"}},
            "template": {**one, "nix_machine": "m3", "nix_keys": "{{ secrets }}"},
            "without": {"nix_network": "/net", "nix_machine": "m4"},
            "foreign": {**one, "nix_network": "/other", "nix_machine": "m5"},
        }
    )
    variables = {"hostvars": hosts, "inventory_hostname": "one", "ansible_play_hosts_all": list(hosts)}
    assert together.others_of(variables, "/net") == {"m1": ["t", "c"], "m2": ["c"]}
    assert together.others_of({**variables, "inventory_hostname": "elsewhere"}, "/net") == {}
    many = Hosts({f"h{number}": {**one, "nix_machine": f"h{number}"} for number in range(25)})
    variables = {"hostvars": many, "inventory_hostname": "h21", "ansible_play_hosts_all": list(many)}
    assert list(together.others_of(variables, "/net")) == ["h20", "h21", "h22", "h23", "h24"]
