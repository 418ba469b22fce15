# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deploy that reboots: when it is needed, proven by the machine, and undone where nobody gets in afterwards."""

from __future__ import annotations

import subprocess

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.faults import Tell
from integration.networks import ACTIVATE, Network, standing
from integration.outside import COPIED, boots_of, processes_of
from integration.project import Project
from integration.tasks import read_until, wait_for

pytestmark = pytest.mark.one_pair

OTHER_KERNEL = "boot.kernelPackages = pkgs.linuxPackages_latest;"
DONE = "target: activation finished successfully"
WHEN_NEEDED = ("-e", "deploy_reboot=when_needed")

# The machine waits so long after its reboot.
SOON = ("-e", "deploy_reboot_timeout=12", "-e", "ansible_timeout=2")

# What does harm where this system was booted, and none where it was switched to.
AT_BOOT = """
  systemd.services.mishap = {{
    wantedBy = [ "multi-user.target" ];
    serviceConfig.Type = "oneshot";
    script = "[ $(readlink -f /run/booted-system) != $(readlink -f /run/current-system) ] || {}";
  }};
"""


@pytest.fixture(scope="module")
def target(machine: MachineFactory) -> Machine:
    """One machine for all reboots: each test compares with what it found."""
    return machine("target")


@pytest.fixture
def network(target: Machine, project: Project) -> Network:
    """A network whose machine has booted what it says; its key is not used."""
    network = Network(project, target, where={"target": "deployment.provisionSSHKey = false;"})
    network.deployed(*WHEN_NEEDED)
    if target.inspect()["booted"] != standing(target)[0]:
        network.deployed("-e", "deploy_reboot=always")
    assert standing(target) == (target.inspect()["booted"],) * 3
    return network


def rebooted(target: Machine, before: dict[str, object], new: str) -> None:
    """The machine has booted a system, keeps it, and has nothing left over."""
    wait_for(lambda: "nix-ops-boot-guard.service" not in target.inspect()["leftovers"], "its boot guard has ended")
    after = target.inspect()
    assert after["boot_id"] != before["boot_id"]
    assert (after["booted"], *standing(target)) == (new,) * 4
    assert (after["leftovers"], after["failed_units"]) == ([COPIED], [])
    assert target.run(["ls", "-A", "/nix/var/nix/nix-ops"]).stdout.split() == ["last-activation", "records"]


def as_before(target: Machine, before: dict[str, object]) -> None:
    """The machine has booted what it had booted before, and can be reached."""
    after = target.inspect()
    assert after["boot_id"] != before["boot_id"]
    same = ("running", "booted", "profile", "generation", "boot_default", "failed_units", "system_state")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["leftovers"] == [COPIED]
    assert target.ssh("true").returncode == 0


def test_a_new_kernel(target: Machine, network: Network) -> None:
    before = target.inspect()
    network.define(OTHER_KERNEL)
    deploy = network.deployed(*WHEN_NEEDED)
    answer = deploy.of(ACTIVATE)
    assert answer["rebooted"] and not answer["reboot_needed"]
    assert answer["acknowledged"] == {"address": target.address, "port": 22}
    rebooted(target, before, answer["toplevel"])
    assert deploy.lines("target").index("rebooting...") < deploy.lines("target").index("it has booted the new system")
    assert not network.deployed(*WHEN_NEEDED).changed


def test_a_reboot_that_is_needed_and_not_wanted_is_told_and_made_up_for(target: Machine, network: Network) -> None:
    before = target.inspect()
    network.define(f'{OTHER_KERNEL} environment.etc.note.text = "later";')
    assert "a reboot will be needed for: kernel" in network.deployed("--check", "--diff").output
    answer = network.deployed().of(ACTIVATE)
    assert (answer["rebooted"], answer["reboot_needed"]) == (False, True)
    assert target.inspect()["boot_id"] == before["boot_id"]
    assert network.deployed("--check", *WHEN_NEEDED).of(ACTIVATE)["changed"]
    assert target.inspect()["boot_id"] == before["boot_id"]
    network.deployed(*WHEN_NEEDED)
    rebooted(target, before, answer["toplevel"])


def test_what_needs_no_reboot_is_not_rebooted(target: Machine, network: Network) -> None:
    before = target.inspect()
    network.define(one="uno")
    assert not network.deployed(*WHEN_NEEDED).of(ACTIVATE)["rebooted"]
    assert target.inspect()["boot_id"] == before["boot_id"]


