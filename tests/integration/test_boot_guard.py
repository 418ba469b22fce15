# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first boot of a new system can't lock anybody out: where nobody acknowledges it, the machine goes back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.engine import SETTLED, Controller, bring, build_systems, controlled, settle
from integration.networks import standing
from integration.outside import boots_of
from integration.tasks import wait_for

TRIAL = "/nix/var/nix/nix-ops/trial"
PROFILE = "/nix/var/nix/profiles/system"
UNIT = "nix-ops-boot-guard.service"
OTHER_KERNEL = "boot.kernelPackages = pkgs.linuxPackages_latest;"

# A new system writes down when it is booted.
NOTED = 'system.activationScripts.noted = "echo $systemConfig >>/var/lib/booted";'


# What keeps the machine from being reached after its reboot.
UNREACHABLE = {
    "sshd lets nobody in": 'services.openssh.extraConfig = "DenyUsers root";',
    "sshd is gone": "services.openssh.enable = lib.mkForce false;",
    "everything is stopped": """
      systemd.services.mishap = {
        wantedBy = [ "multi-user.target" ];
        serviceConfig.Type = "oneshot";
        script = "systemctl --no-block isolate emergency.target";
      };
    """,
    # As where a file system can't be mounted.
    "it gets no further than to an emergency": """
      systemd.services.mishap = {
        requiredBy = [ "local-fs.target" ];
        before = [ "local-fs.target" ];
        unitConfig.DefaultDependencies = false;
        serviceConfig.Type = "oneshot";
        script = "exit 1";
      };
    """,
}


