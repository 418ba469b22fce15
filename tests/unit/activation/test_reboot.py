# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a reboot is waited for, with a clock that nobody waits for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils import waiting
from ansible_collections.nix.ops.plugins.plugin_utils.activation import reboot
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine

OLD, NEW = "/nix/store/old-nixos-system", "/nix/store/new-nixos-system"
BEFORE = Standing(OLD, OLD, NEW, 2, NEW, boot_id="1")
BOOTED = Standing(NEW, NEW, NEW, 2, NEW, boot_id="2", trial=NEW)
BACK = Standing(OLD, OLD, OLD, 1, OLD, boot_id="3")


@dataclass
class Clock:
    """Takes the place of the module time. At each of these seconds the machine is at the next boot."""

    boots: dict[float, Standing]
    now: float = 0.0
    lines: list[str] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def ask(self, _machine: Machine, _profile: str) -> Standing | None:
        # A host that does not answer takes its time.
        reached = [standing for since, standing in self.boots.items() if since <= self.now]
        self.now += 0 if reached else 10
        return reached[-1] if reached else None


def wait(monkeypatch, boots, *, boots_back=True, confirm=lambda _word: "keep"):
    """Await a boot with a deadline of 600 seconds."""
    clock = Clock(boots)
    monkeypatch.setattr(reboot, "time", clock)
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(reboot, "ask", clock.ask)
    machine = Machine("host", lambda *_: pytest.fail("not to be asked"), {})
    return clock, lambda: reboot.await_boot(
        machine,
        NEW,
        BEFORE,
        profile="/nix/var/nix/profiles/system",
        timeout=600.0,
        since=0.0,
        boots_back=boots_back,
        confirm=confirm,
        check=None,
        on_line=clock.lines.append,
    )


@pytest.mark.parametrize("seconds", [5, 301, 590])
def test_a_boot_may_take_as_long_as_its_deadline(monkeypatch, seconds):
    clock, run = wait(monkeypatch, {seconds: BOOTED})
    assert run() == reboot.Boot(BOOTED)
    assert clock.lines[-1] == "it has booted the new system"
    assert not any("may still boot" in line for line in clock.lines)


def test_a_boot_that_comes_late_is_acknowledged_all_the_same(monkeypatch):
    clock, run = wait(monkeypatch, {900: BOOTED})
    assert run() == reboot.Boot(BOOTED)
    said = "it has not booted within 600 seconds; it may still boot, or boot back: waiting up to 1320 seconds more"
    assert said in clock.lines


def test_a_machine_that_boots_back_by_itself_is_waited_for(monkeypatch):
    # A boot of 400 s, a wait of 600 s for somebody, and another boot of 400 s.
    _clock, run = wait(monkeypatch, {1500: BACK})
    came = run()
    assert (came.after, came.booted_back) == (BACK, True)
    assert came.what_failed is not None and "so the machine has booted back" in came.what_failed


def test_a_boot_that_nobody_can_acknowledge_is_followed_by_the_boot_back(monkeypatch):
    def refuse(_word):
        raise ConnectionLost("no route to host")

    clock, run = wait(monkeypatch, {300: BOOTED, 1400: BACK}, confirm=refuse)
    came = run()
    assert (came.after, came.booted_back) == (BACK, True)
    assert "no route to host" in str(came.what_failed)
    assert "it boots back by itself: waiting up to 1320 seconds for that" in clock.lines


@pytest.mark.parametrize(("boots_back", "seconds"), [(True, 1920), (False, 600)])
def test_a_machine_that_does_not_come_back_is_given_up(monkeypatch, boots_back, seconds):
    clock, run = wait(monkeypatch, {}, boots_back=boots_back)
    with pytest.raises(OpsError, match="the machine has not come back from a reboot within"):
        run()
    assert seconds <= clock.now < seconds + 40


def test_a_machine_that_has_not_gone_down(monkeypatch):
    _clock, run = wait(monkeypatch, {0: replace(BEFORE)}, boots_back=False)
    assert run().what_failed == "the machine has not rebooted"


def test_a_machine_that_boots_what_it_always_boots(monkeypatch):
    _clock, run = wait(monkeypatch, {5: BACK}, boots_back=False)
    came = run()
    assert (came.after, came.booted_back) == (BACK, False)
    assert came.what_failed == "the machine has booted another system than the new one, which has no boot guard"


def kept(monkeypatch, how):
    """Check and acknowledge a machine that has booted, with 600 seconds for getting in."""
    clock = Clock({})
    monkeypatch.setattr(reboot, "time", clock)
    return clock, lambda: reboot.keep(BOOTED, timeout=600.0, on_line=clock.lines.append, **how(clock))


def test_long_health_checks_leave_the_acknowledgement_its_time(monkeypatch):
    def how(clock):
        def check():
            clock.now += 1000
            return ()

        def confirm(_word):
            if clock.now < 1300:
                raise ConnectionLost("refused")
            return "keep"

        return {"check": check, "confirm": confirm}

    _clock, run = kept(monkeypatch, how=how)
    assert run() is None


@pytest.mark.parametrize(
    ("failure", "seconds"), [(OpsError("the mount is missing"), 60), (ConnectionLost("refused"), 600)]
)
def test_keys_that_a_machine_refuses_just_after_its_boot_are_sent_again(monkeypatch, failure, seconds):
    def how(clock, until=20):
        def arrive():
            if clock.now < until:
                raise failure

        return {"check": None, "confirm": lambda _word: "keep", "arrive": arrive}

    _clock, run = kept(monkeypatch, how=how)
    assert run() is None
    clock, run = kept(monkeypatch, how=lambda clock: {**how(clock, 10_000), "confirm": lambda word: word})
    why, unhealthy = run()
    assert str(failure) in why and str(failure) in unhealthy[0]
    assert seconds <= clock.now < seconds + 2
