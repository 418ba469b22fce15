# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deploy that reboots: when it is needed, proven by the machine, and undone where nobody gets in afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.engine import SETTLED, Controller, controlled, other, provide, wait_on
from integration.faults import Tell
from integration.networks import ACTIVATE, INFO, PLAN, Network, standing
from integration.outside import boots_of, in_words, left_over, processes_of, stands
from integration.project import Project
from integration.tasks import wait_for

OTHER_KERNEL = "boot.kernelPackages = pkgs.linuxPackages_latest;"
WHEN_NEEDED = ("-e", "deploy_reboot=when_needed")

# The same for the engine; the machine waits so long after its reboot.
REBOOTS: dict[str, Any] = {"reboot": "when_needed"}
SOON: dict[str, Any] = {**REBOOTS, "reboot_timeout": 12}

# What does harm where this system was booted, and none where it was switched to.
AT_BOOT = """
  systemd.services.mishap = {{
    wantedBy = [ "multi-user.target" ];
    serviceConfig.Type = "oneshot";
    script = "[ $(readlink -f /run/booted-system) != $(readlink -f /run/current-system) ] || {}";
  }};
"""


# What a machine that goes down waits for, as long as it has a file.
GATE = "until [ ! -e /run/gate ]; do sleep 0.1; done"
HELD = f"""
  {OTHER_KERNEL}
  systemd.services.gate = {{
    wantedBy = [ "multi-user.target" ];
    script = "exec sleep 1000000";
    serviceConfig.ExecStop = "${{pkgs.writeShellScript "gate" ": >/run/at-gate; {GATE}"}}";
  }};
"""

# What an activation waits for before its boot entry is written.
ENTRY_HELD = "[ $2 != boot ] || { : >/run/at-gate; while [ -e /run/gate ]; do sleep 0.1; done; }"

# Systems that a switch is refused to, and what the deploy says without a reboot.
ONLY_BOOT = {
    "the init interface": ("systemd.package = pkgs.systemd // { interfaceVersion = 3; };", 100),
    "an inhibitor": ('system.switch.inhibitors.bus = "another";', 1),
}

SYSTEMS = {
    **dict.fromkeys(SETTLED, ""),
    "inhibited": 'system.switch.inhibitors.bus = "one";',
    **{what: config for what, (config, _exit_code) in ONLY_BOOT.items()},
    "locks out": OTHER_KERNEL + AT_BOOT.format("systemctl stop sshd"),
    "ill": OTHER_KERNEL + AT_BOOT.format("touch /run/ill"),
    "held": HELD,
    "alone": f'{OTHER_KERNEL} system.preSwitchChecks.gate = "{ENTRY_HELD}";',
    "bold": f"{OTHER_KERNEL} systemd.services.nix-ops-boot-guard.enable = false;",
}


@pytest.fixture(scope="module")
def target(machine: MachineFactory) -> Machine:
    """One machine for all reboots: each test compares with what it found."""
    return machine("target")


