# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records how this version leaves machines and projects, for the tests of later versions; run by ``make older``.

The recording is the directory beside this file that has the version's name. Each function makes one kind of machine
or project on the live fleet, with the playbooks alone.
"""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
from pathlib import Path

import pytest
from ansible.release import __version__ as core

from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import place
from fleet import Fleet, Machine
from integration.conftest import MachineFactory, fleet, machine
from integration.networks import toplevels
from integration.outside import boots_of
from integration.project import Outcome, Project
from integration.tasks import close_gate, open_gate, read_until, wait_for
from older import trees
from older.deployment import (
    ATTEMPTS,
    BESIDE,
    BROKEN,
    COLLECTION,
    FIRST,
    OTHER_KERNEL,
    OUR_CACHE,
    SECOND,
    UUID,
    archive,
    boot_id,
    configure,
    define,
    values,
)

__all__ = ["fleet", "machine"]

RECORDING = trees.HERE / trees.version()
CORE = ".".join(core.split(".")[:2])

# What a project of a user has of the collection's; the networks are the user's own.
FACTS = ".nix-ops/facts"
OF_A_PROJECT = ("ansible.cfg", "example.network.yml", ".nix-ops/.gitignore", ".nix-ops/toplevels", "state")

# Part of every toplevel; where one file reads the other, their places are those of the collection.
BOOT_GUARD = (
    "network/boot-guard.nix",
    "machine/places.sh",
    "activation/shared.sh",
    "activation/boot_guard.sh",
)

# What a machine keeps.
STATE = place("kept").lstrip("/")

# Stands before systemd-run on the machine, and notes how it is called and what there is then.
NOTING = """#!/bin/sh
printf '%s\\n' "$@" >/root/started-with
cd / && tar -cf /root/begun.tar run/nix-ops-*
exec /usr/bin/systemd-run "$@"
"""


class Deployed:
    """A machine and a project after the first deploy.

    :param toplevels: the toplevels by their names.
    """

    def __init__(self, target: Machine, project: Project) -> None:
        self.target, self.project = target, project
        self.toplevels = {"fleet": target.toplevel}
        self.create("example", UUID)
        self.define(FIRST)
        self.deploy("first")
        # It has booted what it runs, as after some days.
        target.reboot()

    def create(self, name: str, uuid: str) -> None:
        """Create a deployment as a user does."""
        define(self.project, self.target, FIRST, name)
        networks = f'{{"networks": ["{name}-target.nix", "{name}-config.nix"]}}'
        words = ("-e", f"deployment={name}", "-e", f"uuid={uuid}", "-e", networks)
        created = self.project.play("nix.ops.create", *words)
        assert created.exit_code == 0, created.output

    def define(self, lines: str, name: str = "example") -> None:
        """Say what the machine shall be."""
        define(self.project, self.target, lines, name)

    def deploy(self, toplevel: str, *words: str, source: str = "example.network.yml", exit_code: int = 0) -> Outcome:
        """Deploy, and name the toplevel that it builds."""
        outcome = self.project.play("-i", source, "nix.ops.deploy", *words)
        assert outcome.exit_code == exit_code, outcome.output
        [self.toplevels[toplevel]] = toplevels(outcome).values()
        return outcome

    def built(self, toplevel: str) -> None:
        """Name the toplevel that a deploy which goes on has built."""
        link = self.project.directory / ".nix-ops/toplevels/example/target"
        self.toplevels[toplevel] = os.path.realpath(link)

    def values(self) -> dict[str, str]:
        """Return what the placeholders stand for."""
        return values(self.target, self.project, self.project.directory / "state/nix.ops/keys", self.toplevels)

    def save(self, name: str, archived: bytes, beside: dict[str, str] | None = None, **more: str) -> None:
        """Write a tree of the recording."""
        known = {**self.values(), "BOOT": boot_id(self.target), **more}
        write(f"{name}.tree", trees.unpack(archived, known, beside))

    def save_kind(self, kind: str) -> None:
        """Write down what the machine and the fact cache keep."""
        self.save(f"{kind}/machine", archive(self.target, STATE))
        self.save_files(f"{kind}/facts", FACTS)

    def save_files(self, name: str, *paths: str) -> None:
        """Write down files of the project."""
        self.save(name, trees.archived(self.project.directory, *paths))


def write(name: str, text: str) -> None:
    """Write a file of the recording."""
    assert "PRIVATE KEY" not in text, name
    path = RECORDING / name
    assert not path.exists(), f"{path} is never edited: raise the version in galaxy.yml first"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def deployed(machine: MachineFactory, fleet: Fleet, tmp_path: Path) -> Deployed:
    """A fresh machine and a fresh project after the first deploy."""
    project = Project(tmp_path / "project")
    project.directory.mkdir()
    configure(project, fleet)
    return Deployed(machine("target"), project)


def test_deployed(deployed: Deployed) -> None:
    deployed.save_kind("deployed")
    deployed.save_files("project", *OF_A_PROJECT)
    deployed.project.environment |= {
        "ANSIBLE_CACHE_PLUGINS": str(OUR_CACHE),
        "ANSIBLE_CACHE_PLUGIN": "jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(deployed.project.directory / "awx"),
    }
    deployed.deploy("first")
    deployed.save_files("deployed/facts-of-nix.ops.jsonfile", "awx")
    write("boot-guard.tree", trees.unpack(trees.archived(COLLECTION / "plugins/plugin_utils", *BOOT_GUARD), {}))


def test_facts(deployed: Deployed) -> None:
    """The fact cache of this ansible-core, where it is not the recorded one but for its times."""
    now = trees.unpack(trees.archived(deployed.project.directory, FACTS), deployed.values())
    recorded = (RECORDING / "deployed/facts.tree").read_text(encoding="utf-8")
    if _without_times(now) != _without_times(recorded):
        write(f"deployed/facts-of-ansible-core-{CORE}.tree", now)


def _without_times(tree: str) -> str:
    return re.sub(r"\b[0-9]{10}\b", "TIME", tree)


def test_rolled_back(deployed: Deployed) -> None:
    deployed.define(BROKEN)
    deployed.deploy("second", exit_code=2)
    deployed.save_kind("rolled-back")


def test_two_deployments(deployed: Deployed) -> None:
    deployed.create("beside", BESIDE)
    deployed.deploy("second", source="beside.network.yml")
    deployed.deploy("first")
    deployed.save_kind("two-deployments")
    deployed.save_files("two-deployments/project", *OF_A_PROJECT, "beside.network.yml")


def test_unfinished(deployed: Deployed) -> None:
    deployed.define(SECOND)
    deployed.target.run("mount --bind /boot /boot && mount -o remount,bind,ro /boot")
    deployed.deploy("second", exit_code=2)
    deployed.save_kind("unfinished")


def test_on_trial(deployed: Deployed) -> None:
    deployed.define(SECOND + OTHER_KERNEL)
    words = ("-i", "example.network.yml", "nix.ops.deploy", "-e", "deploy_reboot=when_needed")
    run = deployed.project.start("ansible-playbook", *words)
    before = boots_of(deployed.target)
    read_until(run, "rebooting...")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    # What is run on a machine that goes down is in its way.
    wait_for(lambda: boots_of(deployed.target) > before, "it boots", 60)
    deployed.target.wait_up()
    deployed.built("second")
    # It notes the boot that it is about.
    wait_for(lambda: deployed.target.run(["sed", "-n", "2p", f"/{STATE}/trial"]).stdout, "its boot guard is at work")
    deployed.save_kind("on-trial")


def test_an_activation(deployed: Deployed) -> None:
    target = deployed.target
    deployed.define(SECOND)
    target.run("cat >/usr/local/bin/systemd-run; chmod +x /usr/local/bin/systemd-run", stdin=NOTING.encode())
    close_gate(target)
    run = deployed.project.start("ansible-playbook", "-i", "example.network.yml", "nix.ops.deploy")
    read_until(run, "before the gate")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    deployed.built("second")

    [directory] = target.run(f"ls -d /{ATTEMPTS}").stdout.split()
    more = {"ATTEMPT": directory.rpartition("-")[2], "HOLDER": f"root@{socket.gethostname()} (process {run.pid})"}
    known = {**deployed.values(), **more}
    write("activation/start", trees.abstract(target.run("cat /root/started-with").stdout, known))
    write("activation/job", target.run(["cat", f"{directory}/job"]).stdout)

    def save(name: str, archived: bytes) -> None:
        deployed.save(f"activation/{name}", archived, {"job": "job"}, **more)

    save("begun", base64.b64decode(target.run(["base64", "/root/begun.tar"]).stdout))
    save("gate", archive(target, STATE, ATTEMPTS))
    open_gate(target)
    wait_for(lambda: "acknowledge" in target.run(["cat", f"{directory}/step"]).stdout, "it waits to be reached")
    save("acknowledge", archive(target, STATE, ATTEMPTS))
