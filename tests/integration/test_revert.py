# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout that fails: which machines go back to what ran before, and what is told of it."""

from __future__ import annotations

import json
import re
import subprocess
from functools import partial
from typing import Any

import pytest

from fleet import Machine
from integration.conftest import Deployed, MachineFactory
from integration.networks import ACTIVATE, CHECK, COPY, INFO, Network, import_deploy, main_pids, standing, toplevels
from integration.outside import untouched
from integration.project import Outcome, Project
from integration.tasks import read_until, wait_for, write_play

ENDED = "Decide whether the batch has failed"
ENDING = ("failed_hosts", "goes_back", "stays_deployed", "untouched")
BOOT_BACK = "Put back what boots"
BACK = "Put back what ran"
TOLD = "Fail for the machines that failed or went back"

# In the order in which they are deployed: alpha, then beta and gamma, then omega. No machine may fail.
NAMES = ("alpha", "beta", "gamma", "omega")
CAREFUL = {"deploy_serial": [1, 2, 1], "deploy_max_fail_percentage": 0}
A_UNIT_FAILS = """
  systemd.services.bad = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig.Type = "oneshot";
    script = "echo this unit fails; exit 1";
  };
"""


@pytest.fixture
def network(deployed: Deployed) -> Network:
    """A network whose machines have been deployed; a connection over a dead link is given up soon."""
    network = deployed(*NAMES)
    network.project.environment["ANSIBLE_SSH_COMMON_ARGS"] = "-o ServerAliveInterval=1 -o ServerAliveCountMax=2"
    return network


@pytest.fixture
def machines(network: Network) -> dict[str, Machine]:
    """Its machines."""
    return {one.name: one for one in network.machines}


def roll_out(network: Network, *words: str, **variables: object) -> Outcome:
    """Deploy with a playbook of a user's own, in which no machine may fail and something follows."""
    playbook = import_deploy(network.project, **{**CAREFUL, **variables})
    return network.deploy(*words, playbook=playbook)


def stand(machine: Machine) -> dict[str, Any]:
    """What a machine runs and boots."""
    facts = machine.inspect()
    return {name: facts[name] for name in ("running", "profile", "generation", "boot_default", "failed_units")}


def stands(machine: Machine, before: dict[str, Any]) -> bool:
    """Whether a machine runs and boots the same as before."""
    return stand(machine) == before


def ended(outcome: Outcome) -> dict[str, list[str]]:
    """What is told when a rollout ends."""
    [told] = [one.result for one in outcome.results if one.task == ENDED and one.result.get("ends")]
    return {name.removesuffix("_hosts"): told[name] for name in ENDING}


def recap(outcome: Outcome, count: str) -> set[str]:
    """The hosts that Ansible's recap counts so."""
    return {
        host
        for host, number in re.findall(rf"^(\w+) +: .*\b{count}=(\d+)", outcome.output, re.MULTILINE)
        if number != "0"
    }


def start(network: Network, playbook: str, *words: str) -> subprocess.Popen[str]:
    """Begin to deploy with a playbook of a user's own, with no results of an earlier run."""
    (network.project.directory / ".results.jsonl").unlink(missing_ok=True)
    return network.project.start("ansible-playbook", "-i", f"{network.name}.network.yml", playbook, *words)


def statuses(network: Network) -> dict[str, str]:
    """For each machine what ``nix.ops.info`` calls it."""
    told = network.deploy(playbook="nix.ops.info").of("Report the status of the deployments")
    return {one["name"]: one["status"] for one in told["deployments"][0]["machines"]}


def keys_of(machine: Machine) -> dict[str, str]:
    """The keys of a machine, with what is beside them."""
    told = machine.run(
        "cd /run/keys 2>/dev/null && for key in $(ls -A); do echo $key $(cat $key); done", check=False
    ).stdout
    found = dict(line.partition(" ")[::2] for line in told.splitlines())
    return {name: content for name, content in found.items() if name != "done"}