@pytest.fixture(scope="module")
def systems(target: Machine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All systems by their names; a settled one runs."""
    return provide(target, tmp_path_factory.mktemp("systems"), SYSTEMS)


@pytest.fixture
def controller(target: Machine) -> Iterator[Controller]:
    """A controller that gives a connection up after two seconds."""
    with controlled(target, connect_timeout=2) as controller:
        yield controller


@pytest.fixture
def before(target: Machine, controller: Controller, systems: dict[str, str]) -> dict[str, Any]:
    """What was seen on the machine, which has booted a settled system."""
    seen = target.inspect()
    if len({seen["booted"], *stands(seen)}) > 1 or seen["running"] not in [systems[name] for name in SETTLED]:
        assert controller.activate(other(systems, seen["running"]), reboot="always").done.rebooted
        seen = target.inspect()
    return seen


@pytest.fixture
def network(project: Project, before: dict[str, Any], target: Machine) -> Network:
    """A network of the machine; its key is not used."""
    return Network(project, target, where={"target": "deployment.provisionSSHKey = false;"})


def kept(target: Machine) -> list[str]:
    """What the machine keeps of its deployments, beside their records."""
    return [name for name in target.run(["ls", "-A", "/nix/var/nix/nix-ops"]).stdout.split() if name != "records"]


def rebooted(target: Machine, before: dict[str, Any], new: str) -> None:
    """The machine has booted a system, keeps it, and has nothing left over."""
    wait_on(target, "! systemctl is-active nix-ops-boot-guard.service >/dev/null", "its boot guard has ended")
    after = target.inspect()
    assert after["boot_id"] != before["boot_id"]
    assert (after["booted"], *standing(target)) == (new,) * 4
    assert (left_over(after), after["failed_units"]) == ([], [])
    assert kept(target) == ["identity", "last-activation"]


def as_before(target: Machine, before: dict[str, Any]) -> None:
    """The machine has booted what it had booted before, and can be reached."""
    after = target.inspect()
    assert after["boot_id"] != before["boot_id"]
    same = ("running", "profile", "generation", "boot_default", "failed_units", "system_state")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert after["booted"] == after["running"]
    assert left_over(after) == []
    assert target.ssh("true").returncode == 0


def test_a_new_kernel(target: Machine, before: dict[str, Any], network: Network) -> None:
    network.define(OTHER_KERNEL)
    deploy = network.deployed(*WHEN_NEEDED)
    answer = deploy.of(ACTIVATE)
    assert answer["rebooted"] and not answer["reboot_needed"]
    assert answer["acknowledged"] == {"address": target.address, "port": 22}
    rebooted(target, before, answer["toplevel"])
    assert deploy.lines("target").index("rebooting...") < deploy.lines("target").index("it has booted the new system")
    assert not network.deployed(*WHEN_NEEDED).changed


def test_a_reboot_that_is_needed_and_not_wanted_is_told_and_made_up_for(
    target: Machine, before: dict[str, Any], network: Network
) -> None:
    network.define(f'{OTHER_KERNEL} environment.etc.note.text = "later";')
    assert "a reboot will be needed for: kernel" in network.deployed("--check", "--diff").output
    answer = network.deployed().of(ACTIVATE)
    assert (answer["rebooted"], answer["reboot_needed"]) == (False, True)
    assert target.inspect()["boot_id"] == before["boot_id"]
    assert network.deployed("--check", *WHEN_NEEDED).of(PLAN)["machines"]["target"]["reboot"][0] == "kernel"
    assert target.inspect()["boot_id"] == before["boot_id"]
    network.deployed(*WHEN_NEEDED)
    rebooted(target, before, answer["toplevel"])
    # It runs and boots that already.
    again = network.deployed("-e", "deploy_reboot=always")
    assert again.of(ACTIVATE)["rebooted"] and again.changed
    # Each of the three deploys is remembered once, as what it was. Other tests may have deployed before.
    remembered = network.deployed().of(INFO)["state"]["activations"]
    assert [one["action"] for one in remembered[:3]] == ["switch"] * 3
    assert len({one["time"] for one in remembered}) == len(remembered)


def test_what_needs_no_reboot_is_not_rebooted(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    assert not controller.activate(other(systems, before["running"]), **REBOOTS).done.rebooted
    assert target.inspect()["boot_id"] == before["boot_id"]


def test_always(target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]) -> None:
    new = other(systems, before["running"])
    assert controller.activate(new, reboot="always").done.rebooted
    rebooted(target, before, new)


@pytest.mark.parametrize("what", ONLY_BOOT)
def test_a_system_that_only_a_reboot_starts(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], what: str
) -> None:
    # A switch compares inhibitors, so the running system has to have one too.
    assert controller.activate(systems["inhibited"], **REBOOTS).message is None
    before = target.inspect()
    refused = controller.activate(systems[what])
    assert "when_needed" in refused.failed
    assert refused.activation is not None and refused.activation.exit_code == ONLY_BOOT[what][1]
    assert target.inspect() == before

    assert controller.activate(systems[what], **REBOOTS).done.rebooted
    rebooted(target, before, systems[what])


def test_boot_and_reboot(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    new = other(systems, before["running"])
    assert controller.activate(new, action="boot", **REBOOTS).done.rebooted
    rebooted(target, before, new)


def test_a_system_that_locks_out_once_it_is_booted(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell
) -> None:
    ran = controller.activate(systems["locks out"], **SOON)
    assert "so the machine has booted back" in ran.failed
    assert f"State: it {in_words(before['running'], before['running'])}" in ran.failed
    assert ran.activation is not None
    assert (ran.activation.rolled_back, ran.activation.rebooted) == ("reboot", False)
    as_before(target, before)
    after = target.inspect()
    assert controller.activate(other(systems, before["running"]), **REBOOTS).done.changed
    tell(
        "a system with a new kernel locks everybody out after the reboot",
        before,
        after,
        says=ran.failed,
        then="succeeds",
    )


ILL = {"commands": ["test ! -e /run/ill"]}


def test_a_system_that_is_ill_once_it_is_booted(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell
) -> None:
    message = controller.activate(systems["ill"], health_checks={**ILL, "deadline": 2}, **REBOOTS).failed
    assert "its health checks failed after the reboot: command 'test ! -e /run/ill': exit code 1" in message
    assert "so the machine has booted back" in message
    as_before(target, before)
    tell("a system with a new kernel fails its health checks after the reboot", before, target.inspect(), says=message)


def close_gate(target: Machine) -> None:
    """Have what comes to the gate wait there."""
    target.run("rm -f /run/at-gate; touch /run/gate")


def wait_at_gate(target: Machine) -> None:
    """Wait until something waits at the gate."""
    wait_on(target, "[ -e /run/at-gate ]", "something waits at the gate")


def test_a_controller_that_is_killed_while_the_machine_reboots(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell
) -> None:
    close_gate(target)
    running = controller.start(systems["held"], **SOON)
    wait_at_gate(target)
    running.kill()
    boots = boots_of(target)
    target.run("rm /run/gate")
    # It boots the new system, waits for nobody, and boots back.
    wait_for(lambda: boots_of(target) == boots + 2, "it has booted twice", 60)
    target.wait_up()
    as_before(target, before)
    tell("the controller is killed while the machine reboots into a new kernel", before, target.inspect())


def kill(run: subprocess.Popen[str], network: Network) -> None:
    """Kill a deploy, and wait until nothing of it is left."""
    run.kill()
    network.project.finish(run, [])
    wait_for(lambda: not processes_of(network.project), "no process of the run is left")


def test_a_deploy_that_goes_on_where_the_killed_one_was(
    target: Machine, before: dict[str, Any], network: Network
) -> None:
    network.define(HELD, one="deployed")
    close_gate(target)
    run = network.start(*WHEN_NEEDED)
    wait_at_gate(target)
    kill(run, network)
    boots = boots_of(target)
    target.run("rm /run/gate")
    wait_for(lambda: boots_of(target) == boots + 1, "it has booted", 40)
    target.wait_up()
    again = network.deployed(*WHEN_NEEDED)
    assert "it has booted this system for the first time, and waits to be reached" in again.output
    rebooted(target, before, standing(target)[0])


def test_nobody_is_there_to_see_the_reboot(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell
) -> None:
    new = systems["alone"]
    close_gate(target)
    # A busy computer needs a while to get in.
    running = controller.start(new, confirm_timeout=8, **REBOOTS)
    wait_at_gate(target)
    running.kill()
    target.run("rm /run/gate")
    active = "systemctl is-active nix-ops-activation.service >/dev/null"
    wait_on(target, f"! {active}", "the activation has ended")
    after = target.inspect()
    assert after["boot_id"] == before["boot_id"]
    assert stands(after) == (new,) * 3
    assert kept(target) == ["identity", "last-activation"]
    # As a deploy does where a machine stands at its system and only has to boot it.
    assert controller.activate(new, action="boot", reboot="always").done.rebooted
    rebooted(target, before, new)
    tell("the controller is killed before a reboot that is needed", before, after, then="reboots")


def test_a_system_without_a_boot_guard_gets_a_warning(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    ran = controller.activate(systems["bold"], **REBOOTS)
    assert ran.done.rebooted
    assert any("has no boot guard" in line for line in ran.lines)
    rebooted(target, before, systems["bold"])


def test_the_power_is_cut_while_the_machine_goes_down(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell
) -> None:
    close_gate(target)
    running = controller.start(systems["held"], **REBOOTS)
    running.read_until("rebooting...")
    target.power_cut()
    outcome = running.finish()
    assert outcome.done.rebooted
    rebooted(target, before, systems["held"])
    after = target.inspect()
    # It stands where it shall, and has nothing to boot back from.
    found = controller.standing()
    assert found.stands_at(systems["held"], "switch") and not found.on_trial and not found.reboot_parts
    tell(
        "the power is cut while the machine reboots into a new kernel",
        before,
        after,
        says=outcome.says,
        then="has nothing to do",
    )


def test_the_power_is_cut_before_anybody_got_in(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell
) -> None:
    running = controller.start(systems["ill"], health_checks={**ILL, "deadline": 30}, **REBOOTS)
    running.read_until("not healthy yet")
    target.power_cut()
    message = running.finish().failed
    target.wait_up()
    as_before(target, before)
    tell(
        "the power is cut before the controller reaches a system with a new kernel",
        before,
        target.inspect(),
        says=message,
    )
