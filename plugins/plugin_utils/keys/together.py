# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluates the contents of keys once for several machines of a run.

Ansible runs each task of a host in a process of its own. These processes share in memory what was evaluated. It is in
no file with a name, in no result and in no fact.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluation import EAGER

# The options of a key that are evaluated when keys are sent.
EVALUATED = ("text", "keyCommand")

# For each machine the names of keys, and for each machine and name what was evaluated.
Wanted = Mapping[str, Sequence[str]]
Found = Mapping[str, Mapping[str, Mapping[str, Any]]]

# Made when Ansible loads the action, before it forks the processes that share it. Only Linux has memfd_create.
_MEMORY = os.memfd_create("nix-ops-keys") if hasattr(os, "memfd_create") else None


def contents(
    run: str,
    network: str,
    machine: str,
    names: Sequence[str],
    *,
    others: Callable[[], Wanted],
    evaluate: Callable[[Wanted], Found],
) -> Mapping[str, Mapping[str, Any]]:
    """Return what the keys of a machine evaluate to, by name.

    :param run: tells this run from others that the same process starts. Only the newest run is kept.
    :param network: the source of the network.
    :param others: returns what other machines need. Their contents are evaluated in the same process.
    :raises OpsError: if the network does not evaluate.
    """
    if _MEMORY is None:
        return evaluate({machine: names})[machine]
    with _locked(_MEMORY):
        kept = _read(_MEMORY)
        if kept["run"] != run:
            kept = {"run": run, "alone": [], "networks": {}}
        found = kept["networks"].setdefault(network, {})
        if not set(names) <= found.get(machine, {}).keys():
            wanted = {} if network in kept["alone"] else others()
            try:
                found |= evaluate({**wanted, machine: names})
            except OpsError:
                if not wanted.keys() - {machine}:
                    raise
                # The keys of another machine may be the reason.
                kept["alone"].append(network)
                found |= evaluate({machine: names})
            _write(_MEMORY, kept)
        mine: Mapping[str, Mapping[str, Any]] = found[machine]
    return mine


def others_of(variables: Mapping[str, Any], network: str) -> dict[str, list[str]]:
    """Return for each machine of a network that is in the play with this host the keys that are evaluated.

    A few machines at a time, since Nix needs memory for each.

    :param variables: the variables of the task.
    """
    hosts, chosen = variables.get("hostvars"), str(variables.get("inventory_hostname"))
    in_play = [str(host) for host in variables.get("ansible_play_hosts_all") or ()]
    if hosts is None or not hasattr(hosts, "raw_get") or chosen not in in_play:
        return {}
    first = in_play.index(chosen) // EAGER * EAGER
    found = {}
    for host in in_play[first : first + EAGER]:
        # Untemplated, so that no secret of another host is looked up.
        own = hosts.raw_get(host)
        keys, given = own.get("nix_deployment_keys") or {}, own.get("nix_keys") or {}
        if own.get("nix_network") != network or not isinstance(keys, Mapping) or not isinstance(given, Mapping):
            continue
        names = [name for name, key in keys.items() if key.get("source") in EVALUATED and name not in given]
        if names:
            found[str(own.get("nix_machine"))] = names
    return found


@contextmanager
def _locked(memory: int) -> Iterator[None]:
    # The lock is the process's own, and ends with it.
    fcntl.lockf(memory, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(memory, fcntl.LOCK_UN)


def _read(memory: int) -> dict[str, Any]:
    text = os.pread(memory, os.fstat(memory).st_size, 0)
    return dict(json.loads(text)) if text else {"run": None}


def _write(memory: int, kept: Mapping[str, Any]) -> None:
    text = json.dumps(kept).encode("ascii")
    os.ftruncate(memory, 0)
    written = 0
    while written < len(text):
        written += os.pwrite(memory, text[written:], written)
