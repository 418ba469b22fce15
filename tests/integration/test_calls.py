# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each call to a machine against each misbehaviour of a machine, beside a healthy machine that is deployed meanwhile.

A run of all tests tries each call and each misbehaviour at least once; `make chaos` tries each pair.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import place, script
from fleet import Machine
from fleet.hostile import MISBEHAVIOURS, Hostile
from integration.conftest import MachineFactory
from integration.engine import SETTLED, UUID, build_systems, other, wait_on
from integration.faults import CHAOS
from integration.outside import processes_of
from integration.project import Outcome, Project
from integration.tasks import PACKAGES, new_salt, nix, put, write_play

ALL = bool(os.environ.get(CHAOS))
pytestmark = [pytest.mark.chaos] if ALL else []
PASSWORD = "secret"
FORGED = "healthy> this line is forged"

ACTIVATION = place("activation_unit")

# Seconds that a run may take with the limits below. A job is asked for 15 s, and again until the patience is over.
LONGEST = {"deploy": 120, "pull": 60, "file": 90, "build": 120, "reboot": 300}

# Hostile machines in a run. Each has a pair of its own.
AT_ONCE = 4


def sends(name: str, *more: str) -> tuple[str, ...]:
    """Return the patterns of a call that sends a script: its description, and more."""
    return (script(name).splitlines()[1], *more)


# Each road is a play; its calls by the names of their tasks.
SOON = "answer_timeout: 4"
COPY = f"{SOON}, stall_timeout: 4, copy_timeout: 8"
REMEMBER = f"deployment: example, uuid: {UUID}, machine: '{{{{ inventory_hostname }}}}'"
ACTIVATE = (
    f"toplevel: '{{{{ toplevel }}}}', {SOON}, reconnect_timeout: 4, confirm_timeout: 8,"
    f" health_checks: {{commands: ['true'], deadline: 4}}, remember: {{{REMEMBER}}}"
)
ROADS = {
    "deploy": f"""
      - nix.ops.deployment_prepare: {{{REMEMBER}, timeout: 0, {SOON}}}
      - nix.ops.nix_copy_closure: {{paths: ['{{{{ fresh }}}}'], {COPY}}}
      - nix.ops.nixos_activate: {{{ACTIVATE}}}
    """,
    "pull": f"""
      - nix.ops.nix_copy_closure: {{paths: ['{{{{ there }}}}'], direction: from, require_signatures: false, {COPY}}}
    """,
    "file": f"""
      - nix.ops.nix_copy_closure: {{paths: ['{{{{ fresh }}}}'], {COPY}}}
      - nix.ops.nix_copy_closure: {{paths: ['{{{{ there }}}}'], direction: from, require_signatures: false, {COPY}}}
    """,
    "build": f"""
      - nix.ops.nix_build:
          {{file: packages.nix, attribute: tool, arguments: {{salt: '{{{{ salt }}}}'}}, out_link: /root/built,
            reconnect_timeout: 4, build_timeout: 30, {COPY}}}
    """,
    "reboot": f"""
      - nix.ops.nixos_activate: {{{ACTIVATE}, reboot: always, reboot_timeout: 20}}
    """,
}


@dataclass(frozen=True)
class Call:
    """A call to a machine.

    :param road: the road on which it is made.
    :param texts: the patterns that choose it.
    :param optional: whether a deploy succeeds without its answer, and warns.
    """

    road: str
    texts: tuple[str, ...]
    optional: bool = False


