# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is killed in whichever phase of an activation, the machine boots, can be reached, and is deployed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.activation import unlock
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from fleet import Machine
from integration.conftest import MachineFactory
from integration.engine import SETTLED, Controller, Running, controlled, other, provide, settle, wait_on
from integration.faults import Tell
from integration.outside import in_words, stands

UNIT = "nix-ops-activation.service"

# Something waits at a gate as long as the machine has a file.
WAIT = ": >/run/at-gate; while [ -e /run/gate ]; do sleep 0.1; done"
LOCKED_OUT = 'services.openssh.extraConfig = "DenyUsers root";'
GATE = f'system.activationScripts.gate = "{WAIT}";'

# What holds an activation in each of its phases: what is defined, and what is checked.
PHASES = {
    "activate": (GATE, ""),
    "acknowledge": (LOCKED_OUT, ""),
    "check": ("", WAIT),
    "rollback": (LOCKED_OUT, ""),
    "profile": ("", ""),
    "boot": (f'system.preSwitchChecks.gate = "[ $2 != boot ] || {{ {WAIT}; }}";', ""),
}

# The phases in which nothing has to be undone any more.
ACKNOWLEDGED = ("profile", "boot")

# A phase after the acknowledgement is only reached if a busy computer acknowledges in time.
CONFIRM_TIMEOUT = {"check": 30, "profile": 30, "boot": 30}

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


