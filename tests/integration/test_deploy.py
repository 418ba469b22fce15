# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job: from a network to a running machine, and what a user can say about how."""

from __future__ import annotations

import json
import textwrap

import pytest

from fleet import Machine
from integration.conftest import Deployed, MachineFactory
from integration.networks import (
    ACTIVATE,
    BUILD,
    CHECK,
    COPY,
    INFO,
    OUTCOME,
    PLAN,
    Counter,
    Network,
    import_deploy,
    main_pids,
    standing,
    toplevels,
)
from integration.outside import COPIED
from integration.project import Project

ALONE = """
  imports = [ ({ name, deploymentName, ... }: {
    services.openssh.enable = true;
    environment.etc.told.text = "${name} of ${deploymentName}";
  }) ];
"""

ARGUMENTS = """
{ address, ports, word }:
{
  target = { name, deploymentName, ... }: {
    deployment.targetHost = address;
    services.openssh = { enable = true; inherit ports; };
    environment.etc.told.text = "${name} of ${deploymentName} knows ${word}";
  };
}
"""

NEW_UNIT = """
  systemd.services.three = { wantedBy = [ "multi-user.target" ]; script = "exec sleep infinity"; };
  systemd.services.two.enable = false;
"""


@pytest.fixture
def target(machine: MachineFactory) -> Machine:
    """A fresh machine."""
    return machine("target")


@pytest.mark.both_pairs
def test_the_main_job(target: Machine, project: Project) -> None:
    network = Network(project, target)
    first = network.deployed()
    toplevel = toplevels(first)["target"]
    assert first.of(ACTIVATE)["toplevel"] == toplevel
    assert standing(target) == (toplevel, toplevel, toplevel)
    assert target.inspect()["leftovers"] == [COPIED]

    again = network.deployed()
    assert not again.changed
    assert "changed=0 " in again.output

    # Only the unit that was changed is restarted.
    pids = main_pids(target, "one", "two", "sshd")
    network.define(one="uno")
    second = network.deployed()
    assert second.of(ACTIVATE)["units"]["restarted"] == ["one.service"]
    assert second.of(ACTIVATE)["old_toplevel"] == toplevel
    now = main_pids(target, "one", "two", "sshd")
    assert now["one"] not in ("0", pids["one"])
    assert (now["two"], now["sshd"]) == (pids["two"], pids["sshd"])

    # A unit that is new is started, one that is gone is stopped, the others are left alone.
    network.define(NEW_UNIT, one="uno")
    third = network.deployed()
    assert third.of(ACTIVATE)["units"]["started"] == ["three.service"]
    assert third.of(ACTIVATE)["units"]["stopped"] == ["two.service"]
    last = main_pids(target, "one", "two", "three", "sshd")
    assert (last["one"], last["two"], last["sshd"]) == (now["one"], "0", now["sshd"])
    assert last["three"] != "0"
    assert target.inspect()["generation"] == 4


@pytest.mark.both_pairs
def test_nothing_to_do_is_one_evaluation_and_one_round_trip_a_machine(
    machine: MachineFactory, project: Project
) -> None:
    machines = [machine("target"), machine("beta")]
    network = Network(project, *machines)
    ssh, evaluations = Counter(project, "ssh"), Counter(project, "nix-instantiate")
    network.deployed()
    # Before the machines are asked, and with what they answered.
    assert len(evaluations.runs()) == 2
    assert ssh.runs()
    before = [one.inspect() for one in machines]

    again = network.deployed()
    assert len(evaluations.runs()) <= 1
    # With -G, ssh only prints its configuration.
    trips = [words for words in ssh.runs() if " -G " not in words]
    for one in machines:
        assert len([words for words in trips if f" {one.address} " in f"{words} "]) == 1
    assert again.statuses(COPY) == {}
    assert again.statuses(ACTIVATE) == {}
    assert [one.inspect() for one in machines] == before

    # The same where the evaluations of earlier runs are forgotten, and the fact cache is.
    flushed = network.deployed("--flush-cache")
    assert not flushed.changed
    assert len(evaluations.runs()) == 1

    # What changed is evaluated once.
    network.define(one="uno")
    network.deployed()
    assert len(evaluations.runs()) == 1

    # Reports evaluate what changed once, and a list, an inventory and keys no system: its evaluation would fail.
    network.define(one="due", beta='environment.etc.wrong.source = throw "beta is wrong";')
    for playbook in ("nix.ops.list", "nix.ops.send_keys"):
        assert "beta is wrong" not in network.deployed(playbook=playbook).output
    assert project.run("ansible-inventory", "-i", "example.network.yml", "--list").exit_code == 0
    assert len(evaluations.runs()) == 1
    network.define(one="due")
    ssh.runs()
    network.deployed(playbook="nix.ops.info")
    assert len(evaluations.runs()) == 1
    assert len([words for words in ssh.runs() if " -G " not in words]) == len(machines)
    for playbook in ("nix.ops.info", "nix.ops.list"):
        network.deployed(playbook=playbook)
        assert evaluations.runs() == []


