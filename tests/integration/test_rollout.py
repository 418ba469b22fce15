# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several machines: which are deployed, in which order, and what stops whom."""

from __future__ import annotations

import json

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.networks import ACTIVATE, BUILD, COPY, INFO, OUTCOME, PLAN, Network, import_deploy, standing, toplevels
from integration.outside import untouched
from integration.project import Project
from integration.tasks import has_path

NAMES = ("target", "beta", "gamma")
NAMED = "Name the machines that can't be reached"
BROKEN = 'system.activationScripts.broken = "echo this machine is broken; exit 3";'


@pytest.fixture
def machines(machine: MachineFactory) -> dict[str, Machine]:
    """Three fresh machines."""
    return {name: machine(name) for name in NAMES}


def left_alone(machines: dict[str, Machine], before: dict[str, tuple[str, str, str]]) -> set[str]:
    """The machines that stand where they stood."""
    return {name for name, one in machines.items() if standing(one) == before[name]}


def standings(machines: dict[str, Machine]) -> dict[str, tuple[str, str, str]]:
    """Where each machine stands."""
    return {name: standing(one) for name, one in machines.items()}


def test_limit(machines: dict[str, Machine], project: Project) -> None:
    network = Network(project, *machines.values(), where={"gamma": 'deployment.tags = [ "web" ];'})
    before = {name: one.inspect() for name, one in machines.items()}
    one = network.deployed("--limit", "beta")
    assert {result.host for result in one.results} == {"beta"}
    assert set(toplevels(one)) == {"beta"}
    assert standing(machines["beta"])[0] == toplevels(one)["beta"]
    assert {name: machines[name].inspect() for name in ("target", "gamma")} == {
        name: before[name] for name in ("target", "gamma")
    }

    rest = network.deployed("--limit", "nixos:!beta")
    assert rest.statuses(ACTIVATE) == {"target": "changed", "gamma": "changed"}
    # The system of a machine is the same whoever else is in the run.
    everyone = network.deployed()
    assert toplevels(everyone) == {**toplevels(one), **toplevels(rest)}
    assert not everyone.changed
    assert set(toplevels(network.deployed("--limit", "tag_web", "--tags", "build"))) == {"gamma"}
    assert set(toplevels(network.deployed("-e", "deploy_machines=beta", "--tags", "build"))) == {"beta"}

    # The flags of NixOps, several at once. What is only planned, built or copied runs nowhere.
    network.define(one="uno", everywhere='system.activationScripts.sync = "echo sync=$NIXOS_NO_SYNC";')
    chosen = ("-e", "deploy_include='target b*' deploy_exclude=target", "-e", "deploy_nix_options=max-jobs=1,cores=1")
    here = standings(machines)
    planned = network.deployed(*chosen, "-e", "deploy_only=plan deploy_repair=true")
    new = toplevels(planned)
    assert (set(new), planned.of(PLAN)["machines"]["beta"]["does"]) == ({"beta"}, "copy, switch")
    assert planned.statuses(COPY) == {}
    copied = network.deployed(*chosen, "-e", "deploy_only=copy")
    assert (copied.statuses(COPY), copied.statuses(ACTIVATE)) == ({"beta": "changed"}, {"beta": "skipped"})
    assert standings(machines) == here
    assert has_path(machines["beta"], new["beta"])
    unasked = network.deploy(*chosen, "-e", "deploy_confirm=true")
    assert unasked.exit_code == 2 and "there is no terminal to ask on (deploy_confirm)" in unasked.output
    profile = "/nix/var/nix/profiles/system-profiles/try"
    at_once = (
        f"deploy_max_concurrent_copy=1 deploy_max_concurrent_activate=1 deploy_sync=false deploy_profile={profile}"
    )
    assert "beta> sync=1" in network.deployed(*chosen, "-e", at_once).output
    assert left_alone(machines, here) == {"target", "gamma"}
    assert machines["beta"].run(["readlink", "-f", profile]).stdout.strip() == new["beta"]

    for pattern in ("nobody", "beta:!beta"):
        nobody = network.deploy("--limit", pattern)
        assert nobody.exit_code != 0
        assert "leaves us with no hosts to target" in nobody.output
        assert nobody.results == ()


