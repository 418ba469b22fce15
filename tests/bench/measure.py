# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the deploy with the bare commands, on the same live machines in one run; ``make bench``.

It prints figures and judges nothing: how fast a computer is, is no property of the project.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import evaluating, keys, switching
from bench.usage import Usage, machine_seconds, measured
from fleet import Fleet, Kind, Machine
from integration.project import BIN, Project

HERE = Path(__file__).resolve().parent
# The machines' disks are in memory. Each round removes and creates all their files, and ext4 takes seconds to reuse
# inodes that were just freed.
DISKS = Path("/dev/shm/nix-ops-bench")
CHECKOUT = HERE.parents[1]
CASES = {
    "first": "first deploy",
    "nothing": "nothing to do",
    "changed": "one file changed",
    "option": "an option changed in one machine",
}
BARE, PARALLEL, PLAYBOOK, DEPLOY = "bare", "bare, parallel", "plain playbook", "nix.ops.deploy"
KEYED = f"nix.ops.deploy, {len(keys.SIZES)} keys"

# So many machines take turns with the bare commands.
MOST_BARE = 10

# The sides that look for themselves whether a machine needs anything.
LOOK = (PLAYBOOK, DEPLOY, KEYED)
COUNTED = ("nix-instantiate", "nix-store", "nix-copy-closure", "ssh")