def test_preview_touches_nothing_and_tells_what_differs(deployed: Deployed) -> None:
    network = deployed("target")
    [target] = network.machines
    before = target.inspect()
    network.define(
        'environment.systemPackages = [ pkgs.cowsay ]; environment.etc.nice.text = "";' + NEW_UNIT, one="uno"
    )
    preview = network.deployed("--check", "--diff")
    assert target.inspect() == before
    wanted = {
        "cowsay: ∅ → ",
        "unit one.service: changed",
        "unit two.service: gone",
        "unit three.service: new",
        "/etc/nice: new",
    }
    assert [line for line in wanted if line not in preview.output] == []
    assert target.run(["test", "-e", toplevels(preview)["target"]], check=False).returncode == 1

    done = network.deployed("--diff")
    assert [line for line in wanted if line not in done.output] == []
    assert standing(target)[0] == toplevels(done)["target"] == toplevels(preview)["target"]


def test_tags_end_the_deployment_early(target: Machine, project: Project) -> None:
    network = Network(project, target)
    before = target.inspect()
    ssh = Counter(project, "ssh")
    built = network.deployed("--tags", "build")
    assert ssh.runs() == []
    assert [one.task for one in built.results if one.status != "skipped"] == [CHECK, BUILD]
    assert project.roots("target") == {toplevels(built)["target"]}
    assert not (project.directory / ".nix-ops").exists()

    project.write("site.yml", json.dumps([{"import_playbook": "nix.ops.deploy", "tags": ["site"]}]))
    tagged = network.deployed("--check", "--tags", "site", playbook="site.yml")
    assert tagged.of(PLAN)["machines"]["target"]["does"] == "copy, switch"

    copied = network.deployed("--tags", "copy")
    toplevel = toplevels(copied)["target"]
    assert copied.of(PLAN)["machines"]["target"]["does"] == "copy, without its activation"
    assert copied.of(OUTCOME)["machines"] == {"target": "not activated"}
    assert toplevel in copied.of(COPY)["paths"]
    assert [one.task for one in copied.results if one.status != "skipped"] == [CHECK, INFO, BUILD, PLAN, COPY, OUTCOME]
    now = target.inspect()
    assert now.pop("leftovers") == [COPIED]
    before.pop("leftovers")
    assert now == before

    activated = network.deployed("--tags", "activate")
    assert activated.statuses(COPY) == {"target": "ok"}
    assert activated.statuses(ACTIVATE) == {"target": "changed"}
    assert standing(target) == (toplevel, toplevel, toplevel)


def test_a_step_that_is_skipped_takes_no_other_with_it(target: Machine, project: Project) -> None:
    network = Network(project, target)
    before = standing(target)
    ssh = Counter(project, "ssh")
    for skipped in ("build", "build,copy,activate"):
        unbuilt = network.deploy("--skip-tags", skipped)
        assert unbuilt.exit_code == 2
        assert "Leave build out of --skip-tags" in unbuilt.of(CHECK)["msg"]
    assert set(toplevels(network.deployed("--skip-tags", "copy,activate"))) == {"target"}
    assert ssh.runs() == []

    absent = network.deploy("--skip-tags", "copy")
    assert absent.exit_code == 2
    assert "not a NixOS system in this machine's store" in absent.of(ACTIVATE)["msg"]
    assert "Next: Bring it there first" in absent.of(ACTIVATE)["msg"]
    assert standing(target) == before

    copied = network.deployed("--skip-tags", "activate")
    assert [one.task for one in copied.results if one.status != "skipped"] == [CHECK, INFO, BUILD, PLAN, COPY, OUTCOME]
    assert standing(target) == before

    activated = network.deployed("--skip-tags", "copy")
    assert activated.of(PLAN)["machines"]["target"]["does"] == "switch"
    assert activated.statuses(COPY) == {}
    assert standing(target) == (toplevels(activated)["target"],) * 3


