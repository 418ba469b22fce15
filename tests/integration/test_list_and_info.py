# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nix.ops.list and nix.ops.info, of live machines through the life of a deployment."""

from __future__ import annotations

import json
import re

import pytest

from integration.networks import Counter, Network, toplevels
from integration.outside import untouched
from integration.tasks import build_system, put

LIST = "List the deployments"
INFO = "Report the status of the deployments"
ASK = "Ask what the machine runs"


def listed(network, *words):
    """List the deployments; nothing is changed."""
    outcome = network.project.play("-i", f"{network.name}.network.yml", "nix.ops.list", *words)
    assert outcome.exit_code == 0, outcome.output
    assert not outcome.changed
    return outcome


def told(network, *words):
    """Tell how a network's only deployment stands; no machine is touched."""
    with untouched(*network.machines):
        outcome = network.project.play("-i", f"{network.name}.network.yml", "nix.ops.info", *words, timeout=180)
    assert outcome.exit_code == 0, outcome.output
    assert not outcome.changed
    return outcome


def rows(outcome):
    """The rows of the tables that a run showed, each as its cells; the first is the head."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in outcome.output.splitlines()
        if re.match(r"\|.*\|$", line)
    ]


def machines(outcome):
    """For each machine what is told of it, as data."""
    [deployment] = outcome.of(INFO)["deployments"]
    return {one["name"]: one for one in deployment["machines"]}


def statuses(outcome):
    return {name: one["status"] for name, one in machines(outcome).items()}


@pytest.mark.both_pairs
def test_list_before_and_after_the_first_deployment(machine, project):
    target = machine("target")
    network = Network(project, target)
    described = f'{{ network.description = "A first network"; target.deployment.targetHost = "{target.address}"; }}'
    project.write("example-target.nix", described)
    project.write("another.network.yml", "plugin: nix.ops.network\nfiles: [another.nix]\n")
    project.write("another.nix", '{ network.description = "Elsewhere"; x.deployment.targetHost = "x.example.org"; }')
    ssh = Counter(project, "ssh")
    before = listed(network)
    assert [row[1:] for row in rows(before)] == [
        ["Name", "Description", "# Machines", "Type"],
        ["another", "Elsewhere", "0", ""],
        ["example", "A first network", "0", ""],
    ]
    # A machine that was only asked has not been deployed.
    assert "state version" not in told(network).output
    assert rows(listed(network))[2][3:] == ["0", ""]
    ssh.runs()
    # What was only asked decides nothing.
    assert "setting state version to 24.05" in network.deployed().output
    ssh.runs()
    after = listed(network, "--limit", "target", "-e", "list_format=json", "-e", "list_file=out.json")
    assert not ssh.runs()
    [another, example] = after.of(LIST)["deployments"]
    assert (example["machines"], example["type"]) == (1, "none")
    assert (another["machines"], another["path"]) == (0, str(project.directory / "another.network.yml"))
    assert json.loads((project.directory / "out.json").read_text()) == [another, example]
    assert '"name": "example"' in after.output


def test_list_counts_by_host_names_and_those_that_left(deployed):
    hostname = 'hostname: "{{ nix_machine }}.lan"'
    network = deployed("one", "two", source=hostname)
    project, one = network.project, network.machines[0]
    [example] = listed(network).of(LIST)["deployments"]
    assert example["machines"] == 2
    Network(project, one, source=hostname)
    [example] = listed(network).of(LIST)["deployments"]
    assert example["machines"] == 2


@pytest.mark.both_pairs
def test_list_tells_what_does_not_evaluate(machine, project):
    network = Network(project, machine("target"))
    project.write(
        "broken.network.yml", "plugin: nix.ops.network\nuuid: 9e8652aa-e64a-11f1-b7ab-02fc00000001\nfiles: [b.nix]\n"
    )
    project.write("b.nix", "{\n  a = { b = nope; };\n}\n")
    project.write("unread.network.yml", "plugin: [")
    outcome = listed(network)
    assert [row[1] for row in rows(outcome)] == ["Name", "broken", "example", "unread"]
    assert rows(outcome)[1][0] == "9e8652aa-e64a-11f1-b7ab-02fc00000001"
    assert "undefined variable 'nope'" in outcome.output
    assert "b.nix:2:13" in outcome.output
    assert "unread.network.yml" in outcome.output


def test_list_with_a_cache_that_forgets(fleet, machine, project):
    network = Network(project, machine("target"))
    project.configure(fleet.directory / "ssh_config", fact_caching="memory")
    outcome = listed(network)
    assert rows(outcome)[1][3:] == ["0", ""]
    assert "facts are kept in memory alone" in outcome.output


def test_list_without_an_inventory(project):
    outcome = project.play("nix.ops.list")
    assert outcome.exit_code == 0, outcome.output
    assert rows(outcome) == [["UUID", "Name", "Description", "# Machines", "Type"]]


def test_info_through_the_life_of_a_machine(machine, project):
    target = machine("target")
    network = Network(project, target, source="arguments: {password: hunter2}\nnix_path: [x=x.nix]")
    physical = (project.directory / "example-target.nix").read_text()
    project.write("example-target.nix", f"{{ password }}: {physical}")
    new = told(network)
    assert statuses(new) == {"target": "New"}
    for line in ("Network name: example", "Nix arguments: password", f"Nix path: -I x={project.directory}/x.nix"):
        assert line in new.output.splitlines()
    assert "hunter2" not in new.output
    assert rows(new)[0] == ["Name", "Status", "Type", "Address", "Runs", "Last deploy"]
    assert rows(new)[1][1:4] == ["New", "none", target.address]

    built = toplevels(network.deployed())
    done = told(network)
    found = machines(done)["target"]
    assert (found["status"], found["running"], found["wanted"]) == ("Up-to-date", built["target"], built["target"])
    assert found["last"].keys() >= {"toplevel", "action", "generation", "exit_code", "time", "rolled_back"}
    assert (found["last"]["toplevel"], found["last"]["exit_code"], found["generation"]) == (built["target"], 0, 2)
    assert (found["failed_units"], found["reboot_needed"], found["reachable"]) == ([], False, True)
    _name, status, _type, _address, runs, last = rows(done)[1]
    assert status == "Up-to-date"
    assert re.fullmatch(r"24\.05\S*, generation 2", runs)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", last)

    network.define(one="uno")
    assert statuses(told(network)) == {"target": "Outdated"}
    network.define()
    other = build_system(project)
    put(target, other)
    target.run([f"{other}/bin/switch-to-configuration", "test"])
    assert statuses(told(network)) == {"target": "Drifted"}
    # A job that watches for it turns red, and has shown all the same what there is.
    red = network.project.play(
        "-i", f"{network.name}.network.yml", "nix.ops.info", "-e", "info_fail_on=Outdated,Drifted"
    )
    assert red.exit_code == 2
    assert "example: target is Drifted." in red.of(INFO)["msg"]
    assert statuses(red) == {"target": "Drifted"}
    assert statuses(told(network, "-e", "info_fail_on=Outdated,unreachable")) == {"target": "Drifted"}
    # What is remembered alone knows nothing of that.
    remembered = told(network, "-e", "info_ask=false")
    assert statuses(remembered) == {"target": "Up-to-date"}
    assert rows(remembered)[1][4] == "not asked"


def test_info_of_a_failed_deployment(machine, project):
    network = Network(project, machine("target"))
    network.define('systemd.services.bad = { wantedBy = [ "multi-user.target" ]; script = "exit 1"; };')
    assert network.deploy("-e", "deploy_failed_units=fail").exit_code != 0
    outcome = told(network)
    found = machines(outcome)["target"]
    assert (found["failed_units"], found["last"]["exit_code"]) == (["bad.service"], 4)
    assert rows(outcome)[1][5].endswith("exit code 4")
    assert "target: failed units: bad.service." in outcome.output.splitlines()


def test_info_where_no_machine_answers(deployed):
    network = deployed("one", "two")
    project, one = network.project, network.machines[0]
    project.environment["ANSIBLE_TIMEOUT"] = "2"
    one.link_down()
    try:
        some = told(network, "-e", "info_format=json", "-e", "info_file=out.json")
        assert {name: found["reachable"] for name, found in machines(some).items()} == {"one": False, "two": True}
        assert json.loads((project.directory / "out.json").read_text()) == some.of(INFO)["deployments"]
        red = network.project.play(
            "-i", f"{network.name}.network.yml", "nix.ops.info", "-e", "info_fail_on=unreachable", "--limit", "one"
        )
        assert red.exit_code == 2
        assert "example: one is unreachable." in red.of(INFO)["msg"]
        none = told(network, "--limit", "one")
        assert statuses(none) == {"one": "Up-to-date", "two": "Up-to-date"}
        assert [row[4] for row in rows(none)[1:]] == ["unreachable", "not asked"]
    finally:
        one.link_up()
    # Who is not asked for turns no run red.
    network.define(two='environment.etc.note.text = "new";')
    words = ("-e", "info_fail_on=Outdated", "--limit")
    assert statuses(told(network, *words, "one")) == {"one": "Up-to-date", "two": "Outdated"}
    assert network.project.play("-i", f"{network.name}.network.yml", "nix.ops.info", *words, "two").exit_code == 2


def test_info_of_a_machine_that_left(deployed):
    both = deployed("one", "two")
    project = both.project
    network = Network(project, both.machines[0])
    assert statuses(told(network)) == {"one": "Up-to-date", "two": "Obsolete"}
    looked = network.deploy("--check", "-e", "deploy_kill_obsolete=true")
    assert "two> has left the network, and would be forgotten" in looked.output
    assert statuses(told(network)) == {"one": "Up-to-date", "two": "Obsolete"}
    killed = network.deployed("-e", "deploy_kill_obsolete=true")
    assert "two> has left the network, and is forgotten; the machine itself stays as it is" in killed.output
    assert not network.deployed("-e", "deploy_kill_obsolete=true").changed
    assert list(statuses(told(network))) == ["one"]


def test_info_of_a_machine_that_only_another_remembers(deployed):
    both = deployed("one", "two")
    project = both.project
    network = Network(project, both.machines[0])
    # What only a machine says of others is told as such, and is no row.
    for fact in project.facts.glob("*"):
        fact.unlink()
    outcome = told(network)
    assert list(statuses(outcome)) == ["one"]
    assert "two was a machine of this deployment, says what is remembered of one." in outcome.output.splitlines()


@pytest.mark.both_pairs
def test_info_where_one_system_does_not_evaluate(machine, project):
    one, two = machine("one"), machine("two")
    network = Network(project, one, two)
    network.define(two="environment.etc.x.text = throw ''broken on purpose'';")
    outcome = told(network)
    assert statuses(outcome) == {"one": "New", "two": None}
    assert rows(outcome)[2][1] == "does not evaluate"
    assert "broken on purpose" in outcome.output


def test_info_in_check_mode(deployed):
    network = deployed("target")
    assert machines(told(network, "--check")) == machines(told(network))


def test_info_with_a_cache_that_forgets(fleet, deployed):
    network = deployed("target")
    network.project.configure(fleet.directory / "ssh_config", fact_caching="memory")
    # To look needs no cache: the machine's own record is asked.
    outcome = told(network)
    assert statuses(outcome) == {"target": "Up-to-date"}


def test_info_without_a_network(project):
    outcome = project.play("nix.ops.info")
    assert outcome.exit_code == 2
    assert "the inventory has no machine of a network" in outcome.of(INFO)["msg"]


@pytest.mark.both_pairs
def test_several_deployments(machine, project):
    one, two = machine("one"), machine("two")
    Network(project, one, name="first")
    Network(project, two, name="second")
    outcome = project.play("-i", "first.network.yml", "-i", "second.network.yml", "nix.ops.info")
    assert outcome.exit_code == 0, outcome.output
    assert [one["name"] for one in outcome.of(INFO)["deployments"]] == ["first", "second"]
    assert [row[0] for row in rows(outcome)] == ["Name", "one", "Name", "two"]
    only = project.play("-i", "first.network.yml", "-i", "second.network.yml", "nix.ops.info", "--limit", "two")
    assert [one["name"] for one in only.of(INFO)["deployments"]] == ["second"]
