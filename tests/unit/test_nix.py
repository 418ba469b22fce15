# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nix's lines and words."""

from __future__ import annotations

import re

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.nix import Progress

A, B, C = (f"/nix/store/{digest * 32}-name" for digest in "abc")


def read(*lines):
    progress = Progress()
    for line in lines:
        progress.read(line)
    return progress


@pytest.mark.parametrize("announcement", ["these 2 derivations will be built:", "this derivation will be built:"])
def test_the_plan_is_read(announcement):
    progress = read(
        announcement, f"  {A}.drv", f"  {B}.drv", "these 1 paths will be fetched (0.1 MiB download):", f"  {C}"
    )
    assert progress.to_build == [f"{A}.drv", f"{B}.drv"]
    assert progress.to_fetch == [C]


def test_a_path_in_a_builders_output_is_no_plan():
    assert read("building '/nix/store/x'...", f"  {A}").to_build == []


def test_what_begins_is_read():
    progress = read(
        f"building '{A}.drv'...",
        f"copying path '{B}' from 'https://cache.example.org'...",
        f"copying path '{C}' to 'ssh://machine'...",
    )
    assert progress.built == [f"{A}.drv"]
    assert progress.copied == [B, C]
    assert progress.latest().startswith("the last step that began is copying ")
    assert read(f"building '{A}.drv'...").latest().endswith(f" building {A.partition('-')[2]}")
    assert read("hello").latest() == ""


@pytest.mark.parametrize(("name", "value"), [("--help", "1"), ("", "1"), ("a b", "1"), ("cores", "1\nsandbox = false")])
def test_a_setting_is_never_read_as_anything_else(name, value):
    with pytest.raises(OpsError, match="not a valid setting of Nix"):
        nix.with_settings({name: value}, {})


def test_settings_come_after_those_of_the_environment():
    assert nix.with_settings({"cores": 2, "sandbox": False}, {"A": "b"}, "cores = 1") == {
        "A": "b",
        "NIX_CONFIG": "cores = 1\ncores = 2\nsandbox = false",
    }
    assert nix.with_settings({}, {"A": "b"}, "cores = 1") == {"A": "b"}


@pytest.mark.parametrize("path", ["--delete", "/etc/passwd", "/nix/store/short-name", f"{A}/bin", f"{A} {B}"])
def test_what_is_no_store_path_is_refused(path):
    with pytest.raises(OpsError, match="is not a path in the Nix store"):
        nix.store_paths([A, path])


def test_a_missing_nix_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(OpsError, match="nix-store is not on the controller's PATH"):
        nix.requisites([A])


@pytest.mark.parametrize("name", ["nixpkgs", "nixpkgs/nixos"])
def test_a_missing_entry_of_the_search_path_is_told_where_to_set(name):
    output = (
        f"error: file '{name}' was not found in the Nix search path (add it using $NIX_PATH or -I)\n\n at x.nix:1:2:"
    )
    error = OpsError("the evaluation failed", output=output, next_step="Correct the error.")
    nix.explain_search_path(error, "Say it like this: {entry}.")
    assert error.next_step == "Say it like this: nixpkgs=/path/to/nixpkgs."


@pytest.mark.parametrize("output", [None, "error: undefined variable 'nixpkgs'"])
def test_other_errors_are_left_as_they_are(output):
    error = OpsError("the evaluation failed", output=output, next_step="Correct the error.")
    nix.explain_search_path(error, "{entry}")
    assert error.next_step == "Correct the error."


@pytest.mark.parametrize(
    ("output", "lacks"),
    [
        ("error: the group 'nixbld' specified in 'build-users-group' does not exist", True),
        ("error: the build users group 'nixbld' has no members", True),
        ("warning: the group 'nixbld' specified in 'build-users-group' does not exist\nerror: oops", False),
    ],
)
def test_missing_build_users_are_told(output, lacks):
    assert nix.lacks_build_users(output) == lacks


@pytest.mark.parametrize(
    ("output", "helps"),
    [
        ("error: executing SQLite query: database or disk is full", "^Free room on the machine \\("),
        ("error: lock file: No space left on device\nerror: SQLite: disk I/O error", "^Free room on the machine \\("),
        # On a full disk too.
        ("error: executing SQLite statement 'pragma synchronous = normal': disk I/O error", "if its disk is full"),
        ("error: executing SQLite query: database disk image is malformed", "database is damaged"),
    ],
)
def test_a_full_disk_is_no_damaged_database(output, helps):
    assert re.search(helps, str(nix.what_helps(output)))
    assert nix.what_helps("error: cannot build") is None
