# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines and projects of older versions: this version deploys to them, and loses nothing of what they remember."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet import Fleet, Machine
from integration.conftest import MachineFactory
from integration.networks import ACTIVATE, INFO, PLAN, standing, toplevels
from integration.outside import boots_of
from integration.project import Outcome, Project
from integration.tasks import close_gate, nix, open_gate, put, read_until, wait_for
from older import trees
from older.deployment import (
    ATTEMPTS,
    BESIDE,
    FIRST,
    OTHER_KERNEL,
    OUR_CACHE,
    SECOND,
    STATE,
    UUID,
    archive,
    boot_id,
    configure,
    define,
    place,
    values,
)

ATTEMPT = "0123456789abcdef"
BOOT = "00000000-0000-0000-0000-000000000001"
GUARD = "nix-ops-boot-guard.service"
KEPT = "/nix/var/nix/nix-ops"
FOUND = "what is remembered of it was found on the machine"
MOVE_FACTS = "a network may copy its directory into the Nix store. Next: mkdir"
JOINED = "the same activation is at work already; following it to its end"

# The boot guard of the recording, in the place of this version's.
OLD_GUARD = """
  systemd.services.nix-ops-boot-guard = lib.mkForce
    (import ./boot-guard/nix/boot-guard.nix arguments).systemd.services.nix-ops-boot-guard.content;
"""
NETWORKS = {"first": FIRST, "second": SECOND + OTHER_KERNEL + OLD_GUARD}


@dataclass
class Older:
    """A machine and a project that a recording is placed on.

    :param keys: the directory with key pairs that this run has made.
    :param toplevels: the toplevels by their names.
    """

    recording: Path
    fleet: Fleet
    target: Machine
    project: Project
    keys: Path
    toplevels: dict[str, str]

    def values(self, **more: str) -> dict[str, str]:
        """What the placeholders stand for."""
        known = values(self.target, self.project, self.keys, self.toplevels)
        return {**known, "ATTEMPT": ATTEMPT, "HOLDER": "somebody (process 1)", **more}

    def text(self, name: str) -> str:
        """A file of the recording."""
        return (self.recording / name).read_text(encoding="utf-8")

    def place_project(self, project: Project, facts: str, tree: str = "project.tree") -> None:
        """Make a directory the user's project.

        :param facts: the tree with its fact cache.
        """
        for name in (".nix-ops", "state", "awx"):
            shutil.rmtree(project.directory / name, ignore_errors=True)
        for name in (tree, facts):
            trees.extract(trees.pack(self.recording / name, self.values()), project.directory)
        guard = project.directory / "boot-guard"
        guard.mkdir(exist_ok=True)
        trees.extract(trees.pack(self.recording / "boot-guard.tree", {}), guard)

    def place_machine(self, tree: str, *, running: str, boots: str, profile: str) -> None:
        """Make the machine what it was, with nothing that an earlier test has left."""
        generations = list(dict.fromkeys(["fleet", "first", profile]))
        words = [self.toplevels[name] for name in (running, boots, *generations)]
        self.target.run(["/bin/sh", "-s", *words], stdin=(trees.HERE / "stand.sh").read_bytes())
        # The boot guard notes by itself which boot it is about.
        place(self.target, trees.pack(self.recording / tree, self.values(), without="\t@BOOT@"))

    def place(self, kind: str, *, running: str = "first", boots: str = "first", profile: str = "first") -> None:
        """Make both what a kind of the recording was."""
        self.place_machine(f"{kind}/machine.tree", running=running, boots=boots, profile=profile)
        self.place_project(self.project, f"{kind}/facts.tree")

    def remembered(self, uuid: str = UUID, machine: str = "target") -> dict[str, Any]:
        """What the fact cache that was placed has of a machine."""
        document = json.loads((self.project.directory / f".nix-ops/facts/s1_{machine}").read_text(encoding="utf-8"))
        return kept(json.loads(document["__payload__"])["nix_ops"][uuid])

    def play(self, playbook: str, *words: str, source: str = "example.network.yml", exit_code: int = 0) -> Outcome:
        """Run a playbook of this version, which ends with this exit code."""
        outcome = self.project.play("-i", source, playbook, *words)
        assert outcome.exit_code == exit_code, outcome.output
        return outcome

    def deploy(self, toplevel: str, *words: str, exit_code: int = 0) -> Outcome:
        """Deploy what has this name; the deployment's key stays what it was."""
        define(self.project, self.target, NETWORKS[toplevel])
        outcome = self.play("nix.ops.deploy", *words, exit_code=exit_code)
        assert toplevels(outcome) == {"target": self.toplevels[toplevel]}
        assert "generating new SSH key pair" not in outcome.output
        return outcome

    def start_activation(self) -> Path:
        """Run the older version's job on the machine as that version started it; :returns: its directory."""
        place(self.target, trees.pack(self.recording / "activation/begun.tree", self.values(BOOT=BOOT)))
        words = trees.fill(self.text("activation/start"), self.values()).splitlines()
        self.target.run(["systemd-run", *words])
        return Path(f"/run/nix-ops-{ATTEMPT}")

    def check_phase(self, phase: str) -> None:
        """Check that the directory of the job that was started is the recorded one of a phase."""
        now = trees.unpack(archive(self.target, ATTEMPTS), self.values(BOOT=BOOT), {"job": "job"})
        recorded, _head, _state = self.text(f"activation/{phase}.tree").partition("directory 0700 var")
        assert _without_log(now) == _without_log(recorded)