def test_a_users_own_playbook_chooses_the_action(target: Machine, project: Project) -> None:
    network = Network(project, target)
    old = standing(target)[0]
    # As a variable of the group, beside the inventory.
    project.write("group_vars/nixos.yml", "deploy_action: dry-activate\n")
    dry = network.deployed()
    new = toplevels(dry)["target"]
    assert "target> would activate the configuration..." in dry.output
    assert dry.statuses(ACTIVATE) == {"target": "ok"}
    assert "dry activation finished; nothing was activated" in dry.lines("target")
    assert standing(target) == (old, old, old)
    (project.directory / "group_vars" / "nixos.yml").unlink()

    tested = network.deployed(playbook=import_deploy(project, deploy_action="test"))
    assert tested.statuses(ACTIVATE) == {"target": "changed"}
    assert "test activation finished; the machine still boots what it booted before" in tested.lines("target")
    assert standing(target) == (new, old, old)
    assert not network.deployed(playbook="deploy.yml").changed

    network.define(one="uno")
    booting = network.deployed(playbook=import_deploy(project, deploy_action="boot"))
    assert "deployment finished successfully" in booting.lines("target")
    newest = toplevels(booting)["target"]
    assert standing(target) == (new, newest, newest)
    assert not network.deployed(playbook="deploy.yml").changed

    # A plain switch brings both together.
    assert network.deployed().of(ACTIVATE)["units"]["restarted"] == ["one.service"]
    assert standing(target) == (newest, newest, newest)


def test_always_activate_is_honoured_where_the_network_says_so(deployed: Deployed) -> None:
    # Whether it is honoured is no part of a system.
    network = deployed("target")
    [target] = network.machines
    network.define("deployment.alwaysActivate = true;")
    before = target.inspect()
    again = network.deployed()
    # It runs, and has nothing to change.
    assert again.statuses(ACTIVATE) == {"target": "ok"}
    assert again.of(ACTIVATE)["units"]["restarted"] == []
    assert {**target.inspect(), "leftovers": []} == {**before, "leftovers": []}
    assert "target> activating the configuration..." in again.output


def test_a_network_that_is_one_file(target: Machine, project: Project) -> None:
    project.environment["ANSIBLE_INVENTORY_ENABLED"] = "nix.ops.network"
    project.write("site.nix", f'{{ target = {{ deployment.targetHost = "{target.address}"; {ALONE} }}; }}')
    done = project.play("-i", "site.nix", "nix.ops.deploy")
    assert done.exit_code == 0, done.output
    assert standing(target) == (toplevels(done)["target"],) * 3
    assert target.run(["cat", "/etc/told"]).stdout == "target of site"


@pytest.mark.both_pairs
def test_a_network_of_arguments_one_of_them_in_a_vault(target: Machine, project: Project) -> None:
    project.write("password", "opens the vault\n")
    vault = ("--vault-password-file", "password")
    secret = project.run("ansible-vault", "encrypt_string", *vault, "--name", "word", 'it\'s a "secret"')
    assert secret.exit_code == 0, secret.output
    project.write("site.nix", ARGUMENTS)
    arguments = f"arguments:\n  address: {target.address}\n  ports: [22]\n" + textwrap.indent(
        secret.output.partition("Encryption successful")[0], "  "
    )
    project.write("example.network.yml", f"plugin: nix.ops.network\nfiles: [site.nix]\n{arguments}")
    done = project.play("-i", "example.network.yml", "nix.ops.deploy", *vault)
    assert done.exit_code == 0, done.output
    assert target.run(["cat", "/etc/told"]).stdout == 'target of example knows it\'s a "secret"'
    assert not project.play("-i", "example.network.yml", "nix.ops.deploy", *vault).changed

    # Where another process has read the network, as where an inventory is kept in a database.
    export = ("--list", "--export", "--output", "kept.json")
    assert project.run("ansible-inventory", "-i", "example.network.yml", *export, *vault).exit_code == 0
    script = project.write("kept", "#!/bin/sh\ncat kept.json\n")
    script.chmod(0o755)
    kept = project.play("-i", "kept", "nix.ops.deploy", *vault)
    assert kept.exit_code == 0, kept.output
    assert toplevels(kept) == toplevels(done)
    locked = project.play("-i", "kept", "nix.ops.deploy")
    assert locked.exit_code == 2
    assert "vault" in locked.of(BUILD)["results"][0]["msg"]
