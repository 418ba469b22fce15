# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A reboot without a deploy: what is refused, and what counts as rebooted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.activation import reboot, restart
from ansible_collections.nix.ops.plugins.plugin_utils.activation.protocol import Access
from ansible_collections.nix.ops.plugins.plugin_utils.activation.restart import Restart
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Identity, Machine, Wait
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed
from answers import BOOT_ID, answered

SYSTEM = "/nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05"
BEFORE = Standing(SYSTEM, SYSTEM, SYSTEM, 12, SYSTEM, boot_id="1")
AFTER = replace(BEFORE, boot_id="2")


def run(
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[], str],
    *,
    booted: Standing | None = AFTER,
    still: Standing | None = None,
    unhealthy: tuple[str, ...] = (),
    hard: bool = False,
    identity: Identity | None = None,
) -> tuple[Restart, list[str]]:
    """Reboot a machine that answers this, and then stands there."""
    lines: list[str] = []

    def execute(_command: str, text: bytes, _wait: Wait) -> Completed:
        said = answer() if b"hold_lock() {" in text else ""
        return Completed(("/bin/sh",), 0, answered(said, machine_id=BOOT_ID), "what it said")

    monkeypatch.setattr(reboot, "await_other_boot", lambda *_words, **_names: booted)
    monkeypatch.setattr(reboot, "ask", lambda *_words: still)
    access = Access(lambda *_words: None, lambda _word: "none", lambda: unhealthy, 1)
    machine = Machine("target", execute, {}, identity or Identity(BOOT_ID, BOOT_ID))
    done = restart.restart(machine, BEFORE, access, hard=hard, timeout=0.1, holder="me", on_line=lines.append)
    return done, lines


def lost() -> str:
    raise ConnectionLost("it went down")


@pytest.mark.parametrize("answer", [lambda: "rebooting yes\n", lost])
def test_another_boot_id_proves_it(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], str]) -> None:
    done, lines = run(monkeypatch, answer)
    assert done.after == AFTER
    assert lines == ["rebooting...", f"it has booted {SYSTEM} after 0 s"]


def test_a_machine_gets_an_id_that_outlives_the_reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "_BOOT", {})
    identity = Identity()
    run(monkeypatch, lambda: "rebooting yes\n", identity=identity)
    assert identity.machine_id == BOOT_ID


@pytest.mark.parametrize(
    ("reason", "what", "helps"),
    [
        ("busy", "another activation is at work on the machine: what it said", "Wait for it to end"),
        ("root", "could not be rebooted", "Become root"),
        ("start", "could not be rebooted", "reboot_hard=true"),
    ],
)
def test_a_machine_that_refuses(monkeypatch: pytest.MonkeyPatch, reason: str, what: str, helps: str) -> None:
    with pytest.raises(OpsError) as refused:
        run(monkeypatch, lambda: f"refused {reason}\n")
    assert what in refused.value.what and helps in str(refused.value.next_step)
    assert refused.value.state == "it was not rebooted"


@pytest.mark.parametrize(
    ("still", "hard", "what", "helps"),
    [
        (None, False, "has not come back", "console"),
        (BEFORE, False, "has not rebooted", "reboot_hard"),
        (BEFORE, True, "has not rebooted", "console"),
    ],
)
def test_a_machine_that_does_not_come_back(
    monkeypatch: pytest.MonkeyPatch, still: Standing | None, hard: bool, what: str, helps: str
) -> None:
    with pytest.raises(OpsError) as late:
        run(monkeypatch, lambda: "rebooting yes\n", booted=None, still=still, hard=hard)
    assert what in late.value.what and helps in str(late.value.next_step)


@pytest.mark.parametrize(
    ("trial", "state"), [(None, f"it runs and boots {SYSTEM}"), (SYSTEM, "the machine boots back to what it had")]
)
def test_a_machine_that_is_not_healthy(monkeypatch: pytest.MonkeyPatch, trial: str | None, state: str) -> None:
    booted = replace(AFTER, trial=trial)
    with pytest.raises(OpsError, match="health checks failed after the reboot: port 80") as ill:
        run(monkeypatch, lambda: "rebooting yes\n", booted=booted, unhealthy=("port 80",))
    assert str(ill.value.state).startswith(state)


@pytest.mark.parametrize(
    ("activating", "trial", "what"),
    [(True, None, "an activation is at work"), (False, SYSTEM, "has booted a new system for the first time")],
)
def test_what_a_reboot_would_break_is_refused(activating: bool, trial: str | None, what: str) -> None:
    found: Any = SimpleNamespace(activating=activating, standing=replace(BEFORE, trial=trial))
    with pytest.raises(OpsError, match=what):
        restart.check(found, "target")


@pytest.mark.parametrize(
    ("changed", "boots"),
    [
        ({}, SYSTEM),
        ({"boot_default": None}, SYSTEM),
        ({"boot_default": None, "boot_unfinished": True}, None),
        ({"boot_default": "/nix/store/a"}, "/nix/store/a"),
    ],
)
def test_what_it_boots(changed: dict[str, Any], boots: str | None) -> None:
    assert restart.boots(replace(BEFORE, **changed)) == boots