def test_always(target: Machine, network: Network) -> None:
    before = target.inspect()
    again = network.deployed("-e", "deploy_reboot=always")
    assert again.of(ACTIVATE)["rebooted"] and again.changed
    rebooted(target, before, before["running"])


# Systems that a switch is refused to, and what the deploy says without a reboot.
ONLY_BOOT = {
    "the init interface": ("systemd.package = pkgs.systemd // { interfaceVersion = 3; };", 100),
    "an inhibitor": ('system.switch.inhibitors.bus = "another";', 1),
}


@pytest.mark.parametrize("what", ONLY_BOOT)
def test_a_system_that_only_a_reboot_starts(target: Machine, network: Network, what: str) -> None:
    config, exit_code = ONLY_BOOT[what]
    network.define('system.switch.inhibitors.bus = "one";')
    network.deployed(*WHEN_NEEDED)
    before = target.inspect()
    network.define(config)
    refused = network.deploy()
    assert refused.exit_code == 2
    assert refused.of(ACTIVATE)["exit_code"] == exit_code
    assert "when_needed" in refused.of(ACTIVATE)["msg"]
    assert target.inspect() == {**before, "leftovers": [COPIED]}

    answer = network.deployed(*WHEN_NEEDED).of(ACTIVATE)
    assert answer["rebooted"]
    rebooted(target, before, answer["toplevel"])


def test_boot_and_reboot(target: Machine, network: Network) -> None:
    before = target.inspect()
    network.define(one="due")
    answer = network.deployed("-e", "deploy_action=boot", *WHEN_NEEDED).of(ACTIVATE)
    assert answer["rebooted"]
    rebooted(target, before, answer["toplevel"])


def test_a_system_that_locks_out_once_it_is_booted(target: Machine, network: Network, tell: Tell) -> None:
    before = target.inspect()
    network.define(OTHER_KERNEL + AT_BOOT.format("systemctl stop sshd"), one="tre")
    run = network.deploy(*WHEN_NEEDED, *SOON, timeout=180)
    assert run.exit_code == 2, run.output
    answer = run.of(ACTIVATE)
    assert "so the machine has booted back" in answer["msg"]
    assert f"State: it runs {before['running']}, boots {before['running']}" in answer["msg"]
    assert answer["rolled_back"] and not answer["rebooted"]
    as_before(target, before)
    after = target.inspect()
    network.define(one="mended")
    network.deployed(*WHEN_NEEDED)
    tell("a new kernel's system locks out once it is booted", before, after, says=answer["msg"], then="succeeds")


def test_a_system_that_is_ill_once_it_is_booted(target: Machine, network: Network, tell: Tell) -> None:
    before = target.inspect()
    ill = 'deployment.healthChecks = { commands = [ "test ! -e /run/ill" ]; deadline = 2; };'
    network.define(OTHER_KERNEL + ill + AT_BOOT.format("touch /run/ill"), one="quattro")
    run = network.deploy(*WHEN_NEEDED, timeout=180)
    assert run.exit_code == 2, run.output
    answer = run.of(ACTIVATE)
    assert "its health checks failed after the reboot: command 'test ! -e /run/ill': exit code 1" in answer["msg"]
    assert "so the machine has booted back" in answer["msg"]
    as_before(target, before)
    tell("a new kernel's system is ill once it is booted", before, target.inspect(), says=answer["msg"])


def kill(run: subprocess.Popen[str], network: Network) -> None:
    """Kill a controller, and wait until nothing of it is left."""
    run.kill()
    network.project.finish(run, [])
    wait_for(lambda: not processes_of(network.project), "no process of the run is left")


def hold(network: Network, target: Machine) -> None:
    """Define a system that needs a reboot, which the machine holds up as long as it has a file."""
    gate = "until [ ! -e /run/gate ]; do sleep 0.1; done"
    network.define(
        f"""
          {OTHER_KERNEL}
          systemd.services.gate = {{
            wantedBy = [ "multi-user.target" ];
            script = "exec sleep 1000000";
            serviceConfig.ExecStop = "${{pkgs.writeShellScript "gate" ": >/run/at-gate; {gate}"}}";
          }};
        """,
        one="held",
    )
    target.run("rm -f /run/at-gate; touch /run/gate")


