# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine exports is read before it is imported."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.store import exported


def nix_store(*words: str) -> bytes:
    return subprocess.run(["nix-store", *words], check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A store path that refers to another one; both have files of each kind."""
    directory = tmp_path_factory.mktemp("paths")
    inner = directory / "inner"
    inner.mkdir()
    (inner / "empty").touch()
    (inner / "program").write_text("#!/bin/sh\n")
    (inner / "program").chmod(0o755)
    (inner / "link").symlink_to("program")
    (inner / "(").mkdir()
    base = nix_store("--add", str(inner)).decode().strip()
    expression = f'builtins.toFile "outer" "${{{inner}}}"'
    outer = subprocess.run(
        ["nix-instantiate", "--eval", "--read-write-mode", "-E", f'"${{{expression}}}"'],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    return outer.strip('"'), base


@pytest.fixture(scope="module")
def export(paths: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("export") / "closure"
    file.write_bytes(nix_store("--export", *reversed(paths)))
    return file


def test_paths_and_references_are_read(paths: tuple[str, str], export: Path) -> None:
    outer, base = paths
    assert exported.read(export) == {base: (), outer: (base,)}


def test_a_closure_is_accepted(paths: tuple[str, str], export: Path) -> None:
    assert set(exported.check(export, [paths[0]], "target")) == set(paths)


def test_a_path_that_was_not_asked_for_is_refused(paths: tuple[str, str], export: Path) -> None:
    outer, base = paths
    with pytest.raises(OpsError, match=f"target: .*exports paths that were not asked for: {outer}"):
        exported.check(export, [base], "target")


@settings(deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused(export: Path, data: st.DataObject) -> None:
    whole = export.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = export.with_name("damaged")
    for content in (whole[:at], whole[:at] + data.draw(st.binary(min_size=1, max_size=16)) + whole[at + 1 :]):
        damaged.write_bytes(content)
        try:
            exported.read(damaged)
        except ValueError:
            continue
        # Only contents and names were changed.
        assert len(content) >= len(whole)


def test_directories_that_are_too_deep_are_refused(tmp_path: Path) -> None:
    def texts(*words: bytes) -> bytes:
        return b"".join(len(word).to_bytes(8, "little") + word + bytes(-len(word) % 8) for word in words)

    deep = texts(b"(", b"type", b"directory", b"entry", b"(", b"name", b"a", b"node") * 2000
    (tmp_path / "closure").write_bytes((1).to_bytes(8, "little") + texts(b"nix-archive-1") + deep)
    frames = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 500)
    try:
        with pytest.raises(OpsError, match="its directories are too deep"):
            exported.check(tmp_path / "closure", [], "target")
    finally:
        sys.setrecursionlimit(frames)
