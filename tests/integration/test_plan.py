# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a rollout: what is refused before anything is touched, what a deploy will do, and what became of it."""

from __future__ import annotations

import json
import subprocess

from integration.conftest import MachineFactory
from integration.networks import ACTIVATE, BUILD, CHECK, COPY, INFO, OUTCOME, PLAN, Network, standing, toplevels
from integration.project import Project


def test_a_machine_that_needs_nothing_costs_no_task(machine: MachineFactory, project: Project) -> None:
    machines = {name: machine(name) for name in ("alpha", "beta")}
    network = Network(project, *machines.values())
    before = {name: standing(one) for name, one in machines.items()}
    preview = network.deployed("--check")
    assert preview.of(PLAN)["machines"]["alpha"]["does"] == "copy, switch"
    assert "| alpha   |" in preview.output and "| copy, switch |" in preview.output
    assert preview.statuses(COPY) == preview.statuses(ACTIVATE) == {}
    assert {name: standing(one) for name, one in machines.items()} == before

    first = network.deployed()
    assert first.statuses(ACTIVATE) == dict.fromkeys(machines, "changed")
    new = toplevels(first)
    assert first.of(OUTCOME)["machines"] == {name: f"runs and boots {new[name]}, generation 2" for name in machines}
    again = network.deployed()
    assert not again.changed
    assert again.of(PLAN)["rollout"] == []
    assert again.statuses(COPY) == again.statuses(ACTIVATE) == {}
    assert again.of(OUTCOME)["machines"] == dict.fromkeys(machines, "up to date")
    assert "no hosts matched" not in again.output

    network.define(beta='environment.etc.note.text = "beta alone";')
    one = network.deployed("-e", "deploy_action=boot", "-e", "deploy_serial=50%")
    assert one.of(PLAN)["machines"]["beta"]["does"] == "copy, boot"
    assert one.statuses(ACTIVATE) == {"beta": "changed"}
    # What was built for another machine is no change of the machine that the task is of.
    assert one.statuses(BUILD) == {"alpha": "ok"}
    waiting = network.deployed("-e", "deploy_action=boot")
    assert waiting.of(OUTCOME)["machines"] == {
        "alpha": "up to date",
        "beta": f"up to date; runs {new['beta']} until it reboots",
    }
    wrong = network.deploy("-e", "deploy_acton=boot", "-e", "deploy_reboot=sometimes", "-e", "deploy_machines=nobody")
    assert wrong.exit_code == 2
    assert wrong.of(CHECK)["msg"].startswith("nobody: not a machine and not a group of the inventory (deploy_machines)")
    wrong = network.deploy("-e", "deploy_acton=boot", "-e", "deploy_reboot=sometimes")
    assert "deploy_acton is not a variable of a deploy; did you mean deploy_action?" in wrong.of(CHECK)["msg"]
    assert "deploy_reboot is sometimes, and has to be one of never, when_needed, always." in wrong.of(CHECK)["msg"]


def test_a_playbook_that_deploys_twice(machine: MachineFactory, project: Project) -> None:
    machines = {name: machine(name) for name in ("alpha", "beta")}
    network = Network(project, *machines.values())
    action = "{{ 'boot' if inventory_hostname == 'alpha' else 'unknown' }}"
    plays = [
        {"import_playbook": "nix.ops.deploy", "vars": {"deploy_machines": "alpha", "deploy_action": action}},
        {"import_playbook": "nix.ops.deploy", "vars": {"deploy_machines": ["beta", "alpha"]}},
    ]
    project.write("site.yml", json.dumps(plays))
    done = network.deployed(playbook="site.yml")
    activated = [(one.host, one.result["action"]) for one in done.results if one.task == ACTIVATE]
    assert activated[0] == ("alpha", "boot")
    assert sorted(activated[1:]) == [("alpha", "switch"), ("beta", "switch")]
    new = toplevels(network.deployed())
    assert {name: standing(one) for name, one in machines.items()} == {name: (new[name],) * 3 for name in machines}


def test_the_other_deployments_of_a_machine_are_in_the_plan(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    first = Network(project, target).deployed()
    assert (first.of(INFO)["owners"], first.of(PLAN)["machines"]["target"]["other_deployments"]) == ([], [])
    uuid = first.of(INFO)["state"]["uuid"]
    beside = Network(project, target, name="beside")
    for words in (["--check"], []):
        refused = beside.deploy(*words)
        assert refused.statuses(INFO) == {"target": "failed"}
        message = refused.of(INFO)["msg"]
        assert f" belongs to the deployment {uuid}\nState: nothing was touched\nNext: " in message
        assert "-e deploy_take_over=true" in message
    assert standing(target) == (toplevels(first)["target"],) * 3
    taken = beside.deployed("--check", "-e", "deploy_take_over=true")
    assert taken.of(INFO)["owners"] == [uuid]
    assert taken.of(PLAN)["machines"]["target"]["other_deployments"] == [uuid]
    told = f"this machine belongs to the deployment {uuid} too"
    assert told in taken.lines("target")
    again = Network(project, target).deployed("--check")
    assert (again.of(INFO)["owners"], again.of(PLAN)["machines"]["target"]["other_deployments"]) == ([uuid], [])
    assert told not in again.output


def test_an_older_checkout_is_refused(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    network = Network(project, target)

    def git(*words: str) -> None:
        person = ("-c", "user.name=Alice", "-c", "user.email=alice@example.org")
        subprocess.run(["git", *person, "-C", str(project.directory), *words], check=True, capture_output=True)

    git("init", "--quiet", "--initial-branch=main")
    git("add", ".")
    git("commit", "--quiet", "--message=one")
    network.define(one="uno")
    git("commit", "--quiet", "--all", "--message=two")
    first = network.deployed()
    newest = first.of(INFO)["checkout"]["revision"]
    assert f"revision {newest[:8]}\n" in first.output
    git("switch", "--quiet", "--detach", "HEAD~1")
    refused = network.deploy()
    assert refused.statuses(INFO) == {"target": "failed"}
    assert f"target: the machine was deployed from a later revision, {newest[:8]} by " in refused.of(INFO)["msg"]
    assert standing(target) == (toplevels(first)["target"],) * 3
    older = network.deployed("-e", "deploy_older=true")
    assert f"| {newest[:8]} by " in older.output
    assert standing(target) == (toplevels(older)["target"],) * 3
    git("switch", "--quiet", "main")
    assert toplevels(network.deployed()) == toplevels(first)
