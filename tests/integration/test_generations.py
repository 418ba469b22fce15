# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generations: they are listed with their deploys, gone back to, and deleted."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from integration.conftest import Deployed
from integration.networks import PLAN, Network, standing, toplevels
from integration.outside import untouched

LIST = "List the generations"
OUTCOME = "Report the outcome"
COLLECT = "Collect garbage"


@pytest.fixture
def network(deployed: Deployed) -> Network:
    """A network whose machine was deployed once."""
    return deployed("target")


def generations(network: Network) -> list[dict[str, Any]]:
    """What is listed of the machine's generations, the newest first."""
    outcome = network.deploy(playbook="nix.ops.generations")
    assert outcome.exit_code == 0, outcome.output
    assert not outcome.changed
    [machine] = outcome.of(LIST)["machines"]
    return list(machine["generations"])


def test_generations_are_listed_gone_back_to_and_deleted(network: Network) -> None:
    [target], project = network.machines, network.project
    where = project.directory / "example-target.nix"
    where.write_text(where.read_text().replace("{\n", "{\n  network.enableRollback = true;\n", 1))
    deploys, systems = {}, {}
    for one in ("uno", "due"):
        network.define(one=one)
        outcome = network.deployed()
        deploys[one], systems[one] = outcome.of(PLAN)["machines"]["target"]["deploy"], toplevels(outcome)["target"]
    due, uno, first, installed = generations(network)
    assert [one["deploy"] for one in (due, uno)] == [deploys["due"], deploys["uno"]]
    assert [one["toplevel"] for one in (due, uno)] == [systems["due"], systems["uno"]]
    assert first["deploy"] not in (None, *deploys.values())
    assert (installed["deploy"], first["booted"], due["current"]) == (None, True, True)
    assert due["nixos_version"].startswith("24.05")
    kept = {str(link.resolve()) for link in (project.directory / "state/nix.ops/deploys").glob("*/*/target")}
    assert kept == set(systems.values())

    # From here on the network does not evaluate, and this controller has built nothing.
    project.write("example-config.nix", "{ target = throw")
    shutil.rmtree(project.directory / "state/nix.ops/deploys")
    shutil.rmtree(project.facts)
    back = ["-e", "rollback_to=previous"]
    with untouched(target):
        preview = network.deploy("--check", *back, playbook="nix.ops.rollback")
    assert preview.exit_code == 0, preview.output
    assert preview.of(PLAN)["machines"]["target"]["does"] == "switch"
    outcome = network.deploy(*back, playbook="nix.ops.rollback")
    assert outcome.exit_code == 0, outcome.output
    assert "the last that could be evaluated" in outcome.output
    assert standing(target) == (systems["uno"],) * 3
    assert outcome.of(OUTCOME)["machines"]["target"] == f"runs and boots {systems['uno']}, generation {uno['number']}"

    with untouched(target):
        refused = network.deploy("-e", "rollback_to=77", playbook="nix.ops.rollback")
    assert refused.exit_code == 2
    assert "target: it has no generation 77; it has" in refused.output

    # The generation after the current one is the newest, and stays with the one that a rollback goes back to.
    with untouched(target):
        preview = network.deploy("--check", "-e", "gc_keep=1", playbook="nix.ops.gc")
    assert [one["number"] for one in preview.of(COLLECT)["generations"]] == [installed["number"]]
    outcome = network.deploy("-e", "gc_keep=1", playbook="nix.ops.gc")
    assert outcome.exit_code == 0, outcome.output
    assert outcome.of(COLLECT)["bytes"] > 0
    left = generations(network)
    assert [one["number"] for one in left] == [one["number"] for one in (due, uno, first)]
    assert [one["deploy"] for one in left if one["current"]] == [deploys["uno"]]
    assert installed["toplevel"] not in target.run("cat /boot/loader/entries/*").stdout