def test_the_machines_of_a_batch_or_of_the_run_go_back(machines: dict[str, Machine], network: Network) -> None:
    before = {name: stand(one) for name, one in machines.items()}
    network.define('deployment.keys = { a = "uno"; gone = "uno"; };', one="uno", gamma=A_UNIT_FAILS)
    with untouched(machines["omega"]):
        batch = roll_out(network, deploy_revert="batch")
    assert batch.exit_code == 2
    assert batch.statuses(ACTIVATE) == {"alpha": "changed", "beta": "changed", "gamma": "failed"}
    assert ended(batch) == {
        "failed": ["gamma"],
        "goes_back": ["beta"],
        "stays_deployed": ["alpha"],
        "untouched": ["omega"],
    }
    assert [host for host, status in batch.statuses(BACK).items() if status == "changed"] == ["beta"]
    assert batch.of(TOLD, "beta")["msg"].startswith("beta: runs and boots again what it did before this deploy")
    assert recap(batch, "failed") == {"beta", "gamma"}
    assert standing(machines["alpha"]) == (toplevels(batch)["alpha"],) * 3
    assert {name: stand(machines[name]) for name in ("beta", "gamma")} == {
        name: before[name] for name in ("beta", "gamma")
    }
    assert {name: keys_of(one) for name, one in machines.items()} == {
        "alpha": {"a": "uno", "gone": "uno"},
        **{name: {} for name in ("beta", "gamma", "omega")},
    }
    assert statuses(network) == {"alpha": "Up-to-date", "beta": "Outdated", "gamma": "Outdated", "omega": "Outdated"}

    due = 'deployment.keys = { a = "due"; b = "due"; };'
    network.define(due, one="due", gamma=A_UNIT_FAILS)
    before["alpha"] = stand(machines["alpha"])
    with untouched(machines["omega"]):
        run = roll_out(network, deploy_revert="run")
    assert run.exit_code == 2
    assert ended(run) == {
        "failed": ["gamma"],
        "goes_back": ["alpha", "beta"],
        "stays_deployed": [],
        "untouched": ["omega"],
    }
    assert recap(run, "failed") == {"alpha", "beta", "gamma"}
    assert {name: stand(one) for name, one in machines.items()} == before
    assert keys_of(machines["alpha"]) == {"a": "uno", "gone": "uno"}
    assert set(statuses(network).values()) == {"Outdated"}

    network.define(due, one="due")
    mended = roll_out(network, deploy_revert="run")
    assert mended.exit_code == 0, mended.output
    assert mended.statuses(ACTIVATE) == dict.fromkeys(NAMES, "changed")
    assert mended.statuses(BACK) == mended.statuses(TOLD) == {}
    assert {name: standing(one) for name, one in machines.items()} == {
        name: (toplevel,) * 3 for name, toplevel in toplevels(mended).items()
    }
    assert {name: keys_of(one) for name, one in machines.items()} == {name: {"a": "due", "b": "due"} for name in NAMES}
    assert set(statuses(network).values()) == {"Up-to-date"}


def test_an_unreachable_machine_counts(machines: dict[str, Machine], network: Network) -> None:
    before = {name: stand(one) for name, one in machines.items()}
    network.define(one="uno")
    # For the machine that is lost alone: the others have the time that a busy computer needs to go back.
    short = {"ansible_timeout": 1, "deploy_reconnect_timeout": 5, "deploy_confirm_timeout": 4}
    network.project.write("host_vars/gamma.yml", json.dumps(short))
    playbook = import_deploy(network.project, **CAREFUL, deploy_revert="run")
    for moment, task, status, back in (
        ("alpha> deployment finished successfully", COPY, "unreachable", ["alpha"]),
        ("gamma> setting up tmpfiles", ACTIVATE, "failed", ["alpha", "beta"]),
    ):
        run = start(network, playbook)
        seen = read_until(run, moment)
        machines["gamma"].link_down()
        try:
            outcome = network.project.finish(run, seen)
        finally:
            machines["gamma"].link_up()
        assert outcome.exit_code == 2, outcome.output
        assert outcome.statuses(task)["gamma"] == status, outcome.output
        assert (ended(outcome)["failed"], ended(outcome)["goes_back"]) == (["gamma"], back)
        assert recap(outcome, "failed") == {"gamma", *back}
        # The machine itself goes back too, without the controller.
        for name, stood in before.items():
            wait_for(partial(stands, machines[name], stood), f"{name} as before: {outcome.output}", 30)