CALLS = {
    "describe": Call("deploy", sends("machine/describe")),
    "missing": Call("deploy", sends("store/missing")),
    "prove": Call("deploy", ("^cat /proc/sys/kernel/random/boot_id$",)),
    "serve": Call("deploy", (r"nix-store --serve\|nix-daemon --stdio",)),
    "start": Call("deploy", sends("activation/activation")),
    "follow": Call("deploy", sends("machine/job", "^set -- follow ")),
    "reached": Call("deploy", sends("activation/acknowledge", "^set -- .* reached$")),
    "health": Call("deploy", sends("activation/health")),
    "keep": Call("deploy", sends("activation/acknowledge", "^set -- .* keep$")),
    "outcome": Call("deploy", sends("activation/activation_outcome")),
    "record": Call("deploy", sends("deployment/record"), optional=True),
    "boot": Call("pull", sends("machine/boot")),
    "serve from": Call("pull", (r"nix-store --serve\|nix-daemon --stdio",)),
    "temporary": Call("file", sends("store/temporary", "^set -- make ")),
    # Ansible has other ways to transfer a file.
    "put": Call("file", ("sftp-server",), optional=True),
    "import": Call("file", sends("store/import")),
    "requisites": Call("file", sends("store/requisites")),
    "export": Call("file", sends("store/export")),
    "realise": Call("build", sends("store/realise")),
    "follow the build": Call("build", sends("machine/job", "^set -- follow ")),
    "stop the build": Call("build", sends("machine/job", "^set -- stop "), optional=True),
    "root": Call("build", sends("store/root")),
    "acknowledge the boot": Call("reboot", sends("activation/boot_acknowledge")),
    "reboot": Call("reboot", sends("activation/acknowledge", "^set -- .* reboot$")),
}

# What is no answer in any call.
NEVER_AN_ANSWER = {"silent", "endless", "one-line", "drip", "wrong", "nothing", "fails", "lost"}


@dataclass(frozen=True)
class Cell:
    """A call, and how a machine answers it."""

    call: str
    how: str

    def __str__(self) -> str:
        return f"{self.call} {self.how}"


def runs() -> list[tuple[Cell, ...]]:
    """Return the pairs to try, some for each run; those of a run are on the same road."""
    pairs = [Cell(call, how) for call in CALLS for how in MISBEHAVIOURS]
    if not ALL:
        # In this order no job is followed in silence, which takes half a minute.
        pairs = [Cell(call, MISBEHAVIOURS[-number % len(MISBEHAVIOURS)]) for number, call in enumerate(CALLS)]
    found = []
    for road in ROADS:
        cells = [cell for cell in pairs if CALLS[cell.call].road == road]
        found += [tuple(cells[start : start + AT_ONCE]) for start in range(0, len(cells), AT_ONCE)]
    return found


class Ground:
    """Machines of one kind, all but one of them hostile."""

    def __init__(self, healthy: Machine, hostile: list[Machine], systems: Mapping[str, str]) -> None:
        self.healthy = healthy
        self.hostile = [Hostile(machine) for machine in hostile]
        self.systems = systems

    @property
    def machines(self) -> list[Machine]:
        """All machines."""
        return [self.healthy, *(one.machine for one in self.hostile)]

    def inventory(self, project: Project, variables: Mapping[str, Any]) -> dict[str, str]:
        """Write the inventory; return each machine's next toplevel."""
        goals = {one.name: other(self.systems, one.inspect()["running"]) for one in self.machines}
        hosts = {name: {"toplevel": goal} for name, goal in goals.items()}
        project.write("hosts.yml", yaml.safe_dump({"all": {"hosts": hosts, "vars": dict(variables)}}))
        return goals

    def calm(self) -> None:
        """Let all machines behave, and wait until nothing is at work there."""
        for one in self.hostile:
            one.behave()
        for machine in self.machines:
            machine.wait_up()
            wait_on(machine, f"! systemctl is-active --quiet {ACTIVATION}", "the activation has ended", 90)


