# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploys up to a thousand light machines through the real plugins; ``make simulation``.

It prints figures and judges nothing but whether a run did what it should.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.usage import Usage, measured
from integration.project import BIN, Project
from light import LightMachines
from light.machines import NETWORK

CHECKOUT = Path(__file__).resolve().parents[2]
FORKS = 30

# One machine of so many takes no connections in two cases.
UNREACHABLE = 20


@dataclass
class Simulation:
    """A project and its light machines.

    :param nixpkgs: another nixpkgs than the tests' own, with which whole systems are evaluated.
    :param used: what each case took, on the controller and on the machines.
    """

    project: Project
    machines: LightMachines
    nixpkgs: Path | None = None
    used: dict[str, tuple[Usage, float]] = field(default_factory=dict)
    changes: int = 0

    @property
    def count(self) -> int:
        """How many machines there are."""
        return len(self.machines.names)

    def run(self) -> None:
        """Measure all cases."""
        self.write()
        self.measure("inventory, not remembered", "ansible-inventory", "--list")
        self.measure("inventory, remembered", "ansible-inventory", "--list")
        lost = self.machines.names[::UNREACHABLE]
        self.machines.lose(lost)
        self.measure(
            f"prepare of new machines, {len(lost)} dead ends",
            "ansible-playbook",
            *("nix.ops.deploy", "-e", "deploy_unreachable=fail"),
            lost=len(lost),
        )
        self.machines.lose([])
        self.measure("first deploy", "ansible-playbook", "nix.ops.deploy", deployed=self.count)
        self.measure("nothing to do", "ansible-playbook", "nix.ops.deploy", deployed=0)
        self.measure("list", "ansible-playbook", "nix.ops.list")
        self.machines.lose(lost)
        self.write()
        self.measure(
            f"a change, {len(lost)} unreachable, batches of 10 %",
            "ansible-playbook",
            *("nix.ops.deploy", "-e", "deploy_serial=10%", "-e", "deploy_unreachable=warn"),
            deployed=self.count - len(lost),
            lost=len(lost),
        )
        self.machines.lose([])

    def write(self) -> None:
        """Change the system of all machines."""
        self.changes += 1
        changed = f"{self.project.directory.name}-{self.changes}"
        evaluates = "true" if self.nixpkgs else "false"
        self.project.write(
            "given.nix", f'{{ machines = {self.count}; changed = "{changed}"; evaluates = {evaluates}; }}\n'
        )

    def measure(self, case: str, program: str, *words: str, deployed: int | None = None, lost: int = 0) -> None:
        """Run one case; end with the output of a run that did something else."""
        print(f"{self.count} machines: {case}", file=sys.stderr)
        on_machines = self.machines.seconds()
        done, used = measured(
            [str(BIN / program), "-i", "light.network.yml", *words],
            cwd=self.project.directory,
            # The tests' callback is no part of a deploy.
            env={name: one for name, one in self.project.variables().items() if name != "ANSIBLE_CALLBACKS_ENABLED"},
        )
        changed = len(re.findall(r"^machine\d+ +: .*changed=[1-9]", done.stdout, re.MULTILINE))
        unreachable = len(re.findall(r"^machine\d+ +: .*unreachable=1", done.stdout, re.MULTILINE))
        as_expected = unreachable == lost and (done.returncode == 0) == (lost == 0)
        if not as_expected or deployed not in (None, changed):
            raise SystemExit(f"simulation: {case}: {done.returncode}, {changed} changed\n{done.stdout}")
        self.used[case] = used, self.machines.seconds() - on_machines


def _simulate(count: int, below: Path, nixpkgs: Path | None = None) -> Simulation:
    directory = below / str(count)
    machines = LightMachines(directory / "machines", count)
    machines.make()
    project = Project(directory / "project", {"ANSIBLE_COLLECTIONS_PATH": str(below), **machines.variables()})
    project.directory.mkdir()
    project.configure(forks=str(FORKS), internal_poll_interval="0.01")
    shutil.copytree(NETWORK, project.directory, dirs_exist_ok=True)
    project.write("light.network.yml", "plugin: nix.ops.network\nname: light\nfiles: [network.nix]\n")
    if nixpkgs:
        project.environment["NIX_PATH"] = f"nixpkgs={nixpkgs}"
    simulation = Simulation(project, machines, nixpkgs)
    simulation.run()
    return simulation


def _install(below: Path) -> None:
    for where, words in ((CHECKOUT, ("build", "--output-path", str(below))), (below, ("install", "--offline"))):
        more = [] if words[0] == "build" else [str(next(below.glob("*.tar.gz")))]
        subprocess.run(
            [str(BIN / "ansible-galaxy"), "collection", *words, *more],
            cwd=where,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(below)},
            stdout=subprocess.DEVNULL,
            check=True,
        )


def _report(simulations: list[Simulation]) -> Iterator[str]:
    yield "| machines | what | seconds | of processors | each 100 machines | machines' own | memory |"
    yield "|---:|---|---:|---:|---:|---:|---:|"
    for one in simulations:
        for case, (used, on_machines) in one.used.items():
            controller = used.cpu - on_machines
            yield (
                f"| {one.count} | {case} | {used.wall:.1f} s | {controller:.1f} s"
                f" | {controller / one.count * 100:.1f} s | {on_machines:.1f} s | {used.peak / 2**20:.0f} MiB |"
            )


def main() -> None:
    """Simulate, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description="Deploys light machines through the real plugins.")
    parser.add_argument("--machines", type=int, nargs="+", default=[100, 200, 400, 1000], metavar="N")
    parser.add_argument("--nixpkgs", type=Path, metavar="PATH", help="evaluate whole systems of this nixpkgs")
    parser.add_argument("--directory", type=Path, required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    _install(arguments.directory)
    simulations = [_simulate(count, arguments.directory, arguments.nixpkgs) for count in arguments.machines]
    print("\n".join(_report(simulations)))
