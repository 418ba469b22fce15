# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles in plays of a user's own: whatever keywords such a play has, they do what Ansible says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import Machine
from integration.conftest import MachineFactory
from integration.networks import ACTIVATE, BUILD, COPY, INFO, Counter, Network, standing, toplevels
from integration.outside import untouched
from integration.project import Outcome, Project
from integration.tasks import build_system, has_path

ROLES = Path(__file__).parents[2] / "roles"
NAMES = sorted(role.name for role in ROLES.iterdir())
BROKEN = 'system.activationScripts.broken = "echo this machine is broken; exit 3";'


def play(network: Network, *words: str, **keywords: Any) -> Outcome:
    """Run a play of a user's own with these keywords; what it does, unless they say, is the role deploy."""
    plays = [{"hosts": "nixos", "gather_facts": False, "roles": ["nix.ops.deploy"], **keywords}]
    network.project.write("site.yml", json.dumps(plays))
    return network.deploy(*words, playbook="site.yml")


def played(network: Network, *words: str, **keywords: Any) -> Outcome:
    """Run such a play; it has to succeed."""
    outcome = play(network, *words, **keywords)
    assert outcome.exit_code == 0, outcome.output
    return outcome


def stages(outcome: Outcome) -> list[tuple[str, str]]:
    """Which stage of the deployment ran for which host, in the order in which they ended."""
    return [(one.host, one.task) for one in outcome.results if one.task in (INFO, BUILD, COPY, ACTIVATE)]


def all_built(outcome: Outcome) -> dict[str, str]:
    """For each machine the toplevel that its own task built."""
    built = [one.result["results"] for one in outcome.results if one.task == BUILD]
    return {name: one["out_path"] for [result] in built for name, one in result["machines"].items()}


@pytest.fixture
def target(machine: MachineFactory) -> Machine:
    """A fresh machine."""
    return machine("target")


@pytest.fixture
def two(machine: MachineFactory) -> list[Machine]:
    """Two fresh machines."""
    return [machine("beta"), machine("target")]


def test_one_machine_after_the_other_in_a_linear_play(two: list[Machine], project: Project) -> None:
    network = Network(project, *two)
    with untouched(*two):
        assert play(network, "--check", "--diff", serial=1).changed
    assert not (project.directory / "state/nix.ops/keys").exists(), "no key is made"
    assert not [*project.facts.glob("*")]

    outcome = played(network, serial=1)
    assert stages(outcome) == [(one.name, task) for one in two for task in (INFO, BUILD, COPY, ACTIVATE)]
    assert {one.name: standing(one) for one in two} == {
        name: (toplevel,) * 3 for name, toplevel in all_built(outcome).items()
    }
    assert not played(network, serial=1).changed


@pytest.mark.parametrize("strategy", ["free", "host_pinned"])
def test_no_machine_waits_for_another(strategy: str, two: list[Machine], project: Project) -> None:
    network = Network(project, *two)
    with untouched(two[1]):
        limited = played(network, "--limit", "beta", strategy=strategy)
    assert stages(limited) == [("beta", task) for task in (INFO, BUILD, COPY, ACTIVATE)]

    everyone = played(network, "--forks", "1", strategy=strategy)
    order = [host for host, _task in stages(everyone)]
    assert (order == sorted(order)) == (strategy == "host_pinned"), "one from its first task to its last"
    assert everyone.statuses(ACTIVATE) == {"beta": "ok", "target": "changed"}
    built = all_built(everyone)
    # The system of a machine is the same whoever else is in the run.
    assert built["beta"] == all_built(limited)["beta"]
    assert {one.name: standing(one) for one in two} == {name: (toplevel,) * 3 for name, toplevel in built.items()}


def test_a_machine_that_fails_stops_whom_the_play_says(machine: MachineFactory, project: Project) -> None:
    beta, gamma, target = (machine(name) for name in ("beta", "gamma", "target"))
    network = Network(project, beta, gamma, target)
    network.define(beta='assertions = [ { assertion = false; message = "beta is not ready"; } ];')
    with untouched(beta, gamma, target):
        fatal = play(network, any_errors_fatal=True)
    assert (fatal.exit_code, fatal.statuses(COPY), fatal.statuses(ACTIVATE)) == (2, {}, {})

    network.define(beta=BROKEN)
    with untouched(target):
        careful = play(network, max_fail_percentage=25, serial=2)
    assert (careful.exit_code, careful.statuses(ACTIVATE)) == (2, {"beta": "failed", "gamma": "changed"})

    usual = play(network)
    assert (usual.exit_code, usual.statuses(ACTIVATE)) == (
        2,
        {"beta": "failed", "gamma": "ok", "target": "changed"},
    )
    assert standing(target) == (all_built(usual)["target"],) * 3


