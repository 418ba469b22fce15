# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deploy can't lock anybody out: what happens to a machine that can't be reached any more."""

from __future__ import annotations

import subprocess
import threading
import time

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.networks import ACTIVATE, Network, main_pids, standing
from integration.outside import COPIED
from integration.project import Outcome, Project
from integration.tasks import read_until

# The machine waits for so many seconds; connections are given up sooner.
SOON = ("-e", "deploy_confirm_timeout=4", "-e", "ansible_timeout=1")

# What takes away the way in, and nothing else.
LOCKED_OUT = {
    "sshd is gone": "services.openssh.enable = lib.mkForce false;",
    "sshd has moved": "services.openssh.ports = [ 2222 ]; deployment.targetPort = 22;",
    "sshd lets nobody in": 'services.openssh.extraConfig = "DenyUsers root";',
}


@pytest.fixture
def target(machine: MachineFactory) -> Machine:
    """A fresh machine."""
    return machine("target")


@pytest.fixture
def network(target: Machine, project: Project) -> Network:
    """A network whose machine has been deployed; its key is not used, so that the fleet's is the only way in."""
    network = Network(project, target, where={"target": "deployment.provisionSSHKey = false;"})
    network.deployed()
    return network


def as_before(target: Machine, before: dict[str, object]) -> None:
    """The machine is what it was, asked past its network, and can be reached."""
    after = target.inspect()
    same = ("running", "profile", "generation", "boot_default", "booted", "failed_units", "boot_id", "system_state")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["leftovers"] == [COPIED]
    assert target.ssh("true").returncode == 0


def undone(outcome: Outcome) -> str:
    """The message of a deployment that the machine has undone."""
    assert outcome.exit_code == 2, outcome.output
    answer = outcome.of(ACTIVATE)
    assert answer["rolled_back"]
    assert "gone back to what ran before" in answer["msg"]
    return str(answer["msg"])


@pytest.mark.parametrize("how", LOCKED_OUT)
def test_a_configuration_that_locks_out_is_undone_by_the_machine(target: Machine, network: Network, how: str) -> None:
    before = target.inspect()
    network.define(f"imports = [ ({{ lib, ... }}: {{ {LOCKED_OUT[how]} }}) ];")
    message = undone(network.deploy(*SOON))
    assert "nobody got in over a new connection within 4 seconds" in message
    assert f"State: it runs {before['running']}, boots {before['boot_default']}" in message
    as_before(target, before)

    network.define(one="uno")
    assert network.deployed().statuses(ACTIVATE) == {"target": "changed"}


def test_what_ran_before_was_no_generation(target: Machine, network: Network) -> None:
    network.define(one="uno")
    tested = network.deployed("-e", "deploy_action=test")
    before = target.inspect()
    assert before["running"] == tested.of(ACTIVATE)["toplevel"] != before["profile"]
    network.define("imports = [ ({ lib, ... }: { services.openssh.enable = lib.mkForce false; }) ];", one="due")
    undone(network.deploy(*SOON))
    as_before(target, before)


def test_the_same_system_again(target: Machine, network: Network) -> None:
    before = target.inspect()
    target.link_down()
    try:
        # Nothing of it is another, and still nobody gets in.
        network.define("deployment.alwaysActivate = true;")
    finally:
        target.link_up()
    again = network.deployed()
    assert again.of(ACTIVATE)["exit_code"] == 0
    as_before(target, before)


def start(network: Network, *words: str) -> subprocess.Popen[str]:
    """Begin to deploy, with no results of an earlier run."""
    (network.project.directory / "results.jsonl").unlink(missing_ok=True)
    return network.start(*words)


def cut_off(target: Machine, seconds: float) -> threading.Timer:
    """Take the link down; it comes up again by itself."""
    target.link_down()
    timer = threading.Timer(seconds, target.link_up)
    timer.start()
    return timer


def test_a_link_that_is_down_for_too_long(target: Machine, network: Network) -> None:
    before = target.inspect()
    network.define(one="uno")
    run = start(network, *SOON)
    seen = read_until(run, "target> setting up tmpfiles")
    timer = cut_off(target, 8)
    outcome = network.project.finish(run, seen)
    timer.join()
    undone(outcome)
    as_before(target, before)


def test_a_link_that_is_back_in_time(target: Machine, network: Network) -> None:
    before = target.inspect()
    network.define(one="uno")
    run = start(network, "-e", "deploy_confirm_timeout=60", "-e", "ansible_timeout=2")
    seen = read_until(run, "target> setting up tmpfiles")
    timer = cut_off(target, 5)
    outcome = network.project.finish(run, seen)
    timer.join()
    assert outcome.exit_code == 0, outcome.output
    new = outcome.of(ACTIVATE)["toplevel"]
    assert new != before["running"]
    assert standing(target) == (new, new, new)
    assert target.inspect()["leftovers"] == [COPIED]


@pytest.mark.parametrize("how", ["rebooted", "cut off from power"])
def test_a_machine_that_goes_down_before_it_was_acknowledged_boots_what_ran_before(
    target: Machine, network: Network, how: str
) -> None:
    before = target.inspect()
    network.define("imports = [ ({ lib, ... }: { services.openssh.enable = lib.mkForce false; }) ];")
    run = start(network, "-e", "deploy_confirm_timeout=60", "-e", "ansible_timeout=2")
    seen = read_until(run, "target> waiting to be reached over a new connection...")
    if how == "rebooted":
        target.reboot()
    else:
        target.power_cut()
        target.wait_up()
    outcome = network.project.finish(run, seen)
    assert outcome.exit_code == 2, outcome.output
    assert "the machine was rebooted during the activation" in outcome.of(ACTIVATE)["msg"]
    after = target.inspect()
    assert standing(target) == (before["running"],) * 3
    assert after["generation"] == before["generation"]
    network.define(one="uno")
    network.deployed()


def test_a_target_that_stops_everything(target: Machine, network: Network) -> None:
    before = target.inspect()
    # As where a file system can't be mounted: systemd keeps hardly more than itself.
    network.define(
        """
          systemd.services.mishap = {
            wantedBy = [ "multi-user.target" ];
            serviceConfig.Type = "oneshot";
            script = "systemctl isolate emergency.target";
          };
        """
    )
    undone(network.deploy(*SOON, timeout=180))
    as_before(target, before)


def test_only_what_was_changed_is_put_back(target: Machine, network: Network) -> None:
    pids = main_pids(target, "one", "two", "sshd")
    network.define("imports = [ ({ lib, ... }: { services.openssh.ports = [ 2222 ]; deployment.targetPort = 22; }) ];")
    undone(network.deploy(*SOON))
    now = main_pids(target, "one", "two", "sshd")
    assert (now["one"], now["two"]) == (pids["one"], pids["two"])
    assert now["sshd"] != pids["sshd"]


def test_rollback_can_be_left_out(target: Machine, network: Network) -> None:
    before = target.inspect()
    network.define("services.openssh.ports = [ 2222 ]; deployment.targetPort = 22;")
    began = time.monotonic()
    done = network.deploy(*SOON, "-e", "deploy_rollback=never")
    assert done.exit_code == 0, done.output
    assert time.monotonic() - began < 30
    assert standing(target)[0] == standing(target)[2] != before["running"]
