# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deploy can't lock anybody out: what happens to a machine that can't be reached any more."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.faults import Tell
from integration.networks import ACTIVATE, Network, main_pids, standing
from integration.outside import COPIED
from integration.project import Outcome, Project
from integration.tasks import read_until

pytestmark = pytest.mark.one_pair

# The machine waits for so many seconds; connections are given up sooner.
SOON = ("-e", "deploy_confirm_timeout=4", "-e", "ansible_timeout=1")

DONE = "activation finished successfully"

# What takes away the way in, and nothing else.
LOCKED_OUT = {
    "sshd is gone": "services.openssh.enable = lib.mkForce false;",
    "sshd has moved": "services.openssh.ports = [ 2222 ]; deployment.targetPort = 22;",
    "sshd lets nobody in": 'services.openssh.extraConfig = "DenyUsers root";',
    "the key is no longer authorized": 'services.openssh.authorizedKeysFiles = lib.mkForce [ "/nowhere" ];',
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


def as_before(target: Machine, before: dict[str, Any]) -> dict[str, Any]:
    """The machine is what it was, asked past its network, and can be reached; :returns: what it is."""
    after = target.inspect()
    same = ("running", "profile", "generation", "boot_default", "booted", "failed_units", "boot_id", "system_state")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["leftovers"] == [COPIED]
    assert target.ssh("true").returncode == 0
    return after


def undone(outcome: Outcome) -> str:
    """The message of a deployment that the machine has undone."""
    assert outcome.exit_code == 2, outcome.output
    answer = outcome.of(ACTIVATE)
    assert answer["rolled_back"]
    assert "gone back to what ran before" in answer["msg"]
    return str(answer["msg"])


@pytest.mark.parametrize("how", LOCKED_OUT)
def test_a_configuration_that_locks_out_is_undone_by_the_machine(
    target: Machine, network: Network, tell: Tell, how: str
) -> None:
    before = target.inspect()
    network.define(f"imports = [ ({{ lib, ... }}: {{ {LOCKED_OUT[how]} }}) ];")
    message = undone(network.deploy(*SOON))
    assert "nobody got in over a new connection within 4 seconds" in message
    assert f"State: it runs {before['running']}, boots {before['boot_default']}" in message
    after = as_before(target, before)

    network.define(one="uno")
    assert network.deployed().statuses(ACTIVATE) == {"target": "changed"}
    tell(how, before, after, says=message, then="succeeds")


def test_a_user_who_can_no_longer_become_root(machine: MachineFactory, project: Project, tell: Tell) -> None:
    deployed = machine("deployed", user="deploy")
    where = 'deployment = { provisionSSHKey = false; targetUser = "deploy"; };'
    network = Network(project, deployed, where={"deployed": where})
    network.deployed()
    before = deployed.inspect()
    network.define('environment.etc."sudoers.d/zz".text = "deploy ALL=(ALL:ALL) !ALL\\n";')
    message = undone(network.deploy(*SOON))
    after = as_before(deployed, before)
    assert deployed.ssh("sudo -n true").returncode == 0
    tell("the SSH user can no longer become root", before, after, says=message)


def test_an_address_that_is_not_the_networks(target: Machine, network: Network, tell: Tell) -> None:
    before = target.inspect()
    other = target.address.rpartition(".")[0] + ".200"
    network.define(
        f"""
          systemd.services.move = {{
            wantedBy = [ "multi-user.target" ];
            serviceConfig.Type = "oneshot";
            serviceConfig.RemainAfterExit = true;
            path = [ pkgs.iproute2 ];
            script = "ip address delete {target.address}/24 dev eth0; ip address replace {other}/24 dev eth0";
            preStop = "ip address delete {other}/24 dev eth0; ip address replace {target.address}/24 dev eth0";
          }};
        """
    )
    message = undone(network.deploy(*SOON))
    tell("its address is another than the network says", before, as_before(target, before), says=message)


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


def cut_off(target: Machine, seconds: float) -> threading.Timer:
    """Take the link down; it comes up again by itself."""
    target.link_down()
    timer = threading.Timer(seconds, target.link_up)
    timer.start()
    return timer


def test_a_link_that_is_down_for_too_long(target: Machine, network: Network, tell: Tell) -> None:
    before = target.inspect()
    network.define(one="uno")
    run = network.start(*SOON)
    seen = read_until(run, "target> setting up tmpfiles")
    timer = cut_off(target, 8)
    outcome = network.project.finish(run, seen)
    timer.join()
    message = undone(outcome)
    tell("the link is down for longer than it waits", before, as_before(target, before), says=message)


def test_a_link_that_is_back_in_time(target: Machine, network: Network, tell: Tell) -> None:
    before = target.inspect()
    network.define(one="uno")
    run = network.start("-e", "deploy_confirm_timeout=60", "-e", "ansible_timeout=2")
    seen = read_until(run, "target> setting up tmpfiles")
    timer = cut_off(target, 5)
    outcome = network.project.finish(run, seen)
    timer.join()
    assert outcome.exit_code == 0, outcome.output
    new = outcome.of(ACTIVATE)["toplevel"]
    assert new != before["running"]
    assert standing(target) == (new, new, new)
    after = target.inspect()
    assert after["leftovers"] == [COPIED]
    tell("the link is down for a shorter time than it waits", before, after, says=DONE)


@pytest.mark.parametrize("how", ["rebooted", "cut off from power"])
def test_a_machine_that_goes_down_before_it_was_acknowledged_boots_what_ran_before(
    target: Machine, network: Network, how: str
) -> None:
    before = target.inspect()
    network.define("imports = [ ({ lib, ... }: { services.openssh.enable = lib.mkForce false; }) ];")
    run = network.start("-e", "deploy_confirm_timeout=60", "-e", "ansible_timeout=2")
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


def test_a_target_that_stops_everything(target: Machine, network: Network, tell: Tell) -> None:
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
    message = undone(network.deploy(*SOON, timeout=180))
    # All of it was stopped, and is started once more.
    target.wait_up()
    tell("systemd goes into its emergency mode", before, as_before(target, before), says=message)


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


@pytest.mark.parametrize("what", ["a snippet of the activation", "a unit"])
def test_a_switch_that_hangs(target: Machine, network: Network, tell: Tell, what: str) -> None:
    before = target.inspect()
    hang = {
        "a snippet of the activation": 'system.activationScripts.hang = "sleep 1000000";',
        "a unit": """
          systemd.services.hang = {
            wantedBy = [ "multi-user.target" ];
            before = [ "multi-user.target" ];
            serviceConfig.Type = "oneshot";
            script = "sleep 1000000";
          };
        """,
    }
    network.define(hang[what])
    message = undone(network.deploy("-e", "activate_switch_timeout=5"))
    assert "the switch did not end in time" in message
    tell(f"{what} hangs", before, as_before(target, before), says=message)


def test_a_disk_that_is_full(machine: MachineFactory, project: Project, tell: Tell) -> None:
    small = machine("small", store_mib=96)
    network = Network(project, small, where={"small": "deployment.provisionSSHKey = false;"})
    network.deployed()
    before = small.inspect()
    # Once all is there, and before the profile is set.
    fill = "head -c 200000000 /dev/zero >/nix/full 2>/dev/null || :"
    network.define(f'system.activationScripts.fill = "{fill}";')
    run = network.deploy()
    assert run.exit_code == 2, run.output
    message = str(run.of(ACTIVATE)["msg"])
    assert "the profile could not be set" in message
    assert "disk is full" in message or "No space left on device" in message
    assert "Next: Read the lines above. Where its disk is full, free room" in message
    after = small.inspect()
    # What was acknowledged runs on; a reboot brings back what boots.
    assert after["running"] == run.of(ACTIVATE)["toplevel"] != before["running"]
    assert (after["profile"], after["boot_default"]) == (before["profile"], before["boot_default"])
    assert f"State: it runs {after['running']}, boots {before['boot_default']}" in message
    assert small.ssh("true").returncode == 0
    assert after["leftovers"] == [COPIED]
    small.run("rm /nix/full")
    network.define(one="room")
    network.deployed()
    tell("the disk is full", before, after, says=message, then="succeeds")


def test_a_clock_that_is_wrong(target: Machine, network: Network, tell: Tell) -> None:
    before = target.inspect()
    # The clock of the kernel is the host's as well, so it is what the machine's programs are told that is wrong.
    target.run("cat >/usr/local/bin/date; chmod +x /usr/local/bin/date", stdin=b"#!/bin/sh\necho 86400\n")
    target.run("mkdir /run/nix-ops-future /run/nix-ops-past; touch -d '2099-01-01' /run/nix-ops-future")
    target.run("touch -d '1970-01-02' /run/nix-ops-past")
    network.define("imports = [ ({ lib, ... }: { services.openssh.enable = lib.mkForce false; }) ];")
    message = undone(network.deploy(*SOON))
    target.run("rmdir /run/nix-ops-future")
    after = as_before(target, before)
    network.define(one="uno")
    done = network.deployed()
    assert done.statuses(ACTIVATE) == {"target": "changed"}
    assert not network.deployed().changed
    tell("the machine's clock is wrong, and sshd is gone", before, after, says=message, then="succeeds")