def test_as_many_as_may_fail_stop_nobody(machines: dict[str, Machine], network: Network) -> None:
    network.define(one="uno", beta=A_UNIT_FAILS)
    before = stand(machines["beta"])
    site = [
        {
            "import_playbook": "nix.ops.deploy",
            "vars": {**CAREFUL, "deploy_max_fail_percentage": 50, "deploy_revert": "run"},
        },
        {"hosts": "nixos", "gather_facts": False, "tasks": [{"name": "Follow", "ansible.builtin.debug": {}}]},
    ]
    network.project.write("site.yml", json.dumps(site))
    some = network.deploy(playbook="site.yml")
    assert some.exit_code == 2
    assert recap(some, "failed") == {"beta"}
    assert some.statuses("Follow") == dict.fromkeys(("alpha", "gamma", "omega"), "ok")
    assert [standing(machines[name])[0] for name in ("alpha", "gamma", "omega")] == [
        toplevels(some)[name] for name in ("alpha", "gamma", "omega")
    ]
    assert stand(machines["beta"]) == before


def test_what_ran_need_not_be_what_booted(machines: dict[str, Machine], network: Network) -> None:
    network.define(one="uno")
    network.deployed("-e", "deploy_action=test")
    before = {name: stand(one) for name, one in machines.items()}
    assert all(one["running"] != one["profile"] for one in before.values())
    network.define(one="due", omega=A_UNIT_FAILS)
    for action in ("switch", "test"):
        run = roll_out(network, deploy_serial="100%", deploy_action=action, deploy_revert="run")
        assert run.exit_code == 2
        assert ended(run)["goes_back"] == ["alpha", "beta", "gamma"], action
        assert {name: stand(one) for name, one in machines.items()} == before, action


def test_what_only_was_to_boot_is_put_back(deployed: Deployed) -> None:
    network = deployed("alpha", "beta")
    machines = {one.name: one for one in network.machines}
    before = {name: stand(one) for name, one in machines.items()}
    pid = main_pids(machines["alpha"], "one")
    refuses = 'pkgs.writeScript "refuses" "#!/bin/sh\\necho the boot loader says no\\nexit 1\\n"'
    network.define(one="uno", beta=f"boot.loader.external = {{ enable = true; installHook = {refuses}; }};")
    run = roll_out(network, deploy_serial=1, deploy_action="boot", deploy_revert="run")
    assert run.exit_code == 2
    assert (ended(run)["failed"], ended(run)["goes_back"]) == (["beta"], ["alpha"])
    assert run.statuses(BOOT_BACK) == {"alpha": "changed", "beta": "skipped"}
    assert stand(machines["alpha"]) == before["alpha"]
    assert main_pids(machines["alpha"], "one") == pid, "nothing was restarted"


def test_a_machine_that_has_moved_moves_back(machines: dict[str, Machine], network: Network) -> None:
    before = {name: stand(one) for name, one in machines.items()}
    moves = "services.openssh.ports = [ 2222 ]; deployment.targetPort = 2222;"
    network.define(alpha=moves, beta=A_UNIT_FAILS)
    run = roll_out(network, deploy_revert="run")
    assert run.exit_code == 2
    assert run.of(ACTIVATE, "alpha")["acknowledged"]["port"] == 2222
    assert run.of(BACK, "alpha")["acknowledged"]["port"] == 22
    assert {name: stand(one) for name, one in machines.items()} == before
    assert statuses(network)["alpha"] == "Outdated"

    network.define(alpha=moves)
    mended = roll_out(network, deploy_revert="run")
    assert mended.exit_code == 0, mended.output
    assert mended.of(ACTIVATE, "alpha")["acknowledged"]["port"] == 2222


