# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX answers is compared with what a definition says."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.awx import compare
from ansible_collections.nix.ops.plugins.plugin_utils.awx.manifest import Manifest


@pytest.mark.parametrize(
    ("wanted", "there", "is_same"),
    [
        ("", None, True),
        (None, "", True),
        (5, "5", True),
        (True, True, True),
        (False, None, False),
        (True, 1, False),
        ({"a": [1, 2]}, '{"a": [1, 2]}', True),
        ({"a": 1}, "---\na: 1\n", True),
        ({"a": 1}, '{"a": 1, "b": 2}', False),
        ({}, "", True),
        ({"a": 1}, "]", False),
        (["a"], ["a", "b"], False),
        (["a"], "a", False),
    ],
)
def test_texts_of_awx_are_read_before_they_are_compared(wanted: Any, there: Any, is_same: bool) -> None:
    assert compare.same(wanted, there) is is_same


def test_awx_may_have_more_messages() -> None:
    wanted = {"messages": {"workflow_approval": {"running": {"message": "look"}}}}
    there = {"messages": {"started": None, "workflow_approval": {"running": {"message": "look"}, "denied": None}}}
    assert compare.differing(wanted, there, None, new=False) == []
    there["messages"]["workflow_approval"] = None
    assert compare.differing(wanted, there, None, new=False) == ["messages"]


def test_a_secret_counts_as_the_same_unless_the_user_says_so() -> None:
    wanted = {"name": "a", "inputs": {"username": "root", "ssh_key_data": "KEY"}}
    there: dict[str, Any] = {"name": "a", "inputs": {"username": "root", "ssh_key_data": "$encrypted$"}}
    assert compare.differing(wanted, there, "inputs", new=False) == []
    assert compare.differing(wanted, there, "inputs", new=True) == ["inputs"]
    for other in ({"username": "me"}, {"become_method": "su"}, {"ssh_key_data": ""}):
        changed = {**there, "inputs": {**there["inputs"], **other}}
        assert compare.differing(wanted, changed, "inputs", new=False) == ["inputs"]


def test_a_secret_that_is_not_given_stays() -> None:
    wanted = {"username": "root", "ssh_key_data": "KEY"}
    there = {"username": "me", "ssh_key_data": "$encrypted$", "become_password": "$encrypted$"}
    kept = {"username": "root", "ssh_key_data": "$encrypted$", "become_password": "$encrypted$"}
    assert compare.with_secrets(wanted, there, new=False) == kept
    assert compare.with_secrets(wanted, there, new=True) == {**kept, "ssh_key_data": "KEY"}
    assert compare.with_secrets({**wanted, "become_password": ""}, there, new=True)["become_password"] == "$encrypted$"
    assert compare.differing({"inputs": wanted}, {"inputs": {**there, "username": "root"}}, "inputs", new=False) == []
    # A new key may have no passphrase.
    locked = {**there, "ssh_key_unlock": "$encrypted$"}
    assert "ssh_key_unlock" not in compare.with_secrets(wanted, locked, new=True)
    assert compare.with_secrets(wanted, locked, new=False)["ssh_key_unlock"] == "$encrypted$"


def test_manifests_add_up() -> None:
    one = Manifest(frozenset({("projects", "a")}), {("projects", "a", "credential"): ("git",)})
    other = Manifest(frozenset({("projects", "b")}), {("projects", "a", "credential"): ("git", "more")})
    assert (one | other).as_json() == {
        "nix_ops_setup": {
            "version": 1,
            "made": [["projects", "a"], ["projects", "b"]],
            "attached": [["projects", "a", "credential", ["git", "more"]]],
        }
    }
