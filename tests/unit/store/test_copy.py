# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A closure is copied to the machine that was prepared, or not at all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed
from ansible_collections.nix.ops.plugins.plugin_utils.store import copy
from ansible_collections.nix.ops.plugins.plugin_utils.store.route import SshRoute

BOOT = "3b3cbd0a-6d9a-4a4e-9d3c-3f8b7a1c2d4e"


def prove(*ssh: str) -> None:
    """Prove a machine whose boot has this id, by words that stand for ssh and its destination."""
    transport = SimpleNamespace(machine=SimpleNamespace(name="target"))
    copy._prove_machine(cast(Any, transport), SshRoute(ssh, ()), BOOT)


def test_the_machine_that_was_prepared_is_accepted() -> None:
    prove("/bin/sh", "-c", f"echo {BOOT}")


def test_machine_that_prints_before_a_command_is_refused_with_the_remedy() -> None:
    with pytest.raises(OpsError, match="something is printed before the commands") as refused:
        prove("/bin/sh", "-c", f"echo welcome; echo {BOOT}")
    assert (refused.value.output, "bashrc" in str(refused.value)) == ("welcome", True)


def test_another_machine_is_refused() -> None:
    with pytest.raises(OpsError, match="reaches another machine"):
        prove("/bin/sh", "-c", f"echo '{BOOT.replace('3', '4')}'")


@pytest.mark.parametrize("said", ["", "welcome", f"x{BOOT}"])
def test_machine_that_does_not_tell_which_one_it_is_is_refused(said: str) -> None:
    with pytest.raises(OpsError, match="does not tell the id of its boot"):
        prove("/bin/sh", "-c", f"echo '{said}'")


def test_machine_that_is_not_reached_is_lost() -> None:
    with pytest.raises(ConnectionLost, match="no route"):
        prove("/bin/sh", "-c", "echo no route >&2; exit 255")


def test_a_host_is_asked_once_what_it_lacks_of_closures(monkeypatch: pytest.MonkeyPatch) -> None:
    top, library = ("/nix/store/" + letter * 32 + "-one" for letter in "ab")
    asked = []

    def missing(_machine: object, paths: list[str], *, gc_root: str | None) -> copy.Missing:
        asked.append((paths, gc_root))
        return copy.Missing(tuple(paths[:1]), BOOT)

    monkeypatch.setattr(copy, "missing", missing)
    monkeypatch.setattr(copy, "lacking_here", lambda _paths, environment: absent)
    monkeypatch.setattr(nix, "requisites", lambda _paths, env: [library, top])
    transport = cast(Any, SimpleNamespace(machine=SimpleNamespace(name="target"), environment={}))
    absent: list[str] = []
    assert copy.missing_closures(transport, [top], gc_root="/root") == (top,)
    assert asked == [([top, library], "/root")]
    absent = [top]
    with pytest.raises(OpsError, match="is not in the controller's store"):
        copy.missing_closures(transport, [top])


@pytest.mark.parametrize(
    ("said", "helps"),
    [
        ("error: opening lock file: No space left on device", "Free room"),
        ("error: executing SQLite query: database or disk is full", "Free room"),
        ("error: executing SQLite query: database disk image is malformed", "database is damaged"),
        ("error: opening database: file is not a database", "database is damaged"),
        ("error: cannot add path '/nix/store/a' because it lacks a signature by a trusted key", "trusted-users"),
        ("error: cannot add path '/nix/store/a' because it lacks a valid signature", "trusted-users"),
    ],
)
def test_what_helps_fits_what_nix_says(said: str, helps: str) -> None:
    failure = copy._failure(Completed(("nix-store",), 1, "", said), "target", "it failed")
    assert failure.next_step is not None and helps in failure.next_step