@dataclass
class Bench:
    """A project, its machines, and what was measured.

    :param machines: all that a deploy is about.
    :param others: commands of other tools that deploy ``network.nix``, by the name of the tool.
    :param used: what each side took for each case, and the processor time of the machines meanwhile.
    """

    project: Project
    machines: Sequence[Machine]
    others: dict[str, str] = field(default_factory=dict)
    words: int = 0
    first: str = ""
    changed: str = ""
    used: dict[tuple[str, str], list[tuple[Usage, float]]] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def round(self, side: str, measure: Callable[[str, str], None]) -> None:
        """Deploy to new machines, deploy again, deploy a change of all machines and one of one machine."""
        for machine in self.machines:
            machine.stop()
            machine.wipe()
            machine.start()
        for machine in self.machines:
            machine.wait_up()
        self.write(side, "first")
        measure(side, "first")
        measure(side, "nothing")
        for case in ("changed", "option"):
            self.write(side, case)
            measure(side, case)
        self.disconnect()

    def write(self, side: str, case: str) -> None:
        """Write new definitions of the machines, so that each run builds something new.

        A changed file comes with new contents of all keys.
        """
        self.words += 1
        addresses = "".join(f'{machine.name} = "{machine.address}"; ' for machine in self.machines)
        new = f"{os.getpid()}-{time.time()}-{self.words}"
        self.first = new if case == "first" else self.first
        self.changed = self.changed if case == "option" else new
        options = f'{self.machines[0].name} = "{new}"; ' if case == "option" else ""
        secrets = ""
        if side == KEYED:
            secrets = str(self.project.directory / "secrets")
            if case != "option":
                keys.write(Path(secrets), new)
        self.project.write(
            "given.nix",
            f'{{ first = "{self.first}"; changed = "{self.changed}"; options = {{ {options}}};'
            f' secrets = "{secrets}"; keys = {len(keys.SIZES)}; machines = {{ {addresses}}}; }}\n',
        )

    def measure(self, side: str, case: str) -> None:
        """Run one side once, from no open connection on, and remember how long it took."""
        self.disconnect()
        before = machine_seconds(self.machines)
        used = self.run(side, case, self._variables())
        on_machines = machine_seconds(self.machines) - before
        self.used.setdefault((side, case), []).append((used, on_machines))

    def count(self, side: str, case: str) -> None:
        """Run one side once, and count the commands that it starts."""
        self.disconnect()
        with _shims(self.project.directory) as (directory, log):
            variables = self._variables()
            self.run(side, case, {**variables, "PATH": f"{directory}:{variables['PATH']}"})
            started = log.read_text().split()
        self.counts[case] = {command: started.count(command) for command in COUNTED}

    def run(self, side: str, case: str, variables: dict[str, str]) -> Usage:
        """Deploy; a run that fails ends the bench with what it said."""
        names = [machine.name for machine in self.machines]
        # The last case changes one machine. Who writes commands by hand names it.
        needed = names[:1] if case == "option" and side in (BARE, PARALLEL) else names
        done, used = measured(
            self._command(side, case),
            cwd=self.project.directory,
            env={**variables, "SSH_OPTIONS": self.ssh_options(), "NIX_SSHOPTS": self.ssh_options()},
            stdin="\n".join(needed),
            finish=self.disconnect,
        )
        changes = len(re.findall(r"^machine\d+ +: .*changed=[1-9]", done.stdout, re.MULTILINE))
        expected = {"nothing": 0, "option": 1}.get(case, len(names))
        if done.returncode != 0 or (side in LOOK and changes != expected):
            raise SystemExit(f"bench: {side}, {CASES[case]}: exit code {done.returncode}\n{done.stdout}")
        return used

    def _command(self, side: str, case: str) -> list[str]:
        at_once = str(len(self.machines))
        if side in (DEPLOY, KEYED):
            return ["ansible-playbook", "-i", "bench.network.yml", "nix.ops.deploy", "--forks", at_once]
        if side == PLAYBOOK:
            hosts = ",".join(machine.name for machine in self.machines)
            return ["ansible-playbook", "-i", f"{hosts},", "plain.yml", "--forks", at_once]
        if side in self.others:
            return ["sh", "-c", self.others[side]]
        return ["xargs", "-n", "1", "-P", at_once if side == PARALLEL else "1", str(HERE / "bare.sh"), case]

    @property
    def sides(self) -> list[str]:
        """The sides to compare. One after the other, many machines take too long."""
        if len(self.machines) > MOST_BARE:
            return [PARALLEL, PLAYBOOK, DEPLOY, *self.others]
        return [*[BARE, PARALLEL][: len(self.machines)], PLAYBOOK, DEPLOY, KEYED, *self.others]

    def disconnect(self) -> None:
        """End the connections that are shared between ssh's calls."""
        for socket in (self.project.directory / ".cp").glob("*"):
            end = ["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "bench"]
            subprocess.run(end, capture_output=True, check=False)

    def _variables(self) -> dict[str, str]:
        # The tests' callback is no part of a deploy.
        return {name: value for name, value in self.project.variables().items() if name != "ANSIBLE_CALLBACKS_ENABLED"}

    def ssh_options(self) -> str:
        """Return the options with which the bare commands share a connection."""
        shared = "-o ControlMaster=auto -o ControlPersist=60s"
        return f"-F {self.machines[0].ssh_config} {shared} -o ControlPath={self.project.directory}/.cp/%C"


@contextmanager
def _shims(below: Path) -> Iterator[tuple[Path, Path]]:
    """Commands that note down that they were called, for the front of PATH."""
    with tempfile.TemporaryDirectory(prefix=".", dir=below) as made:
        directory, log = Path(made), Path(made, "log")
        log.touch()
        for command in COUNTED:
            shim = directory / command
            shim.write_text(f'#!/bin/sh\necho {command} >>"{log}"\nexec {shutil.which(command)} "$@"\n')
            shim.chmod(0o755)
        yield directory, log


def _project(directory: Path, fleet: Fleet) -> Project:
    """A user's directory with the network, and the collection installed from what the checkout builds."""
    project = Project(directory, {"ANSIBLE_COLLECTIONS_PATH": str(directory / "collections")})
    # As nix.ops.create writes it.
    project.configure(fleet.ssh_config, internal_poll_interval="0.01")
    (directory / ".cp").mkdir(mode=0o700)
    for file in (HERE / "network").iterdir():
        shutil.copy(file, directory)
    project.write("bench.network.yml", "plugin: nix.ops.network\nname: bench\nfiles: [network.nix]\n")
    for where, words in ((CHECKOUT, ("build", "--output-path", str(directory))), (directory, ("install", "--offline"))):
        archive = [] if words[0] == "build" else [str(next(directory.glob("*.tar.gz")))]
        command = [str(BIN / "ansible-galaxy"), "collection", *words, *archive]
        subprocess.run(command, cwd=where, env=project.variables(), stdout=subprocess.DEVNULL, check=True)
    return project


def _measure(
    fleet: Fleet, counts: Sequence[int], repetitions: int, below: Path, others: dict[str, str]
) -> dict[int, Bench]:
    """Measure all sides with so and so many machines; all take turns, since a computer's load comes and goes."""
    benches = {}
    for count in sorted(counts):
        directory = below / str(count)
        directory.mkdir()
        machines = [fleet.machine(f"machine{index}") for index in range(count)]
        benches[count] = Bench(_project(directory, fleet), machines, others)
        # Whatever is made once (bytecode, caches of the file system) is made now.
        benches[count].round(DEPLOY, benches[count].count)
    for repetition in range(repetitions):
        for count, bench in benches.items():
            for side in bench.sides if repetition % 2 == 0 else reversed(bench.sides):
                print(f"run {repetition + 1} of {repetitions}, machines: {count}, {side}", file=sys.stderr)
                bench.round(side, bench.measure)
    return benches


def _forget_roots(below: Path) -> None:
    for root in Path("/nix/var/nix/gcroots/auto").iterdir():
        if root.readlink().is_relative_to(below):
            root.unlink()


def _report(benches: dict[int, Bench]) -> Iterator[str]:
    yield "| machines | what | by | seconds | to bare | CPU of controller | CPU of machines | memory |"
    yield "|---:|---|---|---:|---:|---:|---:|---:|"
    for machines, bench in benches.items():
        for case, label in CASES.items():
            bare = _wall(bench, PARALLEL if machines > 1 else BARE, case)
            for side in bench.sides:
                taken = bench.used[side, case]
                cpu, peak = median(used.cpu for used, _other in taken), median(used.peak for used, _other in taken)
                wall, on_machines = _wall(bench, side, case), median(other for _used, other in taken)
                yield (
                    f"| {machines} | {label} | {side} | {wall:.2f} s | {wall / bare:.2f} | {cpu:.1f} s"
                    f" | {on_machines:.1f} s | {peak / 2**20:.0f} MiB |"
                )
    yield ""
    yield f"| commands that nix.ops.deploy starts | {' | '.join(COUNTED)} |"
    yield "|---|" + "---:|" * len(COUNTED)
    for machines, bench in benches.items():
        for case, label in CASES.items():
            counts = " | ".join(str(bench.counts[case][command]) for command in COUNTED)
            yield f"| {machines} machine{'s' if machines > 1 else ''}, {label} | {counts} |"


def _wall(bench: Bench, side: str, case: str) -> float:
    return median(used.wall for used, _other in bench.used[side, case])


def _computer() -> str:
    nix = subprocess.run(["nix-store", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    core = subprocess.run([str(BIN / "ansible"), "--version"], capture_output=True, text=True, check=True).stdout
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} processors, {memory:.0f} GiB of memory, {platform.freedesktop_os_release()['PRETTY_NAME']},"
        f" Nix {nix}, ansible-core {core.partition('core ')[2].partition(']')[0]}, Python {platform.python_version()};"
        f" load {os.getloadavg()[2]:.1f} in the last quarter of an hour"
    )


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description="Compares the deploy with the bare commands.")
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 10], metavar="N")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N")
    parser.add_argument("--nixpkgs", metavar="PATH", help="a checkout of nixpkgs; measures only evaluations with it")
    parser.add_argument(
        "--other",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="the command of another tool that deploys network.nix, such as NixOps or colmena",
    )
    arguments = parser.parse_args()
    if arguments.nixpkgs:
        lines = list(evaluating.measure(os.path.realpath(arguments.nixpkgs), arguments.repetitions))
        print(f"Medians of {arguments.repetitions} runs: {_computer()}.\n")
        print("\n".join(lines))
        return
    others = dict(one.split("=", 1) for one in arguments.other)
    fleet = Fleet(DISKS)
    try:
        fleet.up_all({f"machine{index}": Kind() for index in range(max(arguments.machines))})
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            benches = _measure(fleet, arguments.machines, arguments.repetitions, Path(directory), others)
            one = benches[min(benches)]
            switches = list(switching.measure(one.project, one.machines[0], arguments.repetitions))
            many = benches[max(benches)]
            sent = list(
                keys.measure(many.project, many.machines, arguments.repetitions, many.ssh_options(), many.disconnect)
            )
            _forget_roots(Path(directory))
    finally:
        fleet.down_all()
    print(f"Medians of {arguments.repetitions} runs: {_computer()}.\n")
    print("\n".join([*_report(benches), "", *switches, "", *sent]))