def test_a_controller_that_is_killed_while_the_machine_reboots(target: Machine, network: Network, tell: Tell) -> None:
    before = target.inspect()
    hold(network, target)
    run = network.start(*WHEN_NEEDED, *SOON)
    wait_for(lambda: target.run("test -e /run/at-gate", check=False).returncode == 0, "it goes down", 40)
    kill(run, network)
    boots = boots_of(target)
    target.run("rm /run/gate")
    # It boots the new system, waits for nobody, and boots back.
    wait_for(lambda: boots_of(target) == boots + 2, "it has booted twice", 60)
    target.wait_up()
    as_before(target, before)
    tell("the controller is killed while the machine reboots into a new kernel", before, target.inspect())


def test_a_run_that_goes_on_where_the_killed_one_was(target: Machine, network: Network) -> None:
    before = target.inspect()
    hold(network, target)
    run = network.start(*WHEN_NEEDED)
    wait_for(lambda: target.run("test -e /run/at-gate", check=False).returncode == 0, "it goes down", 40)
    kill(run, network)
    boots = boots_of(target)
    target.run("rm /run/gate")
    wait_for(lambda: boots_of(target) == boots + 1, "it has booted", 40)
    target.wait_up()
    again = network.deployed(*WHEN_NEEDED)
    assert "it has booted this system for the first time, and waits to be reached" in again.output
    rebooted(target, before, standing(target)[0])


def test_nobody_is_there_to_see_the_reboot(target: Machine, network: Network, tell: Tell) -> None:
    before = target.inspect()
    gate = "[ $2 != boot ] || { : >/run/at-gate; while [ -e /run/gate ]; do sleep 0.1; done; }"
    network.define(f'{OTHER_KERNEL} system.preSwitchChecks.gate = "{gate}";', one="alone")
    target.run("rm -f /run/at-gate; touch /run/gate")
    run = network.start(*WHEN_NEEDED, "-e", "deploy_confirm_timeout=2")
    wait_for(lambda: target.run("test -e /run/at-gate", check=False).returncode == 0, "its boot entry is written", 40)
    kill(run, network)
    target.run("rm /run/gate")
    active = ["systemctl", "is-active", "nix-ops-activation.service"]
    wait_for(lambda: target.run(active, check=False).stdout == "inactive\n", "the activation has ended")
    after = target.inspect()
    new = after["running"]
    assert after["boot_id"] == before["boot_id"]
    assert standing(target) == (new,) * 3
    assert target.run(["ls", "-A", "/nix/var/nix/nix-ops"]).stdout.split() == ["last-activation", "records"]
    network.deployed(*WHEN_NEEDED)
    rebooted(target, before, new)
    tell("the controller is killed before a reboot that is needed", before, after, then="reboots")


def test_a_system_without_a_boot_guard_gets_a_warning(target: Machine, network: Network) -> None:
    network.define(f"{OTHER_KERNEL} systemd.services.nix-ops-boot-guard.enable = false;", one="bold")
    before = target.inspect()
    run = network.deployed(*WHEN_NEEDED)
    assert "has no boot guard" in run.output
    rebooted(target, before, run.of(ACTIVATE)["toplevel"])


def test_the_power_is_cut_while_the_machine_goes_down(target: Machine, network: Network, tell: Tell) -> None:
    before = target.inspect()
    hold(network, target)
    run = network.start(*WHEN_NEEDED)
    seen = read_until(run, "rebooting...")
    target.power_cut()
    outcome = network.project.finish(run, seen)
    assert outcome.exit_code == 0, outcome.output
    rebooted(target, before, outcome.of(ACTIVATE)["toplevel"])
    after = target.inspect()
    tell(
        "the power is cut while the machine reboots into a new kernel",
        before,
        after,
        says=DONE,
        then="has nothing to do",
    )


def test_the_power_is_cut_before_anybody_got_in(target: Machine, network: Network, tell: Tell) -> None:
    before = target.inspect()
    ill = 'deployment.healthChecks = { commands = [ "test ! -e /run/ill" ]; deadline = 30; };'
    network.define(OTHER_KERNEL + ill + AT_BOOT.format("touch /run/ill"), one="cut")
    run = network.start(*WHEN_NEEDED, "-e", "ansible_timeout=2")
    seen = read_until(run, "not healthy yet")
    target.power_cut()
    outcome = network.project.finish(run, seen)
    assert outcome.exit_code == 2, outcome.output
    target.wait_up()
    as_before(target, before)
    tell(
        "the power is cut before anybody got into a new kernel's system",
        before,
        target.inspect(),
        says=outcome.of(ACTIVATE)["msg"],
    )