@pytest.fixture(scope="module")
def grounds(machine: MachineFactory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return the ground for each road; made once."""
    made: dict[str, Ground] = {}

    def ground(road: str) -> Ground:
        user = "deploy" if road == "file" else "root"
        if user not in made:
            kind = {"user": "deploy", "sudo_password": PASSWORD} if road == "file" else {}
            prefix = "user-" if road == "file" else ""
            machines = [
                machine(prefix + name, **kind) for name in ("healthy", *(f"hostile{n}" for n in range(AT_ONCE)))
            ]
            systems = build_systems(tmp_path_factory.mktemp("systems"), dict.fromkeys(SETTLED, ""))
            for one in machines:
                put(one, *systems.values())
            made[user] = Ground(machines[0], machines[1:], systems)
        return made[user]

    yield ground


def variables_of(ground: Ground, road: str, project: Project) -> dict[str, Any]:
    """Return the variables of a road: paths that one side has and the other lacks."""
    salt = new_salt()
    fresh = nix("nix-store", "--add", str(project.write(f"fresh-{salt}", salt)))
    for one in ground.machines:
        there = one.run(f"echo there-{salt} >/root/there-{salt}; nix-store --add /root/there-{salt}").stdout.strip()
    found: dict[str, Any] = {"salt": salt, "fresh": fresh, "there": there}
    if road == "file":
        found |= {"ansible_become": True, "ansible_become_password": PASSWORD}
    return found


@pytest.mark.parametrize("cells", runs(), ids=lambda cells: ", ".join(map(str, cells)))
def test_a_machine_that_misbehaves(grounds: Any, project: Project, cells: tuple[Cell, ...]) -> None:
    road = CALLS[cells[0].call].road
    ground = grounds(road)
    project.write("packages.nix", PACKAGES)
    goals = ground.inventory(project, variables_of(ground, road, project))
    before = {one.name: one.inspect()["running"] for one in ground.machines}
    mark = project.directory / "ran-on-the-controller"
    for one, cell in zip(ground.hostile, cells, strict=False):
        one.misbehave(CALLS[cell.call].texts, cell.how, mark=mark, other=ground.healthy.name)
    began = time.monotonic()
    try:
        run = project.play("-i", "hosts.yml", write_play(project, ROADS[road], "all"), timeout=300)
        took = time.monotonic() - began
        left = processes_of(project)
        seen = {one.name: one.inspect()["running"] for one in ground.machines}
    finally:
        ground.calm()
    assert took < LONGEST[road]
    assert not left
    assert not mark.exists()
    check_output(run)
    names = [one.machine.name for one in ground.hostile]
    # All machines but those that were given a misbehaviour.
    for name in goals.keys() - set(names[: len(cells)]):
        assert {one.status for one in run.results if one.host == name} <= {"ok", "changed"}, run.output
        assert "toplevel" not in ROADS[road] or seen[name] == goals[name], run.output
    for name, cell in zip(names, cells, strict=False):
        check_told(run, name, cell, is_untouched=seen[name] == before[name])
    assert run.exit_code != 0 or not any(must_fail(cell) for cell in cells), run.output


def must_fail(cell: Cell) -> bool:
    """Whether a machine can't be deployed with this misbehaviour."""
    return cell.how in NEVER_AN_ANSWER and not CALLS[cell.call].optional


def check_output(run: Outcome) -> None:
    """Nothing of a run's output is forged, and no error is unexpected."""
    for line in run.output.splitlines():
        assert not line.startswith(FORGED), run.output
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", run.output)
    for word in ("Traceback", "Unexpected", "unexpected", "invalid literal", "exception occurred"):
        assert word not in run.output, run.output


def check_told(run: Outcome, name: str, cell: Cell, *, is_untouched: bool) -> None:
    """What is told of a hostile machine is true."""
    told = [one for one in run.results if one.host == name]
    failed = [one for one in told if one.status in ("failed", "unreachable")]
    for one in told:
        print(f"== {cell}: {one.status} of {one.task}: {one.result.get('msg', '')[:2000]}")
    if must_fail(cell):
        assert failed, f"{cell}:\n{run.output}"
    for one in failed:
        message = one.result["msg"]
        assert "State: " in message and "Next: " in message, f"{cell}:\n{message}"
        if "untouched" in message or "nothing was activated" in message:
            assert is_untouched, f"{cell}:\n{message}"