@pytest.fixture(scope="module")
def target(machine: MachineFactory) -> Machine:
    """One machine for all boots: each test compares with what it found."""
    return machine("target")


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All systems by their names."""
    new = {how: f"{OTHER_KERNEL} {NOTED} {config}" for how, config in {"new": "", **UNREACHABLE}.items()}
    return build_systems(tmp_path_factory.mktemp("systems"), {**dict.fromkeys(SETTLED, ""), **new})


@pytest.fixture(scope="module")
def brought(target: Machine, systems: dict[str, str]) -> None:
    """All systems are on the machine."""
    with controlled(target) as controller:
        bring(controller, systems)


@pytest.fixture
def controller(target: Machine, brought: None) -> Iterator[Controller]:
    """A controller of the machine."""
    with controlled(target, connect_timeout=2) as controller:
        yield controller


@dataclass
class Trial:
    """A new system that is to be booted for the first time."""

    target: Machine
    before: dict[str, Any]
    boots: int
    new: str

    def write(self, seconds: int, *, new: str = "", old: str = "", generation: str = "") -> None:
        """Leave what the guard is told, as just before the reboot."""
        old, generation = old or str(self.before["running"]), generation or str(self.before["generation"])
        line = f"{new or self.new} {old} {generation} {seconds} {PROFILE}\n"
        self.target.run(f"umask 077; cat >{TRIAL}", stdin=line.encode())

    def gone_back(self, *, boots: int = 1, generation: int | None = None) -> None:
        """The machine is what it was, by itself, and can be reached.

        :param boots: how often it has booted the new system before.
        """
        # What is run on a machine that goes down is in its way.
        wait_for(lambda: boots_of(self.target) == self.boots + boots + 1, "it has gone back", 90)
        self.target.wait_up()
        after = self.target.inspect()
        assert after["booted"] == after["running"]
        same = ("running", "profile", "boot_default", "failed_units", "system_state")
        assert {name: after[name] for name in same} == {name: self.before[name] for name in same}
        assert after["generation"] == (generation or self.before["generation"])
        assert after["leftovers"] == []
        assert files(self.target) == ["last-activation"]
        assert self.target.run(["cat", "/var/lib/booted"]).stdout.split() == [self.new] * boots
        last = self.target.run(["cat", "/nix/var/nix/nix-ops/last-activation"]).stdout.split()
        assert (last[1], last[-1]) == (self.new, "reboot")


def files(target: Machine) -> list[str]:
    """What the machine keeps of its deployments, beside its id."""
    return target.run(["ls", "-A", "--ignore=identity", "/nix/var/nix/nix-ops"]).stdout.split()


def begin(controller: Controller, systems: dict[str, str], how: str = "new") -> Trial:
    """Make a new system what the machine boots next."""
    target = controller.target
    # What an earlier test has left behind.
    target.run(f"rm -f /var/lib/booted {TRIAL}* /nix/var/nix/nix-ops/boot-unfinished; systemctl reset-failed")
    before, new = settle(controller, systems), systems[how]
    assert controller.activate(new, action="boot").done.changed
    assert standing(target) == (before["running"], new, new)
    return Trial(target, before, boots_of(target), new)


@pytest.mark.parametrize("how", UNREACHABLE)
def test_a_new_system_that_nobody_gets_into_is_undone_by_the_machine(
    target: Machine, systems: dict[str, str], controller: Controller, how: str
) -> None:
    trial = begin(controller, systems, how)
    trial.write(6)
    target.run(["systemctl", "--no-block", "reboot"])
    trial.gone_back()
    # The next one is not held up.
    assert controller.activate(trial.new, action="boot").done.changed


def test_nobody_acknowledges(target: Machine, systems: dict[str, str], controller: Controller) -> None:
    trial = begin(controller, systems)
    # As where what ran before was no generation.
    trial.write(6, generation="-")
    target.run(["systemctl", "--no-block", "reboot"])
    trial.gone_back(generation=trial.before["generation"] + 2)


def test_another_systemd_and_another_nix(machine: MachineFactory, systems: dict[str, str]) -> None:
    target = machine("trixie", debian="trixie")
    with controlled(target) as controller:
        bring(controller, systems)
        trial = begin(controller, systems, "everything is stopped")
        trial.write(6)
        target.run(["systemctl", "--no-block", "reboot"])
        trial.gone_back()


def test_acknowledged_in_time(target: Machine, systems: dict[str, str], controller: Controller) -> None:
    assert controller.confirm_boot("keep") == "none"
    trial = begin(controller, systems)
    trial.write(8)
    assert controller.confirm_boot("keep") == "none"
    target.reboot()
    assert target.run(["systemctl", "is-active", UNIT]).stdout == "active\n"
    assert controller.confirm_boot("keep") == "keep"
    wait_for(lambda: target.run(["systemctl", "is-active", UNIT], check=False).stdout == "inactive\n", "it is over")
    booted = target.inspect()["boot_id"]
    time.sleep(9)
    for _boot in range(2):
        after = target.inspect()
        assert standing(target) == (trial.new,) * 3
        assert (after["leftovers"], after["failed_units"]) == ([], [])
        assert files(target) == ["last-activation"]
        assert controller.confirm_boot("keep") == "none"
        assert after["boot_id"] == booted
        target.reboot()
        booted = target.inspect()["boot_id"]


def test_who_comes_too_late_is_told(target: Machine, systems: dict[str, str], controller: Controller) -> None:
    trial = begin(controller, systems)
    trial.write(600)
    target.reboot()
    # It would go down before it is asked.
    target.run(["systemctl", "kill", "--signal=STOP", UNIT])
    target.run(["ln", "-s", "undo", "/run/nix-ops-boot-decision"])
    assert controller.confirm_boot("keep") == "undo"
    target.run(["systemctl", "kill", "--signal=CONT", UNIT])
    trial.gone_back()


def test_a_machine_that_goes_down_again_before_anybody_got_in(
    target: Machine, systems: dict[str, str], controller: Controller
) -> None:
    trial = begin(controller, systems)
    trial.write(600)
    target.reboot()
    target.power_cut()
    trial.gone_back(boots=2)


def test_another_entry_of_the_boot_menu_is_left_alone(
    target: Machine, systems: dict[str, str], controller: Controller
) -> None:
    trial = begin(controller, systems)
    trial.write(1, new=str(trial.before["running"]))
    target.reboot()
    wait_for(lambda: target.run(["systemctl", "is-active", UNIT], check=False).stdout == "inactive\n", "it is over")
    assert controller.confirm_boot("keep") == "none"
    time.sleep(3)
    assert standing(target) == (trial.new,) * 3
    after = target.inspect()
    assert (after["leftovers"], after["failed_units"]) == ([], [])
    assert files(target) == ["last-activation", "trial"]


def test_a_boot_entry_that_can_not_be_written_is_told_and_tried_once(
    target: Machine, systems: dict[str, str], controller: Controller
) -> None:
    trial = begin(controller, systems)
    nothing = target.run(["readlink", "-f", f"{trial.new}/kernel-modules"]).stdout.strip()
    trial.write(4, old=nothing, generation="-")
    target.reboot()
    booted = target.inspect()["boot_id"]
    wait_for(lambda: target.run(["systemctl", "is-active", UNIT], check=False).stdout == "failed\n", "it has failed")
    said = target.run(["journalctl", f"--unit={UNIT}", "--output=cat"]).stdout
    assert f"nobody got in within 4 seconds after the reboot; going back to {nothing}\n" in said
    assert f"the boot entry of {nothing} could not be written; the machine is left as it is\n" in said
    after = target.inspect()
    assert (after["running"], after["boot_default"], after["boot_id"]) == (trial.new, trial.new, booted)
    assert files(target) == ["boot-unfinished", "last-activation", "trial-failed"]


def test_a_root_that_is_new_at_each_boot(machine: MachineFactory, systems: dict[str, str]) -> None:
    target = machine("wiped", wiped=True)
    with controlled(target, connect_timeout=2) as controller:
        bring(controller, systems)
        before = target.inspect()
        ran = controller.activate(
            systems["it gets no further than to an emergency"], action="boot", reboot="always", reboot_timeout=8
        )
        assert "so the machine has booted back" in ran.failed
        after = target.inspect()
        assert standing(target) == (before["booted"],) * 3
        assert (after["booted"], after["boot_id"] != before["boot_id"]) == (before["booted"], True)
        assert files(target) == ["last-activation"]
        # What is not kept is gone, and what a reboot needs is not there.
        assert not target.run(["ls", "-A", "/var/lib/nix-ops"], check=False).stdout
        assert controller.activate(systems["new"], reboot="always").done.rebooted