def test_what_makes_a_batch_fail(machines: dict[str, Machine], network: Network) -> None:
    before = {name: stand(one) for name, one in machines.items()}
    network.define(one="uno", beta=A_UNIT_FAILS)
    for variables, back in (
        # All of it, whatever may.
        ({"deploy_serial": 1, "deploy_max_fail_percentage": 100}, ["alpha"]),
        ({"deploy_serial": 3, "deploy_max_fail_percentage": 33}, ["alpha", "gamma"]),
        ({"deploy_max_fail_percentage": 100, "deploy_any_errors_fatal": True}, ["alpha", "gamma"]),
    ):
        with untouched(machines["omega"]):
            run = roll_out(network, **variables, deploy_revert="run")
        assert run.exit_code == 2
        assert (ended(run)["failed"], ended(run)["goes_back"]) == (["beta"], back)
        assert {name: stand(one) for name, one in machines.items()} == before


def test_looking_takes_nothing_back(machine: MachineFactory, project: Project) -> None:
    target = machine("alpha")
    network = Network(project, target)
    for words in (("--check", "--diff"), ("-e", "deploy_action=dry-activate")):
        before = stand(target)
        looked = roll_out(network, *words, deploy_revert="run")
        assert looked.exit_code == 0, looked.output
        assert looked.statuses(BACK) == {}
        assert stand(target) == before


def test_a_machine_is_taken_back_by_a_play_of_a_users_own(deployed: Deployed) -> None:
    network = deployed("alpha", "beta")
    target = network.machines[0]
    before = stand(target)
    network.define(one="uno")
    tasks = """
    - ansible.builtin.import_role: {name: nix.ops.deploy}
    - block: [{ansible.builtin.fail: {msg: The site does not answer.}}]
      rescue: [{ansible.builtin.import_role: {name: nix.ops.deploy, tasks_from: back}}]
    """
    outcome = network.deploy("--limit", "alpha", playbook=write_play(network.project, tasks, "nixos"))
    assert outcome.exit_code == 0, outcome.output
    assert outcome.statuses(ACTIVATE) == outcome.statuses(BACK) == {"alpha": "changed"}
    assert stand(target) == before


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (
            {
                "deploy_revert": "all",
                "deploy_unreachable": "ignore",
                "deploy_rollback": "off",
                "deploy_failed_units": "ignore",
                "deploy_reboot": "sometimes",
            },
            "deploy_failed_units is ignore, and has to be one of rollback, fail, warn.\n"
            "deploy_reboot is sometimes, and has to be one of never, when_needed, always.\n"
            "deploy_revert is all, and has to be one of never, batch, run.\n"
            "deploy_rollback is off, and has to be one of auto, never.\n"
            "deploy_unreachable is ignore, and has to be one of warn, fail.\n",
        ),
        ({"deploy_revert": "run", "deploy_strategy": "host_pinned"}, "deploy_revert needs the strategy linear"),
        (
            {"deploy_revert": "run", "deploy_strategy": "ansible.builtin.free"},
            "deploy_revert needs the strategy linear",
        ),
    ],
)
def test_what_can_not_be_done_is_refused(
    machine: MachineFactory, project: Project, variables: dict[str, str], told: str
) -> None:
    target = machine("alpha")
    network = Network(project, target)
    with untouched(target):
        refused = roll_out(network, **variables)
    assert refused.exit_code == 2
    assert refused.of(CHECK)["msg"].startswith(told)
    assert refused.statuses(INFO) == {}


def test_what_a_reboot_has_brought_a_reboot_takes_away(deployed: Deployed) -> None:
    network = deployed("alpha", "beta")
    alpha = network.machines[0]
    before = alpha.inspect()
    assert before["booted"] == before["running"]
    network.define("boot.kernelPackages = pkgs.linuxPackages_latest;", beta=A_UNIT_FAILS)
    outcome = roll_out(network, deploy_serial=1, deploy_revert="run", deploy_reboot="when_needed")
    assert outcome.exit_code == 2
    assert outcome.of(ACTIVATE, "alpha")["rebooted"] and outcome.of(BACK, "alpha")["rebooted"]
    after = alpha.inspect()
    same = ("running", "booted", "profile", "generation", "boot_default", "failed_units")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert alpha.ssh("true").returncode == 0
