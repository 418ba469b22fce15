# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which generations of a machine may be deleted, and what a collection tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import collection, jobs
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Generation, Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine
from ansible_collections.nix.ops.plugins.plugin_utils.machine.jobs import Ended
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed
from answers import answered

DAY = 86400
# Each was made on the day of its number; 6 has the same system as 2.
GENERATIONS = [Generation(number, f"/nix/store/{number % 4}", number * DAY) for number in range(1, 10)]


def stands(**other: Any) -> Standing:
    known = {"running": None, "booted": None, "profile": None, "generation": None, "boot_default": None}
    return Standing(**{**known, **other})


def chosen(standing: Standing | None = None, needed: tuple[str, ...] = (), **options: Any) -> list[int]:
    rest = {"keep": None, "older_than": None, "now": 10.0 * DAY, **options}
    found = collection.deletable(GENERATIONS, standing or stands(), needed, **rest)
    return [one.number for one in found]


def test_generations_that_neither_option_keeps_are_deleted() -> None:
    assert chosen() == []
    assert chosen(keep=7) == [1, 2]
    assert chosen(keep=100) == []
    assert chosen(older_than=7 * DAY) == [1, 2]
    assert chosen(older_than=7 * DAY, keep=8) == [1]
    assert chosen(older_than=8 * DAY, keep=2) == [1]
    with pytest.raises(OpsError, match="0 generations can't be kept"):
        chosen(keep=0)


@pytest.mark.parametrize("place", ["running", "booted", "profile", "boot_default", "trial"])
def test_what_runs_boots_or_is_on_trial_stays(place: str) -> None:
    assert chosen(stands(**{place: "/nix/store/1"}), keep=1) == [2, 3, 4, 6, 7, 8]


def test_the_current_generation_and_what_a_rollback_needs_stay() -> None:
    assert chosen(stands(generation=3), keep=1) == [1, 2, 4, 5, 6, 7, 8]
    assert chosen(needed=("/nix/store/0", "/nix/store/1"), keep=1) == [2, 3, 6, 7]


def test_an_age_has_a_unit() -> None:
    assert [collection.read_age(text) for text in ("12h", "30d", "8w")] == [12 * 3600, 30 * DAY, 56 * DAY]
    for wrong in ("30", "d", "1.5d", "30 d", "-1d", "30m", ""):
        with pytest.raises(OpsError, match="gc_older_than"):
            collection.read_age(wrong)


@pytest.fixture
def collect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., collection.Freed]:
    """Collect on a machine that answers like this."""

    def run(log: str = "", exit_code: int | None = 0, begun: str = "directory /tmp/nix-ops-gc.1") -> collection.Freed:
        done = Completed(("/bin/sh",), 0, answered(f"{begun}\n"), "")
        monkeypatch.setattr(jobs, "follow", lambda *_words, **_options: Ended("ended", exit_code, None, log))
        machine = Machine("target", lambda *_words: done, {})
        return collection.collect(machine, "/profile", [1], on_line=lambda _line: None, patience=1, within=1)

    return run


def test_a_collection_tells_what_it_freed(collect: Callable[..., collection.Freed]) -> None:
    said = "removing generation 1\n532 store paths deleted, 1.50 MiB freed\n"
    assert collect(said) == collection.Freed(532, 3 * 2**19)
    assert collect("nothing of it") == collection.Freed()


def test_a_collection_that_fails_says_why(collect: Callable[..., collection.Freed]) -> None:
    with pytest.raises(OpsError, match="the garbage collection failed"):
        collect("error: read-only file system", 1)
    with pytest.raises(OpsError, match="was killed"):
        collect("", None)
    for code, begun in ((75, "directory /tmp/a"), (0, "refused busy")):
        with pytest.raises(OpsError, match="an activation is at work there"):
            collect("", code, begun)
    with pytest.raises(OpsError, match="not valid"):
        collect(begun="directory /tmp/../etc")
