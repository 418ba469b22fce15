# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contents of keys come from where they are given, and what is wrong with one is said with its name alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.keys import contents
from ansible_collections.nix.ops.plugins.plugin_utils.keys.contents import Sources, check_names, collect
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Key

MARKER = "marker-of-the-test"


def key(name: str, **more: Any) -> Key:
    """Return a key."""
    return Key(name, f"/run/keys/{name}", **more)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """Sources without contents, in a directory."""

    def nothing(names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        raise AssertionError(f"evaluated {names}")

    return Sources("m", {}, nothing, str(tmp_path))


def evaluating(sources: Sources, **found: Mapping[str, Any]) -> Sources:
    """Return sources with a network that gives these."""

    def evaluate(names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        assert set(names) == set(found)
        return found

    return replace(sources, evaluate=evaluate)


def test_contents_of_every_source(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0\xff")
    network = evaluating(
        sources,
        t={"text": "täxt\n", "command": None},
        c={"text": None, "command": ["sh", "-c", "printf '\\0\\377'; pwd"]},
    )
    given = {"a": "text", "b": {"base64": "AP8=\n"}, "o": "wins"}
    keys = [
        *(key("a"), key("b"), key("f", source="keyFile", file="secret"), key("o", source="text")),
        *(key("t", source="text"), key("c", source="keyCommand")),
    ]
    assert collect(keys, replace(network, given=given)) == {
        "a": b"text",
        "b": b"\0\xff",
        "f": b"\0\xff",
        "o": b"wins",
        "t": "täxt\n".encode(),
        "c": b"\0\xff" + f"{tmp_path}\n".encode(),
    }


def test_no_command_is_run_for_a_preview(sources: Sources) -> None:
    found = collect([key("a"), key("c", source="keyCommand")], replace(sources, given={"a": "x"}), run=False)
    assert found == {"a": b"x", "c": None}


def test_names_without_content_and_contents_without_key(sources: Sources) -> None:
    check_names("m", {"a": None, "b": "text"}, ["a", "b"])
    with pytest.raises(OpsError, match="m: no content for the keys a, c\n"):
        check_names("m", {"c": None, "a": None, "b": "text"}, [])
    with pytest.raises(OpsError, match="m: nix_keys has y, z, which"):
        check_names("m", {"a": "text"}, ["z", "y"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "is empty"),
        ({"base64": ""}, "is empty"),
        ({"base64": MARKER}, "is not valid base64"),
        (7, "is given as int, and has to be a text"),
        ({"text": MARKER}, "is given as dict, and has to be a text"),
        (["x", MARKER], "is given as list, and has to be a text"),
    ],
)
def test_content_that_is_not_valid_is_named_and_not_shown(sources: Sources, given: Any, said: str) -> None:
    with pytest.raises(OpsError, match=f"m: the key a {said}") as refused:
        collect([key("a")], replace(sources, given={"a": given}))
    assert refused.value.next_step and MARKER not in str(refused.value)


def test_files_that_can_not_be_read(sources: Sources, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    for file, said in {
        "missing": "No such file",
        "pipe": "which is not a file",
        ".": "not a file|Is a directory",
        "empty": "is empty",
    }.items():
        with pytest.raises(OpsError, match=f"m: the key a .*({said})"):
            collect([key("a", source="keyFile", file=file)], sources)


def test_file_outside_of_the_project_can_be_forbidden(sources: Sources, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    project = tmp_path / "project" / "deeper"
    project.mkdir(parents=True)
    (project / "inside").write_text("y")
    (project.parent / "above").write_text("z")
    (project / "link").symlink_to(outside)
    here = replace(sources, directory=str(project), files="project")

    def read(file: str) -> bytes | None:
        return collect([key("a", source="keyFile", file=file)], here)["a"]

    assert read("inside") == b"y"
    for file in (str(outside), "link", "../above", "../../outside"):
        with pytest.raises(OpsError, match=r"outside of the project .* \(deploy_key_files\)"):
            read(file)
    # In a Git work tree, all of it is the project.
    (project.parent / ".git").mkdir()
    assert read("../above") == b"z"
    with pytest.raises(OpsError, match="outside of the project"):
        read("link")


def test_command_that_fails_hangs_or_is_forbidden(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*command: str, **more: Any) -> None:
        network = evaluating(sources, a={"text": None, "command": list(command)})
        collect([key("a", source="keyCommand")], replace(network, **more))

    with pytest.raises(OpsError, match="the key a has a command that ended with exit code 3\n  sorry") as failed:
        run("sh", "-c", f"echo {MARKER}; echo sorry >&2; exit 3")
    assert MARKER not in str(failed.value)
    with pytest.raises(OpsError, match="the key a has a command that can't be run"):
        run("/nowhere/program")
    with pytest.raises(OpsError, match="the key a is empty"):
        run("true")
    with pytest.raises(OpsError, match="commands are forbidden here \\(deploy_key_commands\\)"):
        run("sh", "-c", "touch ran", commands=False)
    assert not Path(sources.directory, "ran").exists()
    monkeypatch.setattr(contents, "LARGEST", 100_000)
    with pytest.raises(OpsError, match="the key a has a command that prints more than 100000 bytes") as failed:
        run("sh", "-c", f"yes {MARKER}")
    assert MARKER not in str(failed.value)
    monkeypatch.setattr(contents, "_COMMAND_SECONDS", 0)
    with pytest.raises(OpsError, match="has a command that has not ended"):
        run("sleep", "60")