def test_an_unreachable_machine_stops_no_other_unless_the_user_says_so(
    machines: dict[str, Machine], project: Project
) -> None:
    project.environment["ANSIBLE_TIMEOUT"] = "2"
    project.environment["ANSIBLE_SSH_COMMON_ARGS"] = "-o ServerAliveInterval=1 -o ServerAliveCountMax=2"
    network = Network(project, *machines.values())
    machines["gamma"].link_down()
    first = network.deploy("-e", "deploy_ssh_timeout=1")
    assert first.exit_code == 4
    assert first.statuses(INFO) == {"target": "changed", "beta": "changed", "gamma": "unreachable"}
    # It is noticed before anything is built.
    named = first.of(NAMED)["msg"]
    assert named[0].startswith("gamma: the machine can't be reached")
    assert named[1:] == ["The other machines are deployed (deploy_unreachable=warn)."]
    outcome = first.of(OUTCOME)["machines"]["gamma"]
    assert outcome.startswith("not deployed: the machine can't be reached: ssh: ") and ". Next: Check its " in outcome
    assert set(toplevels(first)) == {"target", "beta"}
    assert first.statuses(ACTIVATE) == {"target": "changed", "beta": "changed"}
    for name in ("target", "beta"):
        assert standing(machines[name])[0] == toplevels(first)[name]
    assert standing(machines["gamma"])[0] == machines["gamma"].toplevel

    batches = network.deploy("-e", "deploy_serial=1", "-e", "deploy_ssh_timeout=1")
    assert batches.exit_code == 4
    assert batches.statuses(ACTIVATE) == {}

    network.define(one="uno")
    before = standings(machines)
    fatal = network.deploy("-e", "deploy_any_errors_fatal=true", "-e", "deploy_ssh_timeout=1")
    assert fatal.exit_code != 0
    assert fatal.statuses(ACTIVATE) == {}
    assert standings(machines) == before

    # A workflow asks for the approval of what can be deployed.
    with untouched(machines["target"], machines["beta"]):
        preview = network.deploy("--check", "--diff", "-e", "deploy_ssh_timeout=1")
    assert preview.exit_code == 0, preview.output
    assert "A deploy of what this preview shows leaves out: gamma" in preview.output
    passed_on = preview.of("Pass on what was previewed")["ansible_stats"]["data"]
    assert passed_on["deploy_previewed"]["plan"] == dict.fromkeys(["beta", "target"], "copy, switch")

    machines["beta"].link_down()
    with untouched(*machines.values()):
        strict = network.deploy("-e", "deploy_unreachable=fail", "-e", "deploy_ssh_timeout=1")
    assert strict.exit_code != 0
    named = strict.of(NAMED)["msg"].splitlines()
    assert [line.partition(" the machine can't")[0] for line in named[:2]] == ["beta:", "gamma:"]
    assert named[2] == "State: nothing was built, and no machine was touched"
    assert "--limit 'nixos:!beta:!gamma'" in named[3]
    assert strict.statuses(BUILD) == strict.statuses(COPY) == {}
    machines["beta"].link_up()

    machines["gamma"].link_up()
    machines["gamma"].wait_up()
    # Nobody has seen what a deploy does there.
    approved = network.deployed("-e", "deploy_ssh_timeout=1", "-e", json.dumps(passed_on))
    assert approved.statuses(ACTIVATE) == {"target": "changed", "beta": "changed"}
    assert "gamma> not deployed: the preview could not reach it" in approved.output
    last = network.deployed("-e", "deploy_any_errors_fatal=true", "-e", "deploy_unreachable=fail")
    assert last.statuses(ACTIVATE) == {"gamma": "changed"}