def _without_log(tree: str) -> str:
    """A tree without what its log says, which hangs on the gate."""
    return re.sub(r"(/log\n)(\t.*\n)*", r"\1", tree)


def kept(state: Mapping[str, Any]) -> dict[str, Any]:
    """Of a state what must not be lost."""
    # Version 0.1.0 knew nothing of Git, and its deploys had no ids.
    activations = [
        {name: one[name] for name in one if name not in ("revision", "modified", "origin", "deploy")}
        for one in state["activations"]
    ]
    return {name: state[name] for name in ("inputs", "acknowledged", "members")} | {"activations": activations}


def known(outcome: Outcome) -> dict[str, Any]:
    """What a run knew of the machine before it touched it."""
    return kept(outcome.of(INFO)["state"])


def remembers(outcome: Outcome) -> dict[str, Any]:
    """What is remembered of the machine after a run."""
    return kept(outcome.of(ACTIVATE)["ansible_facts"]["nix_ops"][UUID])


def since(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state without the time of the last acknowledgement, which a machine's record is not trusted with."""
    return {**state, "acknowledged": {**state["acknowledged"], "time": None}}


def gists(state: Mapping[str, Any]) -> list[tuple[str, int, bool]]:
    """Of each activation its toplevel, its exit code and whether the machine went back."""
    return [(one["toplevel"], one["exit_code"], one["rolled_back"]) for one in state["activations"]]


@pytest.fixture(scope="module", params=trees.recorded())
def older(
    request: pytest.FixtureRequest, machine: MachineFactory, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> Older:
    """A machine for all tests, with the systems that the recording names in its store."""
    directory = tmp_path_factory.mktemp("older")
    target, project, keys = machine("target"), Project(directory / "project"), directory / "keys"
    for new in (project.directory, keys):
        new.mkdir()
    configure(project, fleet)
    for name, deployment in (("target", "example"), ("beside", "beside")):
        comment = f"nix.ops key of {name} in {deployment}"
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(keys / name)], check=True
        )
    # The inputs have to be known before the first toplevel can be.
    unknown = dict.fromkeys(("fleet", "first", "second"), target.toplevel)
    found = Older(trees.HERE / str(request.param), fleet, target, project, keys, unknown)
    found.place_project(project, "deployed/facts.tree")
    built = {}
    for name, lines in NETWORKS.items():
        define(project, target, lines)
        [built[name]] = toplevels(found.play("nix.ops.deploy", "--tags", "build")).values()
    put(target, *built.values())
    found.toplevels |= built
    return found


def test_a_recording_has_no_private_key(older: Older) -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in older.recording.rglob("*") if path.is_file()}
    assert "@PRIVATE:target@" in texts[older.recording / "project.tree"]
    assert [path for path, text in texts.items() if "PRIVATE KEY" in text] == []


def test_a_deployed_machine(older: Older) -> None:
    older.place("deployed")
    before, remembered = older.target.inspect(), older.remembered()
    first = older.deploy("first")
    assert not first.changed, first.output
    assert known(first) == remembered
    assert FOUND not in first.output
    # The machine has it all by itself as well, and a run after the first finds it there.
    second = older.deploy("first", "--flush-cache")
    assert not second.changed, second.output
    assert since(known(second)) == since(remembered)
    assert FOUND in second.output
    same = ("running", "profile", "boot_default", "generation", "sshd_pid", "boot_id", "failed_units")
    after = older.target.inspect()
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    # What was built is kept from being collected, by a link of the project's.
    roots = nix("nix-store", "--query", "--roots", older.toplevels["first"])
    assert f"{older.project.directory}/state/nix.ops/toplevels/{UUID}/target" in roots
    assert not list((older.project.directory / ".nix-ops/toplevels").glob("*"))
    # Its ansible.cfg is the user's: the facts go on to be used, and the run tells how to move them.
    assert MOVE_FACTS in " ".join(first.output.split())
    assert list((older.project.directory / ".nix-ops/facts").iterdir())
    assert not (older.project.directory / "state/nix.ops/facts").exists()


