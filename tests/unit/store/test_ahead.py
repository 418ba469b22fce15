# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is built while other machines are evaluated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Derivation
from ansible_collections.nix.ops.plugins.plugin_utils.store import ahead
from ansible_collections.nix.ops.plugins.plugin_utils.store.ahead import Ahead
from ansible_collections.nix.ops.plugins.plugin_utils.store.build import Built


class Nix:
    """Builds without Nix. Each build waits until it is let through."""

    def __init__(self, *, fails: bool = False) -> None:
        self.asked: list[list[str]] = []
        self.begun, self.gate = threading.Semaphore(0), threading.Semaphore(0)
        self._fails = fails

    def __call__(self, derivations: Sequence[str], look: Callable[[], None]) -> Built:
        self.asked.append([Path(one).name for one in derivations])
        self.begun.release()
        while not self.gate.acquire(timeout=0.01):
            look()
        if self._fails:
            raise OpsError("the build failed")
        return Built(tuple(derivations), ())


@pytest.fixture(autouse=True)
def _begin_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ahead, "_SOON", 0)
    yield
    assert threading.active_count() == 1


@pytest.fixture
def systems(tmp_path: Path) -> dict[str, Derivation]:
    """Derivations of machines, of which d is built."""
    found = {name: Derivation(str(tmp_path / f"{name}.drv"), str(tmp_path / name)) for name in "abcde"}
    for one in found.values():
        Path(one.drv_path).touch()
    Path(found["d"].out_path).touch()
    return found


def tell(builder: Ahead, systems: dict[str, Derivation], names: str) -> None:
    for name in names:
        builder.made(name, systems[name])


def test_all_that_is_ready_is_built_by_one_call_at_a_time(systems: dict[str, Derivation]) -> None:
    nix = Nix()
    builder = Ahead("abcd", nix, goes_on=False)
    tell(builder, systems, "a")
    nix.begun.acquire()
    # Of these, a is being built, d is built already, and e is built elsewhere.
    tell(builder, systems, "abcde")
    nix.gate.release()
    nix.begun.acquire()
    nix.gate.release()
    built = [Path(one).name for done in builder.finish() for one in done.built]
    assert nix.asked == [["a.drv"], ["b.drv", "c.drv"]]
    assert built == ["a.drv", "b.drv", "c.drv"]


def test_what_is_evaluated_at_once_is_left_to_one_call_for_all(
    systems: dict[str, Derivation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_SOON", 3600)
    nix = Nix()
    builder = Ahead("abc", nix, goes_on=False)
    tell(builder, systems, "abc")
    assert builder.finish() == []
    assert nix.asked == []


def test_a_failed_build_ends_the_evaluation(systems: dict[str, Derivation]) -> None:
    nix = Nix(fails=True)
    builder = Ahead("abc", nix, goes_on=False)
    tell(builder, systems, "a")
    builder.look()
    nix.begun.acquire()
    nix.gate.release()
    with pytest.raises(OpsError, match="the build failed"):
        builder.finish()
    with pytest.raises(OpsError, match="the build failed"):
        builder.look()


@pytest.mark.parametrize("reason", ["others go on", "collected as garbage"])
def test_a_failed_build_is_left_to_the_call_for_all(systems: dict[str, Derivation], reason: str) -> None:
    nix = Nix(fails=True)
    builder = Ahead("abc", nix, goes_on=reason == "others go on")
    tell(builder, systems, "a")
    nix.begun.acquire()
    if reason == "collected as garbage":
        Path(systems["a"].drv_path).unlink()
    nix.gate.release()
    assert builder.finish() == []
    builder.look()


def test_a_running_build_is_ended(systems: dict[str, Derivation]) -> None:
    nix = Nix()
    builder = Ahead("abc", nix, goes_on=False)
    tell(builder, systems, "a")
    nix.begun.acquire()
    tell(builder, systems, "b")
    builder.end()
    assert nix.asked == [["a.drv"]]
