# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is killed in whichever phase of an activation, the machine boots, can be reached, and is deployed again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.faults import Tell
from integration.networks import ACTIVATE, Network
from integration.outside import COPIED, processes_of, stands
from integration.project import Project
from integration.tasks import wait_for

pytestmark = pytest.mark.one_pair

UNIT = "nix-ops-activation.service"

# A machine gives up waiting for its controller after so many seconds.
SOON = ("-e", "deploy_confirm_timeout=3", "-e", "ansible_timeout=1")

# Something waits at a gate as long as the machine has a file.
WAIT = ": >/run/at-gate; while [ -e /run/gate ]; do sleep 0.1; done"
LOCKED_OUT = 'services.openssh.extraConfig = "DenyUsers root";'

# What holds an activation in each of its phases.
PHASES = {
    "activate": f'system.activationScripts.gate = "{WAIT}";',
    "acknowledge": LOCKED_OUT,
    "check": f'deployment.healthChecks = {{ commands = [ "{WAIT}" ]; deadline = 2; }};',
    "rollback": LOCKED_OUT,
    "profile": "",
    "boot": f'system.preSwitchChecks.gate = "[ $2 != boot ] || {{ {WAIT}; }}";',
}

# The phases in which nothing has to be undone any more.
ACKNOWLEDGED = ("profile", "boot")

FAULTS = {
    "killed controller": "the controller is killed",
    "killed activation": "the activation's process is killed",
    "reboot": "the machine is rebooted",
    "power cut": "the power is cut",
}


@pytest.fixture(scope="module")
def target(machine: MachineFactory) -> Machine:
    """One machine for all phases: each test compares with what it found."""
    return machine("target")


@pytest.fixture
def network(target: Machine, project: Project) -> Network:
    """A network whose machine has been deployed, with a gate in what it runs."""
    network = Network(project, target, where={"target": "deployment.provisionSSHKey = false;"})
    network.define(f'system.activationScripts.gate = "{WAIT}";', one="before")
    network.deployed()
    return network


def hold(target: Machine, phase: str) -> None:
    """Close the gates."""
    target.run("rm -f /run/at-gate; touch /run/gate")
    if phase == "profile":
        wrapper = f'#!/bin/sh\n{WAIT}\nexec /usr/bin/nix-env "$@"\n'
        target.run("cat >/usr/local/bin/nix-env; chmod +x /usr/local/bin/nix-env", stdin=wrapper.encode())


def let_go(target: Machine) -> None:
    """Open the gates."""
    target.run("rm -f /run/gate /run/at-gate /usr/local/bin/nix-env")


def is_held(target: Machine, phase: str) -> bool:
    """Whether the activation is in this phase."""
    at_gate = "true" if phase == "acknowledge" else "test -e /run/at-gate"
    steps = "for one in /run/nix-ops-*; do [ -e $one/rc ] || cat $one/step; done"
    step = target.run(f"{at_gate} && {steps}", check=False)
    return step.stdout == f"{phase}\n"


def bring_about(target: Machine, fault: str, controller: Any, network: Network) -> None:
    """Bring a fault about, and open the gates."""
    if fault == "killed controller":
        controller.kill()
        wait_for(lambda: not processes_of(network.project), "no process of the run is left")
    elif fault == "killed activation":
        target.run(f"systemctl kill --signal=SIGKILL {UNIT}")
    elif fault == "reboot":
        target.reboot()
    else:
        target.power_cut()
        target.wait_up()
    let_go(target)


def what_boots(after: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether a machine runs and boots what it did before."""
    names = ("running", "boot_default", "profile", "generation", "failed_units")
    return all(after[name] == before[name] for name in names)


CASES = [
    (phase, fault)
    for phase in PHASES
    for fault in FAULTS
    # Where nothing has been written yet, a power cut is a reboot.
    if fault != "power cut" or phase in ACKNOWLEDGED
]


@pytest.mark.parametrize(("phase", "fault"), CASES, ids=["-".join(case).replace(" ", "-") for case in CASES])
def test_a_fault_in_a_phase(target: Machine, network: Network, tell: Tell, phase: str, fault: str) -> None:
    before = target.inspect()
    network.define(PHASES[phase], one="after")
    hold(target, phase)
    controller = network.start(*SOON)
    try:
        wait_for(lambda: is_held(target, phase), f"the activation is held in its phase {phase}", 40)
        bring_about(target, fault, controller, network)
    finally:
        let_go(target)
    outcome = network.project.finish(controller, [])
    wait_for(
        lambda: not target.run(f"systemctl is-active {UNIT} || true").stdout.startswith(("active", "deact")), "rest"
    )
    after = target.inspect()

    goes_down = fault in ("reboot", "power cut")
    if phase in ACKNOWLEDGED and not goes_down:
        # Whoever is gone, it is brought to its end.
        assert len(set(stands(after))) == 1 and after["running"] != before["running"], outcome.output
        assert outcome.exit_code == (-9 if fault == "killed controller" else 0), outcome.output
    elif phase == "boot":
        # The profile was set, and the boot entry was not: it is not taken for done.
        assert (after["running"], after["boot_default"]) == (before["running"], before["boot_default"])
        assert outcome.exit_code == 2, outcome.output
    else:
        assert what_boots(after, before), outcome.output
        assert outcome.exit_code == (-9 if fault == "killed controller" else 2), outcome.output
    assert after["system_state"] == "running"
    assert target.ssh("true").returncode == 0
    if not goes_down:
        assert [one for one in after["leftovers"] if not one.startswith("/run/nix-ops-")] == [COPIED]

    # The next run goes on.
    network.define("", one="mended")
    mended = network.deployed()
    assert mended.statuses(ACTIVATE) == {"target": "changed"}
    if outcome.exit_code == -9 or goes_down:
        interrupted = "was interrupted" in mended.output
        assert interrupted == goes_down, mended.output
    healed = target.inspect()
    assert set(stands(healed)) == {mended.of(ACTIVATE)["toplevel"]}
    assert [one for one in healed["leftovers"] if not one.startswith("/run/nix-ops-")] == [COPIED]
    said = (
        None if fault == "killed controller" else outcome.of(ACTIVATE).get("msg") or "activation finished successfully"
    )
    tell(f"{FAULTS[fault]}, in the phase {phase}", before, after, says=said, then="succeeds")
