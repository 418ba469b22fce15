# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deploy can't lock anybody out: what happens to a machine that can't be reached any more."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.engine import SETTLED, Controller, bring, controlled, other, provide, settle
from integration.faults import Tell
from integration.networks import ACTIVATE, INFO, Network, main_pids, standing
from integration.outside import COPIED, boots_of, in_words, left_over, stands, untouched
from integration.project import Project
from integration.tasks import read_until, wait_for

# The machine waits for so many seconds; connections are given up sooner.
SOON = ("-e", "deploy_confirm_timeout=4", "-e", "ansible_timeout=1")

# What takes away the way in, and nothing else.
NO_SSHD = "services.openssh.enable = lib.mkForce false;"
LOCKED_OUT = {
    "sshd has moved": "services.openssh.ports = [ 2222 ];",
    "sshd lets nobody in": 'services.openssh.extraConfig = "DenyUsers root";',
    "the key is no longer authorized": 'services.openssh.authorizedKeysFiles = lib.mkForce [ "/nowhere" ];',
}

# As where a file system can't be mounted: systemd keeps hardly more than itself.
STOPS_EVERYTHING = """
  systemd.services.mishap = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig.Type = "oneshot";
    script = "systemctl isolate emergency.target";
  };
"""

HANGS = {
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


def moved(here: str, there: str) -> str:
    """Lines of Nix with which a machine changes its address."""
    return f"""
      systemd.services.move = {{
        wantedBy = [ "multi-user.target" ];
        serviceConfig.Type = "oneshot";
        serviceConfig.RemainAfterExit = true;
        path = [ pkgs.iproute2 ];
        script = "ip address delete {here}/24 dev eth0; ip address replace {there}/24 dev eth0";
        preStop = "ip address delete {there}/24 dev eth0; ip address replace {here}/24 dev eth0";
      }};
    """


@pytest.fixture(scope="module")
def target(machine: MachineFactory) -> Machine:
    """One machine for all tests: each compares with what it found."""
    return machine("target")


@pytest.fixture(scope="module")
def systems(target: Machine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All systems by their names; a settled one runs."""
    described = {
        # Apart from that the unit "one" is the same in all of these.
        **{name: (f'environment.etc.settled.text = "{name}";', "settled") for name in SETTLED},
        **{how: (config, "settled") for how, config in LOCKED_OUT.items()},
        **HANGS,
        "no sshd": NO_SSHD,
        "hangs once": 'system.activationScripts.hang = "if test -e /run/hang; then sleep 1000000; fi";',
        "tested": "",
        "moved": moved(target.address, target.address.rpartition(".")[0] + ".200"),
        "no root": 'environment.etc."sudoers.d/zz".text = "deploy ALL=(ALL:ALL) !ALL\\n";',
        "stops everything": STOPS_EVERYTHING,
    }
    return provide(target, tmp_path_factory.mktemp("systems"), described)


@pytest.fixture
def controller(target: Machine) -> Iterator[Controller]:
    """A controller that gives a connection up after a second."""
    with controlled(target, connect_timeout=1) as controller:
        yield controller


@pytest.fixture
def before(controller: Controller, systems: dict[str, str]) -> dict[str, Any]:
    """What was seen on the machine, which runs a settled system."""
    return settle(controller, systems)


@pytest.fixture
def network(target: Machine, project: Project) -> Network:
    """A network of the machine; its key is not used, so that the fleet's is the only way in."""
    return Network(project, target, where={"target": "deployment.provisionSSHKey = false;"})


def as_before(target: Machine, before: dict[str, Any]) -> dict[str, Any]:
    """The machine is what it was, asked past its network, and can be reached; :returns: what it is."""
    after = target.inspect()
    same = ("running", "profile", "generation", "boot_default", "booted", "failed_units", "boot_id", "system_state")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert left_over(after) == []
    assert target.ssh("true").returncode == 0
    return after


@pytest.mark.parametrize("how", LOCKED_OUT)
def test_a_configuration_that_locks_out_is_undone_by_the_machine(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell, how: str
) -> None:
    message = controller.activate(systems[how], confirm_timeout=4).undone
    assert "nobody got in over a new connection within 4 seconds" in message
    assert f"State: it {in_words(before['running'], before['boot_default'])}" in message
    after = as_before(target, before)

    assert controller.activate(other(systems, before["running"])).done.changed
    tell(how, before, after, says=message, then="succeeds")


def test_a_deploy_that_locks_out_is_undone_by_the_machine(
    target: Machine, before: dict[str, Any], network: Network, tell: Tell
) -> None:
    network.define(f"imports = [ ({{ lib, ... }}: {{ {NO_SSHD} }}) ];", one="no sshd")
    undone = network.deploy(*SOON)
    assert undone.exit_code == 2, undone.output
    answer = undone.of(ACTIVATE)
    assert answer["rolled_back"]
    assert "nobody got in over a new connection within 4 seconds" in answer["msg"]
    assert "gone back to what ran before" in answer["msg"]
    assert f"State: it {in_words(before['running'], before['boot_default'])}" in answer["msg"]
    after = as_before(target, before)

    network.define(one="uno")
    assert network.deployed().statuses(ACTIVATE) == {"target": "changed"}
    tell("sshd is gone", before, after, says=answer["msg"], then="succeeds")


def test_a_user_who_can_no_longer_become_root(machine: MachineFactory, systems: dict[str, str], tell: Tell) -> None:
    deployed = machine("deployed", user="deploy")
    with controlled(deployed, become=True, connect_timeout=1) as controller:
        bring(controller, {name: systems[name] for name in (*SETTLED, "no root")})
        before = deployed.inspect()
        message = controller.activate(systems["no root"], confirm_timeout=4).undone
    after = as_before(deployed, before)
    assert deployed.ssh("sudo -n true").returncode == 0
    tell("the SSH user can no longer become root", before, after, says=message)


def test_an_address_that_is_not_the_networks(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell
) -> None:
    message = controller.activate(systems["moved"], confirm_timeout=4).undone
    tell("its address is another than the network says", before, as_before(target, before), says=message)


def test_another_machine_that_answers_at_the_address_of_the_network(
    target: Machine, machine: MachineFactory, network: Network
) -> None:
    network.deployed()
    neighbour, before = machine("neighbour"), target.inspect()
    place = network.project.directory / "example-target.nix"
    place.write_text(place.read_text().replace(target.address, neighbour.address))
    network.define(one="eins")
    with untouched(neighbour):
        undone = network.deploy(*SOON)
    assert undone.exit_code == 2, undone.output
    message = undone.of(ACTIVATE)["msg"]
    assert "another machine answers there" in message
    assert f"State: it {in_words(before['running'], before['boot_default'])}" in message
    as_before(target, before)


def test_what_ran_before_was_no_generation(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    assert controller.activate(systems["tested"], action="test").done.changed
    tested = target.inspect()
    assert stands(tested) == (systems["tested"], before["running"], before["running"])
    assert controller.activate(systems["no sshd"], confirm_timeout=4).undone
    as_before(target, tested)


def test_a_connection_that_a_user_ended_is_no_way_in_that_is_missing(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    # As systemd 256 names a connection over its local socket.
    target.run("systemd-run --collect --unit=sshd-unix-test@1.service sleep 1000")
    running = controller.start(systems["no sshd"], confirm_timeout=4)
    running.read_until("waiting to be reached over a new connection...")
    target.run("systemctl stop sshd-unix-test@1.service")
    ran = running.finish()
    assert ran.activation is not None and ran.activation.rolled_back == "yes", ran
    as_before(target, before)


def test_the_same_system_again(target: Machine, controller: Controller, before: dict[str, Any]) -> None:
    again = controller.activate(before["running"]).done
    assert again.exit_code == 0 and not again.changed
    as_before(target, before)


def cut_off(target: Machine, seconds: float) -> threading.Timer:
    """Take the link down; it comes up again by itself."""
    target.link_down()
    timer = threading.Timer(seconds, target.link_up)
    timer.start()
    return timer


def test_a_link_that_is_down_for_too_long(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell
) -> None:
    running = controller.start(other(systems, before["running"]), confirm_timeout=4)
    running.read_until("setting up tmpfiles")
    timer = cut_off(target, 8)
    message = running.finish().undone
    timer.join()
    tell("the link is down for longer than it waits", before, as_before(target, before), says=message)


def test_a_link_that_is_back_in_time(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell
) -> None:
    new = other(systems, before["running"])
    running = controller.start(new)
    running.read_until("setting up tmpfiles")
    timer = cut_off(target, 5)
    outcome = running.finish()
    timer.join()
    assert outcome.done.changed
    after = target.inspect()
    assert stands(after) == (new, new, new)
    assert left_over(after) == []
    tell("the link is down for a shorter time than it waits", before, after, says=outcome.says)


def test_a_machine_that_is_cut_off_from_power_before_it_was_acknowledged_boots_what_ran_before(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    running = controller.start(systems["no sshd"])
    running.read_until("waiting to be reached over a new connection...")
    target.power_cut()
    target.wait_up()
    assert "the machine was rebooted during the activation" in running.finish().failed
    after = target.inspect()
    assert stands(after) == (before["running"],) * 3
    assert after["generation"] == before["generation"]
    assert controller.activate(other(systems, before["running"])).done.changed


def test_a_machine_that_is_rebooted_before_a_deploy_acknowledged_it_boots_what_ran_before(
    target: Machine, before: dict[str, Any], network: Network
) -> None:
    network.define(f"imports = [ ({{ lib, ... }}: {{ {NO_SSHD} }}) ];", one="no sshd")
    run = network.start("-e", "deploy_confirm_timeout=60", "-e", "ansible_timeout=2")
    seen = read_until(run, "target> waiting to be reached over a new connection...")
    target.reboot()
    outcome = network.project.finish(run, seen)
    assert outcome.exit_code == 2, outcome.output
    assert "the machine was rebooted during the activation" in outcome.of(ACTIVATE)["msg"]
    after = target.inspect()
    assert stands(after) == (before["running"],) * 3
    assert after["generation"] == before["generation"]
    network.define(one="uno")
    again = network.deployed()
    assert again.statuses(ACTIVATE) == {"target": "changed"}
    # The run before has said it, and recorded it.
    assert "an earlier activation" not in again.output
    assert again.of(INFO)["state"]["activations"][0]["rolled_back"]


def test_a_target_that_stops_everything(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell
) -> None:
    message = controller.activate(systems["stops everything"], confirm_timeout=4).undone
    # All of it was stopped, and is started once more.
    target.wait_up()
    tell("systemd goes into its emergency mode", before, as_before(target, before), says=message)


def test_only_what_was_changed_is_put_back(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    pids = main_pids(target, "one", "two", "sshd")
    assert controller.activate(systems["sshd has moved"], confirm_timeout=4).undone
    now = main_pids(target, "one", "two", "sshd")
    assert (now["one"], now["two"]) == (pids["one"], pids["two"])
    assert now["sshd"] != pids["sshd"]


def test_rollback_can_be_left_out(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    new = systems["sshd has moved"]
    ran = controller.activate(new, rollback="never")
    assert ran.done.changed
    # Nobody is waited for.
    assert "waiting to be reached over a new connection..." not in ran.lines
    try:
        assert standing(target) == (new, new, new)
    finally:
        back = before["running"]
        target.run(f"nix-env -p /nix/var/nix/profiles/system --set {back}; {back}/bin/switch-to-configuration switch")


@pytest.mark.parametrize("what", HANGS)
def test_a_switch_that_hangs(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell, what: str
) -> None:
    message = controller.activate(systems[what], switch_timeout=5).undone
    assert "the switch did not end in time" in message
    tell(f"{what} hangs", before, as_before(target, before), says=message)


def test_going_back_that_hangs(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell
) -> None:
    old = systems["hangs once"]
    assert controller.activate(old).done.changed
    before = target.inspect()
    running = controller.start(systems["no sshd"], confirm_timeout=4, switch_timeout=8)
    running.read_until("waiting to be reached over a new connection...")
    boots = boots_of(target)
    target.run("touch /run/hang")
    message = running.finish().failed
    wait_for(lambda: boots_of(target) > boots, "the machine was rebooted")
    target.wait_up()
    after = target.inspect()
    assert stands(after) == (old, old, old)
    assert left_over(after) == []
    assert controller.activate(other(systems, before["running"])).done.changed
    tell("sshd is gone, and going back hangs", before, after, says=message, then="succeeds")


# Takes all that is left of /run: its inodes or its memory.
EXHAUST = {
    "inodes": "mount -o remount,nr_inodes=$(($(df --output=iused /run | tail -n 1))) /run;"
    " i=0; while touch /run/full-$i 2>/dev/null; do i=$((i + 1)); done; true",
    "memory": "mount -o remount,size=8M /run; head -c 20000000 /dev/zero >/run/full-0 2>/dev/null; true",
}


def give_back(target: Machine) -> None:
    """Give a machine back what was taken of its /run."""
    target.run("mount -o remount,nr_inodes=800000,size=1G /run; rm -f /run/full-*")


@pytest.mark.parametrize("what", EXHAUST)
def test_a_run_directory_that_is_full(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell, what: str
) -> None:
    # The machine was reached, and its acknowledgement follows.
    checks = {"commands": [EXHAUST[what]], "deadline": 5}
    new = other(systems, before["running"])
    try:
        ran = controller.activate(new, confirm_timeout=4, health_checks=checks)
        # The lock is free.
        assert target.run("systemctl is-active nix-ops-activation.service", check=False).stdout == "inactive\n"
    finally:
        give_back(target)
    if what == "inodes":
        assert "the acknowledgement could not be written to /run on the machine" in ran.undone
        assert "Next: Free room there" in ran.undone
        after = as_before(target, before)
    else:
        # A decision takes no memory of its own.
        assert ran.done.exit_code == 0
        after = target.inspect()
        assert stands(after) == (new, new, new)
        assert left_over(after) == []
    assert controller.activate(other(systems, after["running"])).done.changed
    tell(f"/run has no {what} left", before, after, says=ran.says, then="succeeds")


def test_files_of_the_activation_that_are_removed(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell
) -> None:
    # Over a connection that was there before.
    controller.standing()
    running = controller.start(systems["no sshd"], confirm_timeout=10)
    running.read_until("waiting to be reached over a new connection...")
    target.run("rm -r /run/nix-ops-*")
    busy = controller.activate(other(systems, before["running"])).failed
    assert "another activation is at work on the machine" in busy
    message = running.finish().undone
    assert "the files of the activation were removed from /run on the machine" in message
    assert f"State: it {in_words(before['running'], before['boot_default'])}" in message
    after = as_before(target, before)
    assert controller.activate(other(systems, before["running"])).done.changed
    tell("the files of the activation are removed, and sshd is gone", before, after, says=message, then="succeeds")


def test_a_disk_that_is_full(machine: MachineFactory, project: Project, tell: Tell) -> None:
    small = machine("small", store_mib=96)
    network = Network(project, small, where={"small": "deployment.provisionSSHKey = false;"})
    before = small.inspect()
    # Once all is there, and before the profile is set.
    fill = "head -c 200000000 /dev/zero >/nix/full 2>/dev/null || :"
    network.define(f'system.activationScripts.fill = "{fill}";')
    run = network.deploy()
    assert run.exit_code == 2, run.output
    message = str(run.of(ACTIVATE)["msg"])
    assert "the profile could not be set" in message
    assert re.search("disk is full|No space left on device|disk I/O error", run.output)
    assert "Next: Free room on the machine" in message
    after = small.inspect()
    # What was acknowledged runs on; a reboot brings back what boots.
    assert after["running"] == run.of(ACTIVATE)["toplevel"] != before["running"]
    assert (after["profile"], after["boot_default"]) == (before["profile"], before["boot_default"])
    assert f"State: it {in_words(after['running'], before['boot_default'])}" in message
    assert small.ssh("true").returncode == 0
    assert after["leftovers"] == [COPIED]
    small.run("rm /nix/full")
    network.define(one="room")
    network.deployed()
    tell("the disk is full", before, after, says=message, then="succeeds")


def test_a_clock_that_is_wrong(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell
) -> None:
    # The clock of the kernel is the host's as well, so it is what the machine's programs are told that is wrong.
    target.run("cat >/usr/local/bin/date; chmod +x /usr/local/bin/date", stdin=b"#!/bin/sh\necho 86400\n")
    try:
        target.run("mkdir /run/nix-ops-future /run/nix-ops-past; touch -d '2099-01-01' /run/nix-ops-future")
        target.run("touch -d '1970-01-02' /run/nix-ops-past")
        message = controller.activate(systems["no sshd"], confirm_timeout=4).undone
        target.run("rmdir /run/nix-ops-future")
        after = as_before(target, before)
        new = other(systems, before["running"])
        assert controller.activate(new).done.changed
        assert standing(target) == (new, new, new)
    finally:
        target.run("rm /usr/local/bin/date")
    tell("the machine's clock is wrong, and sshd is gone", before, after, says=message, then="succeeds")