def test_a_fact_cache_of_awx(older: Older, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where AWX alone has the state, since the machine has lost what it had."""
    older.place_machine("deployed/machine.tree", running="first", boots="first", profile="first")
    older.target.run(["rm", "-r", f"/{STATE}"])
    older.place_project(older.project, "deployed/facts.tree")
    remembered = older.remembered()
    older.place_project(older.project, "deployed/facts-of-nix.ops.jsonfile.tree")
    # AWX delivers a file with the host's name.
    (older.project.directory / "awx/s1_target").unlink()
    settings = {
        "ANSIBLE_CACHE_PLUGINS": str(OUR_CACHE),
        "ANSIBLE_CACHE_PLUGIN": "jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(older.project.directory / "awx"),
    }
    monkeypatch.setattr(older.project, "environment", older.project.environment | settings)
    run = older.deploy("first")
    assert since(known(run)) == since(remembered)
    assert since(remembers(run)) == since(remembered)
    assert standing(older.target) == (older.toplevels["first"],) * 3


def test_a_machine_that_was_rolled_back(older: Older) -> None:
    older.place("rolled-back")
    remembered = older.remembered()
    run = older.deploy("first")
    # The record of the machine lacks what became of the second.
    assert run.of(PLAN)["machines"]["target"]["does"] == "write the record"
    assert gists(known(run)) == [(older.toplevels["second"], 2, True), *gists(remembered)]
    assert {**known(run), "activations": []} == {**remembered, "activations": []}
    assert standing(older.target) == (older.toplevels["first"],) * 3


def test_two_deployments_of_one_machine(older: Older) -> None:
    older.place("two-deployments")
    older.place_project(older.project, "two-deployments/facts.tree", "two-deployments/project.tree")
    define(older.project, older.target, FIRST, "beside")
    remembered, others = older.remembered(), older.remembered(BESIDE, "beside")
    run = older.deploy("first")
    assert not run.changed, run.output
    assert known(run) == remembered
    assert f"this machine belongs to the deployment {BESIDE} too" in run.lines("target")
    beside = older.play("nix.ops.info", "--flush-cache", source="beside.network.yml")
    assert since(known(beside)) == since(others)


def test_a_boot_entry_that_was_not_written(older: Older) -> None:
    older.place("unfinished", running="second", boots="first", profile="second")
    first, second = older.toplevels["first"], older.toplevels["second"]
    remembered = older.remembered()
    assert standing(older.target) == (second, second, first)
    run = older.deploy("second")
    assert f"the boot entry of {second} was not written yet" in run.output
    assert gists(known(run)) == [(second, 1, False), *gists(remembered)]
    assert standing(older.target) == (second,) * 3
    assert gists(remembers(run)) == [(second, 0, False), (second, 1, False), *gists(remembered)]
    assert remembers(run)["inputs"] == remembered["inputs"]


def test_an_activation_at_a_gate(older: Older, tmp_path: Path) -> None:
    older.place("deployed")
    second, target = older.toplevels["second"], older.target
    remembered = older.remembered()
    colleague = Project(tmp_path)
    configure(colleague, older.fleet)
    older.place_project(colleague, "deployed/facts.tree")
    define(colleague, target, NETWORKS["first"])
    close_gate(target)
    try:
        older.start_activation()
        wait_for(lambda: target.run("cat /run/order", check=False).stdout, "it is at the gate")
        older.check_phase("gate")
        define(older.project, target, NETWORKS["second"])
        # Those of an earlier test.
        (older.project.directory / ".results.jsonl").unlink(missing_ok=True)
        joining = older.project.start("ansible-playbook", "-i", "example.network.yml", "nix.ops.deploy")
        seen = read_until(joining, JOINED)
        # Another toplevel is not activated at the same time.
        refused = colleague.play("nix.ops.deploy")
        assert refused.exit_code == 2, refused.output
        assert "another activation is at work on the machine" in refused.of(ACTIVATE)["msg"]
        assert target.run("cat /run/order").stdout == f"begins {second}\n"
    finally:
        open_gate(target)
    joined = older.project.finish(joining, seen)
    assert joined.exit_code == 0, joined.output
    ended(older, joined, remembered)


def test_an_activation_that_waits_to_be_reached(older: Older) -> None:
    older.place("deployed")
    remembered = older.remembered()
    directory = older.start_activation()
    at = ["cat", f"{directory}/step"]
    wait_for(lambda: older.target.run(at, check=False).stdout == "acknowledge\n", "it waits to be reached")
    older.check_phase("acknowledge")
    joined = older.deploy("second")
    assert JOINED in joined.output
    ended(older, joined, remembered)
    again = older.deploy("second")
    assert not again.changed, again.output
    assert known(again) == remembers(joined)


def ended(older: Older, joined: Outcome, remembered: Mapping[str, Any]) -> None:
    """An activation of the older version was followed to its end, once, with the right result."""
    target, second = older.target, older.toplevels["second"]
    answer = joined.of(ACTIVATE)
    assert (answer["exit_code"], answer["rolled_back"], answer["running"]) == (0, False, second)
    assert answer["acknowledged"] == {"address": target.address, "port": 22}
    assert standing(target) == (second,) * 3
    assert target.run("cat /run/order").stdout == f"begins {second}\nends {second}\n"
    assert target.run(f"ls -d /{ATTEMPTS}", check=False).stdout == ""
    assert gists(remembers(joined)) == [(second, 0, False), *gists(remembered)]
    assert remembers(joined)["inputs"] == remembered["inputs"]
    assert remembers(joined)["members"] == remembered["members"]
    assert target.ssh("true").returncode == 0


def on_trial(older: Older) -> dict[str, Any]:
    """Boot the new system with the boot guard of the older version; :returns: what is remembered."""
    older.place("on-trial", boots="second", profile="second")
    older.target.reboot()
    trial = ["sed", "-n", "2p", f"/{STATE}/trial"]
    wait_for(lambda: older.target.run(trial).stdout, "its boot guard is at work")
    now = trees.unpack(archive(older.target, STATE), older.values(BOOT=boot_id(older.target)))
    assert now == older.text("on-trial/machine.tree")
    assert older.target.run(["systemctl", "is-active", GUARD]).stdout == "active\n"
    return older.remembered()


def test_an_old_boot_guard_keeps_what_is_acknowledged(older: Older) -> None:
    remembered = on_trial(older)
    target, second = older.target, older.toplevels["second"]
    booted = boot_id(target)
    run = older.deploy("second")
    assert "it has booted this system for the first time, and waits to be reached" in run.output
    wait_for(lambda: target.run(["systemctl", "is-active", GUARD], check=False).stdout == "inactive\n", "it is over")
    assert target.run(["test", "-e", f"/{STATE}/trial"], check=False).returncode == 1
    assert (*standing(target), boot_id(target)) == (second, second, second, booted)
    assert gists(known(run)) == [(second, 0, False), *gists(remembered)]
    assert known(run)["inputs"] == remembered["inputs"]
    assert remembers(run) == known(run)


def test_an_old_boot_guard_boots_back(older: Older) -> None:
    remembered = on_trial(older)
    target, first, second = older.target, older.toplevels["first"], older.toplevels["second"]
    boots = boots_of(target)
    checks = '{"deploy_health_checks": {"commands": ["false"], "deadline": 1}}'
    run = older.deploy("second", "-e", checks, exit_code=2)
    assert "its health checks failed after the reboot" in run.of(ACTIVATE)["msg"]
    wait_for(lambda: boots_of(target) == boots + 1, "it has booted back", 60)
    target.wait_up()
    assert standing(target) == (first,) * 3
    again = older.deploy("first")
    # No run has recorded how the second one ended.
    assert again.of(PLAN)["machines"]["target"]["does"] == "write the record"
    assert gists(known(again)) == [(second, 0, True), *gists(remembered)]
    assert known(again)["inputs"] == remembered["inputs"]


def test_a_system_with_an_old_boot_guard_boots_back(older: Older) -> None:
    """As where a generation of the older version is deployed again."""
    older.place("deployed")
    target, first, second = older.target, older.toplevels["first"], older.toplevels["second"]
    older.target.reboot()
    boots, remembered = boots_of(target), older.remembered()
    once_booted = "test $(readlink -f /run/booted-system) != $(readlink -f /run/current-system)"
    checks = json.dumps({"deploy_health_checks": {"commands": [once_booted], "deadline": 1}})
    run = older.deploy("second", "-e", checks, "-e", "deploy_reboot=when_needed", exit_code=2)
    assert "its health checks failed after the reboot" in run.of(ACTIVATE)["msg"]
    assert run.of(ACTIVATE)["rolled_back"]
    assert (*standing(target), boots_of(target)) == (first, first, first, boots + 2)
    again = older.deploy("first")
    assert again.statuses(ACTIVATE) == {}
    assert gists(known(again)) == [(second, 0, True), *gists(remembered)]
    kept = target.run(f"find /{STATE} {KEPT} -type f -name 'trial*'", check=False).stdout
    assert kept == ""