@pytest.fixture(scope="module")
def systems(target: Machine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All systems by their names, or by the phase that they are held in; a settled one runs."""
    # What runs before a fault has a gate too, for its rollback.
    described = {phase: config for phase, (config, _check) in PHASES.items()}
    return provide(target, tmp_path_factory.mktemp("systems"), {**described, **dict.fromkeys(SETTLED, GATE)})


@pytest.fixture
def controller(target: Machine) -> Iterator[Controller]:
    """A controller that gives a connection up after a second."""
    with controlled(target, connect_timeout=1) as controller:
        yield controller


def hold(target: Machine, phase: str) -> None:
    """Close the gates."""
    target.run("rm -f /run/at-gate; touch /run/gate")
    if phase == "profile":
        wrapper = f'#!/bin/sh\n{WAIT}\nexec /usr/bin/nix-env "$@"\n'
        target.run("cat >/usr/local/bin/nix-env; chmod +x /usr/local/bin/nix-env", stdin=wrapper.encode())


def let_go(target: Machine) -> None:
    """Open the gates."""
    target.run("rm -f /run/gate /run/at-gate /usr/local/bin/nix-env")


def wait_until_held(target: Machine, phase: str) -> None:
    """Wait until the activation is in this phase."""
    at_gate = "true" if phase == "acknowledge" else "test -e /run/at-gate"
    steps = "for one in /run/nix-ops-*; do [ -e $one/rc ] || cat $one/step; done 2>/dev/null"
    condition = f'{at_gate} && [ "$({steps})" = {phase} ]'
    wait_on(target, condition, f"the activation is held in its phase {phase}")


def bring_about(target: Machine, fault: str, running: Running) -> None:
    """Bring a fault about, and open the gates."""
    if fault == "killed controller":
        running.kill()
    elif fault == "killed activation":
        target.run(f"systemctl kill --signal=SIGKILL {UNIT}")
        # Before the guard has decided, a health check could pass and be acknowledged.
        decided = "for one in /run/nix-ops-*; do [ -e $one/rc ] || readlink $one/decision; done | grep ."
        wait_on(target, f"{decided} >/dev/null", "what the activation's guard decides")
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


def left_over(seen: Mapping[str, Any]) -> list[str]:
    """What is left over but the last minutes' answers, for who lost the connection."""
    return [one for one in seen["leftovers"] if not one.startswith("/run/nix-ops-")]


CASES = [
    (phase, fault)
    for phase in PHASES
    for fault in FAULTS
    # Where nothing has been written yet, a power cut is a reboot.
    if fault != "power cut" or phase in ACKNOWLEDGED
]


@pytest.mark.parametrize(("phase", "fault"), CASES, ids=["-".join(case).replace(" ", "-") for case in CASES])
def test_a_fault_in_a_phase(
    target: Machine, systems: dict[str, str], controller: Controller, tell: Tell, phase: str, fault: str
) -> None:
    before = settle(controller, systems)
    new, check = systems[phase], PHASES[phase][1]
    checks = {"commands": [check], "deadline": 2} if check else None
    hold(target, phase)
    running = controller.start(new, confirm_timeout=CONFIRM_TIMEOUT.get(phase, 3), health_checks=checks)
    try:
        wait_until_held(target, phase)
        bring_about(target, fault, running)
    finally:
        let_go(target)
    outcome = running.finish()
    wait_on(target, f'! systemctl is-active {UNIT} | grep -E "^(active|deact)" >/dev/null', "rest")
    after = target.inspect()

    goes_down = fault in ("reboot", "power cut")
    assert outcome.killed == (fault == "killed controller"), outcome
    if phase in ACKNOWLEDGED and not goes_down:
        # Whoever is gone, it is brought to its end.
        assert stands(after) == (new, new, new), outcome
        assert outcome.message is None, outcome
    elif phase == "boot":
        # The profile was set, and the boot entry was not: it is not taken for done.
        assert (after["running"], after["boot_default"]) == (before["running"], before["boot_default"])
        assert outcome.failed
    else:
        assert what_boots(after, before), outcome
        assert outcome.killed or outcome.failed, outcome
    if outcome.message is not None:
        what = "the machine was rebooted during the activation" if goes_down else "the activation was killed"
        assert outcome.message.startswith(f"target: {what}")
        assert f"State: it {in_words(after['running'], after['boot_default'])}" in outcome.message
        assert "Next: Run the same again" in outcome.message
    assert after["system_state"] == "running"
    assert target.ssh("true").returncode == 0
    if not goes_down:
        assert left_over(after) == []
    # What the next run is told: an activation that had begun, and that no exit code has ended.
    last = controller.last_activation()
    assert last is not None and last.toplevel == new
    if outcome.killed or goes_down:
        assert (last.exit_code is None) == goes_down

    # The next run goes on.
    mended = other(systems, before["running"])
    assert controller.activate(mended).done.changed
    healed = target.inspect()
    assert stands(healed) == (mended, mended, mended)
    assert left_over(healed) == []
    tell(f"{FAULTS[fault]}, in the phase {phase}", before, after, says=outcome.says, then="succeeds")


@pytest.mark.parametrize("phase", ["activate", "check", "boot"])
def test_an_activation_that_somebody_ends(
    target: Machine, systems: dict[str, str], controller: Controller, phase: str
) -> None:
    before = settle(controller, systems)
    new, check = systems[phase], PHASES[phase][1]
    machine = controller.machine()
    assert unlock.look(machine) is None
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        if line.startswith(("ending", "it was acknowledged")):
            let_go(target)

    hold(target, phase)
    running = controller.start(new, health_checks={"commands": [check], "deadline": 60} if check else None)
    try:
        wait_until_held(target, phase)
        found = unlock.look(machine)
        assert found is not None and found.goes_back and found.seconds is not None
        assert (found.action, found.toplevel, found.step) == ("switch", new, phase)
        assert found.holder.startswith(f"nix.ops switch of {new} by the tests (process ")
        ended, after = unlock.end(machine, holder="me", on_line=on_line, patience=30)
    finally:
        let_go(target)
    outcome = running.finish()
    assert ended is not None and ended.ending == {"activate": "stop", "check": "undo", "boot": "finish"}[phase]
    assert unlock.end(machine, holder="me", on_line=on_line, patience=30)[0] is None
    seen = target.inspect()
    if phase == "boot":
        assert outcome.done and stands(seen) == (new, new, new)
    else:
        assert what_boots(seen, before), outcome
        assert outcome.failed and "ended by me with nix.ops.unlock" in outcome.lines
    assert lines[-1] == f"it {after.standing.sentence()}"
    assert seen["system_state"] == "running" and left_over(seen) == []


def test_half_a_switch_is_not_left(target: Machine, systems: dict[str, str], controller: Controller) -> None:
    settle(controller, systems)
    hold(target, "activate")
    running = controller.start(systems["activate"], rollback="never")
    try:
        wait_until_held(target, "activate")
        with pytest.raises(OpsError, match="does not go back by itself, so half a switch would be left"):
            unlock.end(controller.machine(), holder="me", on_line=print, patience=30)
    finally:
        let_go(target)
    assert running.finish().done.after.running == systems["activate"]