@pytest.mark.both_pairs
def test_variables_from_wherever_ansible_takes_them(target: Machine, project: Project) -> None:
    network = Network(project, target)
    first = target.toplevel
    project.write("group_vars/nixos.yml", "deploy_action: dry-activate\n")
    role = {"name": "nix.ops.deploy"}
    outcome = played(
        network,
        roles=["nix.ops.deploy"],
        tasks=[
            {"ansible.builtin.include_role": role, "vars": {"deploy_action": "test"}},
            {"ansible.builtin.raw": "readlink /run/current-system /nix/var/nix/profiles/system", "name": "Look"},
            {"ansible.builtin.import_role": role, "vars": {"deploy_action": "boot", "deploy_force": True}},
        ],
    )
    activations = [(one.result["action"], one.status) for one in outcome.results if one.task == ACTIVATE]
    assert activations == [("dry-activate", "ok"), ("test", "changed"), ("boot", "changed")]
    new = all_built(outcome)["target"]
    looked = outcome.of("Look")["stdout_lines"]
    assert looked[0] == new
    assert standing(target) == (new, new, new) != (first,) * 3


def test_a_system_of_the_users_own_on_a_host_of_no_network(target: Machine, project: Project) -> None:
    # Nothing is remembered of it, so that any fact cache will do.
    project.configure(target.ssh_config, fact_caching="ansible.builtin.memory")
    toplevel = build_system(project, '{ environment.etc.greeting.text = "hello"; }')
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars": {"copy_toplevel": toplevel, "activate_toplevel": toplevel, "activate_action": "test"},
        "roles": ["nix.ops.copy", "nix.ops.activate"],
    }
    project.write("site.yml", json.dumps([play]))
    outcome = project.play("-i", "target,", "site.yml")
    assert outcome.exit_code == 0, outcome.output
    assert standing(target) == (toplevel, target.toplevel, target.toplevel)
    assert target.run(["cat", "/etc/greeting"]).stdout == "hello"
    assert "ansible_facts" not in outcome.of(ACTIVATE)
    assert target.run(["test", "-e", "/nix/var/nix/nix-ops/records"], check=False).returncode == 1
    again = project.play("-i", "target,", "site.yml")
    assert (again.exit_code, again.changed) == (0, False)


def test_tags(target: Machine, project: Project) -> None:
    network = Network(project, target)
    ssh = Counter(project, "ssh")
    with untouched(target):
        built = played(network, "--tags", "build")
    assert (stages(built), ssh.runs()) == ([("target", BUILD)], [])

    before = standing(target)
    copied = played(network, "--skip-tags", "activate")
    assert [task for _host, task in stages(copied)] == [INFO, BUILD, COPY]
    assert standing(target) == before
    toplevel = toplevels(copied)["target"]
    assert has_path(target, toplevel)

    activated = played(network, "--skip-tags", "copy")
    assert [task for _host, task in stages(activated)] == [INFO, BUILD, ACTIVATE]
    assert standing(target) == (toplevel,) * 3


BAD_VALUES = [
    ("deploy", "deploy_action", "destroy"),
    ("deploy", "deploy_ssh_timeout", "soon"),
    ("deploy", "deploy_confirm_timeout", "soon"),
    ("prepare", "prepare_provision", "perhaps"),
    ("copy", "copy_compress", "perhaps"),
    ("activate", "activate_action", "destroy"),
]


@pytest.mark.both_pairs
def test_bad_values_are_refused_before_anything_is_done(project: Project) -> None:
    project.write("example.nix", '{ target.deployment.targetHost = "192.0.2.1"; }')
    project.write("example.network.yml", "plugin: nix.ops.network\nfiles: [example.nix]\n")
    tasks = [
        {
            "block": [{"ansible.builtin.import_role": {"name": f"nix.ops.{role}"}, "vars": {variable: value}}],
            "rescue": [{"ansible.builtin.meta": "noop"}],
        }
        for role, variable, value in BAD_VALUES
    ]
    given = {"copy_toplevel": "/nowhere", "activate_toplevel": "/nowhere"}
    project.write("site.yml", json.dumps([{"hosts": "nixos", "gather_facts": False, "vars": given, "tasks": tasks}]))
    outcome = project.play("-i", "example.network.yml", "site.yml")
    assert outcome.exit_code == 0, outcome.output
    for (_role, variable, _value), refused in zip(BAD_VALUES, outcome.results, strict=True):
        assert (refused.task.partition(" ")[0], refused.status) == ("Validating", "failed")
        assert variable in " ".join(refused.result["argument_errors"])