def test_a_failed_activation_stops_whom_the_user_says(machines: dict[str, Machine], project: Project) -> None:
    # Machines are deployed in the order of their names.
    network = Network(project, *machines.values())
    before = standings(machines)
    network.define(gamma=BROKEN)

    # More than a quarter of the first two failed, so that the third is left alone.
    serial = [2, "100%"]
    careful = network.deploy(playbook=import_deploy(project, deploy_serial=serial, deploy_max_fail_percentage=25))
    assert careful.exit_code == 2
    assert careful.statuses(ACTIVATE) == {"beta": "changed", "gamma": "failed"}
    assert "\nbatch 1 of 2: beta, gamma\n" in careful.output
    # The machine that failed has gone back by itself.
    assert left_alone(machines, before) == {"target", "gamma"}
    new = toplevels(careful)
    assert standing(machines["beta"]) == (new["beta"],) * 3
    assert "the activation script failed" in careful.of(ACTIVATE, "gamma")["msg"]

    # Only when all of a batch failed, Ansible itself ends the rollout.
    alone = network.deploy("-e", "deploy_serial=1")
    assert (alone.exit_code, left_alone(machines, before)) == (2, {"target", "gamma"})

    network.define(gamma=BROKEN, one="uno")
    before = standings(machines)
    fatal = network.deploy(playbook=import_deploy(project, deploy_serial=2, deploy_any_errors_fatal=True))
    assert fatal.exit_code == 2
    assert standing(machines["target"]) == before["target"]

    # By default the others go on.
    usual = network.deploy("-e", "deploy_serial=2")
    assert usual.exit_code == 2
    assert usual.statuses(ACTIVATE) == {"gamma": "failed", "target": "changed"}
    assert standing(machines["target"]) == (toplevels(usual)["target"],) * 3
    assert "beta> up to date" in usual.output
    assert "gamma> deployment finished successfully" not in usual.output


def test_strategies_and_forks(machines: dict[str, Machine], project: Project) -> None:
    network = Network(project, *machines.values())
    pinned = network.deployed("--forks", "1", playbook=import_deploy(project, deploy_strategy="host_pinned"))
    order = [one.host for one in pinned.results if one.task in (COPY, ACTIVATE)]
    assert order == sorted(order), "one machine at a time, from its first task to its last"
    assert standings(machines) == {name: (toplevel,) * 3 for name, toplevel in toplevels(pinned).items()}

    # As a setting of Ansible's own, as for any other playbook.
    network.define(one="uno")
    project.environment["ANSIBLE_STRATEGY"] = "free"
    free = network.deployed()
    assert standings(machines) == {name: (toplevel,) * 3 for name, toplevel in toplevels(free).items()}
    assert free.statuses(ACTIVATE) == dict.fromkeys(NAMES, "changed")
    assert not network.deployed().changed


def test_networks_beside_each_other_in_one_inventory(machine: MachineFactory, project: Project) -> None:
    # Both have a machine of the same name.
    where = {"production": machine("target"), "staging": machine("beta")}
    for deployment, one in where.items():
        project.write(f"inventory/{deployment}.nix", f'{{ web.deployment.targetHost = "{one.address}"; }}')
        project.write(
            f"inventory/{deployment}.network.yml",
            f"plugin: nix.ops.network\nfiles: [{deployment}.nix, web.nix]\n"
            'hostname: "{{ nix_machine }}-{{ nix_deployment }}"\n',
        )
    project.write(
        "inventory/web.nix",
        "{ web = { deploymentName, ... }: {\n"
        "  services.openssh.enable = true; environment.etc.name.text = deploymentName;\n"
        "}; }",
    )
    both = project.play("-i", "inventory", "nix.ops.deploy")
    assert both.exit_code == 0, both.output
    assert both.statuses(ACTIVATE) == {"web-production": "changed", "web-staging": "changed"}
    for deployment, one in where.items():
        assert one.run(["cat", "/etc/name"]).stdout == deployment
    assert project.roots("web") == {standing(one)[0] for one in where.values()}
    again = project.play("-i", "inventory", "nix.ops.deploy")
    assert (again.exit_code, again.changed) == (0, False)
    only = project.play("-i", "inventory", "nix.ops.deploy", "--limit", "deployment_staging")
    assert only.statuses(ACTIVATE) == {}
