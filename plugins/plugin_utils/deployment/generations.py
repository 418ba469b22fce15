# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists the generations that machines have kept, and the deploys that made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import checkout, history
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.history import Past
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.table import Align, Column, table
from ansible_collections.nix.ops.plugins.plugin_utils.errors import first_line
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Generation

_COLUMNS = (
    Column("Machine"),
    Column("Generation", Align.RIGHT),
    Column("Date"),
    Column("NixOS"),
    Column("Kernel"),
    Column("Deploy"),
    Column("State"),
)
_DEPLOYS = (Column("Deploy"), Column("Machines"), Column("Deployed from"))


def past_of(found: Mapping[str, Any], kept: frozenset[str] = frozenset()) -> Past | None:
    """Return what a machine may go back to; None if it has not told what it runs.

    :param found: the result of ``nix.ops.deployment_prepare``.
    :param kept: its toplevels that the controller keeps.
    """
    standing = description.standing_of(found)
    if standing is None:
        return None
    told = found.get("state") or {}
    state = states.read(told, str(told["uuid"])) if told else None
    return history.past_of(found, state, standing, kept)


def listed(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the generations of machines, and their deploys, as plain values.

    :param found: the result of ``nix.ops.deployment_prepare`` of each host.
    """
    pasts = {host: past_of(one) for host, one in found.items()}
    return {
        "machines": [_machine(host, found[host], past) for host, past in pasts.items()],
        "deploys": [
            {**asdict(one), "machines": list(one.machines)}
            for one in history.deploys({host: past for host, past in pasts.items() if past})
        ],
    }


def as_text(document: Mapping[str, Any]) -> str:
    """Return what :func:`listed` returns as tables."""
    rows, notes = [], []
    for machine in document["machines"]:
        rows += [_row(machine["name"], one) for one in machine["generations"]]
        if machine["problem"]:
            notes.append(f"{machine['name']}: {first_line(machine['problem'])}")
        elif machine["running"] not in [one["toplevel"] for one in machine["generations"]]:
            notes.append(f"{machine['name']} runs {machine['running']}, which is not a generation.")
    parts = [table(_COLUMNS, rows)]
    if document["deploys"]:
        deploys = [
            [one["id"], ", ".join(one["machines"]), checkout.describe(one["revision"], one["modified"], one["origin"])]
            for one in document["deploys"]
        ]
        parts.append(table(_DEPLOYS, deploys))
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def _machine(host: str, found: Mapping[str, Any], past: Past | None) -> dict[str, Any]:
    if past is None:
        return {
            "name": host,
            "problem": str(found.get("msg") or "it was not asked"),
            "running": None,
            "generations": [],
        }
    newest_first = sorted(past.generations, key=lambda one: -one.number)
    return {
        "name": host,
        "problem": None,
        "running": past.standing.running,
        "generations": [_generation(past, one) for one in newest_first],
    }


def _generation(past: Past, one: Generation) -> dict[str, Any]:
    standing, deploy = past.standing, past.deploy_of(one.toplevel)
    made = next((known for known in past.stayed if known.toplevel == one.toplevel and known.deploy == deploy), None)
    return {
        "number": one.number,
        "created": one.created,
        "toplevel": one.toplevel,
        "nixos_version": one.nixos_version,
        "kernel": one.kernel,
        "current": one.number == standing.generation,
        "running": one.toplevel == standing.running,
        "booted": one.toplevel == standing.booted,
        "deploy": deploy,
        "revision": made.revision if made else None,
        "origin": made.origin if made else None,
    }


def _row(host: str, one: Mapping[str, Any]) -> list[str]:
    # What is current runs, as a rule.
    states_of_it = ["current"] if one["current"] else ["running"] if one["running"] else []
    states_of_it += ["booted"] if one["booted"] else []
    return [
        host,
        str(one["number"]),
        history.moment(one["created"]),
        one["nixos_version"] or "",
        one["kernel"] or "",
        one["deploy"] or "",
        ", ".join(states_of_it),
    ]