@pytest.mark.both_pairs
def test_a_deploy_refuses_variables_of_its_stages_wherever_they_are_set(project: Project) -> None:
    project.write("example.nix", '{ target.deployment.targetHost = "192.0.2.1"; }')
    project.write("example.network.yml", "plugin: nix.ops.network\nfiles: [example.nix]\n")
    project.write("group_vars/nixos.yml", "copy_compress: true\ndeploy_serial: 1\n")
    role = {"name": "nix.ops.deploy"}
    plays: list[dict[str, Any]] = [
        {"hosts": "nixos", "gather_facts": False, "vars": {"prepare_older": True, "deploy_revert": "run"}, **one}
        for one in (
            {"tasks": [{"ansible.builtin.import_role": role, "vars": {"activate_force": True}}]},
            {"roles": [{"role": "nix.ops.deploy", "vars": {"activate_reboot": "always"}}]},
        )
    ]
    plays.append({"import_playbook": "nix.ops.deploy", "vars": {"activate_action": "boot"}})
    told = {
        "activate_force": "deploy_force",
        "activate_reboot": "deploy_reboot",
        "activate_action": "deploy_action",
        "copy_compress": "deploy_compress",
        "copy_timeout": "deploy_copy_timeout",
        "prepare_older": "deploy_older",
    }
    for one, given in zip(plays, ("activate_force", "activate_reboot", "activate_action"), strict=True):
        project.write("site.yml", json.dumps([one]))
        run = project.play("-i", "example.network.yml", "site.yml", "-e", "copy_timeout=5")
        wrong = ["copy_compress", "copy_timeout", given, *(["prepare_older"] if "hosts" in one else [])]
        lines = [f"{name} is not a variable of a deploy; did you mean {told[name]}?" for name in sorted(wrong)]
        if "hosts" in one:
            lines.append("deploy_revert is a variable of the playbook, not of the role.")
        message = run.results[-1].result["msg"].splitlines()
        assert message[: message.index("State: nothing was touched")] == lines


@pytest.mark.both_pairs
@pytest.mark.parametrize("name", NAMES)
def test_the_readme_and_the_defaults_say_what_the_specification_says(name: str) -> None:
    role = ROLES / name
    options = {name: option for entry in specification(name).values() for name, option in entry["options"].items()}
    told = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", readme(name), re.MULTILINE))
    assert list(told) == list(options)
    for variable, option in options.items():
        if "default" in option:
            assert told[variable] == f"`{yaml.safe_dump(option['default']).split()[0]}`"

    file = role / "defaults/main.yml"
    given = yaml.safe_load(file.read_text()) if file.exists() else {}
    assert given.keys() == {variable for variable in options if variable.startswith(f"{name}_")}
    for variable, default in given.items():
        # What is made of other variables has no place in a specification.
        assert default == options[variable].get("default") or "{{" in default


@pytest.mark.both_pairs
def test_ansible_doc_shows_every_option(project: Project) -> None:
    for name in NAMES:
        shown = project.run("ansible-doc", "-t", "role", f"nix.ops.{name}")
        assert shown.exit_code == 0, shown.output
        complaints = [line for line in shown.output.splitlines() if re.match(r"\[?(WARNING|ERROR)", line)]
        # ansible-core 2.21 complains of a collection of its own.
        assert [line for line in complaints if "_protomatter" not in line] == []
        for entry, described in specification(name).items():
            for word in (entry, *described["options"]):
                assert re.search(rf"\b{word}\b", shown.output)


@pytest.mark.both_pairs
def test_the_examples_are_playbooks(project: Project) -> None:
    plays = []
    for name in NAMES:
        first, *more = re.findall(r"^```yaml\n(.*?)^```$", readme(name), re.MULTILINE | re.DOTALL)
        assert f"nix.ops.{name}\n" in first
        for example in (first, *more):
            plays += yaml.safe_load(example)
    project.write("site.yml", yaml.safe_dump(plays))
    checked = project.play("--syntax-check", "-i", "localhost,", "site.yml")
    assert checked.exit_code == 0, checked.output


def specification(name: str) -> dict[str, Any]:
    """The entry points of a role."""
    return yaml.safe_load((ROLES / name / "meta/argument_specs.yml").read_text())["argument_specs"]


def readme(name: str) -> str:
    """What a role's README says."""
    return (ROLES / name / "README.md").read_text()
