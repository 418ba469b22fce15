# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pinned sources in the search path."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation, pins
from ansible_collections.nix.ops.plugins.plugin_utils.network.source import network_of_source

# As npins writes it, but for the sources that it knows how to fetch.
NPINS = """
let
  data = builtins.fromJSON (builtins.readFile ./sources.json);
  fetch = spec: spec // { outPath = builtins.fetchTarball { inherit (spec) url; sha256 = spec.hash; }; };
in
if data.version == 6 then builtins.mapAttrs (_: fetch) data.pins else throw "version"
"""
# As niv writes it: a function.
NIV = """
{ sourcesFile ? ./sources.json, system ? builtins.currentSystem }:
builtins.mapAttrs
  (_: spec: spec // { outPath = builtins.fetchTarball { inherit (spec) url sha256; }; })
  (builtins.fromJSON (builtins.readFile sourcesFile))
"""
MARK = "{ target = { }; }"


@pytest.fixture
def tarball(tmp_path: Path) -> dict[str, str]:
    """A nixpkgs in a tarball: its URL, its hash, and its place in the store."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/default.nix").write_text(json.dumps(str(tmp_path)))
    subprocess.run(["tar", "-C", tmp_path, "-czf", tmp_path / "source.tar.gz", "source"], check=True)
    url = f"file://{tmp_path}/source.tar.gz"
    hashed = subprocess.run(
        ["nix-prefetch-url", "--unpack", "--print-path", "--name", "source", url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return {"url": url, "hash": hashed[0], "path": hashed[1]}


def lock(path: Path, **nodes: Any) -> Path:
    """Write a lock file with these nodes beside its root."""
    path.write_text(json.dumps({"version": 7, "root": "root", "nodes": nodes}))
    return path


def test_pin_of_npins(tmp_path: Path, tarball: dict[str, str]) -> None:
    (tmp_path / "npins").mkdir()
    (tmp_path / "npins/default.nix").write_text(NPINS)
    file = tmp_path / "npins/sources.json"
    file.write_text(json.dumps({"version": 6, "pins": {"nixpkgs": tarball}}))
    assert pins.names(str(file)) == ["nixpkgs"]
    assert pins.resolve((f"nixpkgs={file}#nixpkgs", "x=/y", "/z"), {}) == (f"nixpkgs={tarball['path']}", "x=/y", "/z")
    with pytest.raises(OpsError, match="has no pin 'nixpgks'") as refused:
        pins.resolve((f"nixpkgs={file}#nixpgks",), {})
    assert refused.value.next_step == f"Write {file}#nixpkgs."


def test_pin_of_niv_is_known_without_the_network(tmp_path: Path, tarball: dict[str, str]) -> None:
    (tmp_path / "nix").mkdir()
    (tmp_path / "nix/sources.nix").write_text(NIV)
    pin = {"url": "https://nowhere.invalid/source.tar.gz", "sha256": tarball["hash"]}
    (tmp_path / "nix/sources.json").write_text(json.dumps({"nixpkgs": pin}))
    assert pins.resolve((f"nixpkgs={tmp_path}/nix/sources.json#nixpkgs",), {}) == (f"nixpkgs={tarball['path']}",)


def test_locked_input_of_a_flake(tmp_path: Path) -> None:
    (tmp_path / "pkgs").mkdir()
    (tmp_path / "pkgs/default.nix").write_text("1")
    locked = {"type": "path", "path": f"{tmp_path}/pkgs", "narHash": hash_of(tmp_path / "pkgs")}
    file = lock(
        tmp_path / "flake.lock",
        root={"inputs": {"nixpkgs": ["tools", "nixpkgs"], "tools": "tools"}},
        tools={"inputs": {"nixpkgs": "nixpkgs_2"}, "locked": {"type": "path", "path": "/nowhere"}},
        nixpkgs_2={"locked": locked},
    )
    assert pins.names(str(file)) == ["nixpkgs", "tools"]
    [entry] = pins.resolve((f"nixpkgs={file}#nixpkgs",), {})
    assert (Path(entry.removeprefix("nixpkgs=")) / "default.nix").read_text() == "1"


def hash_of(path: Path) -> str:
    argv = ["nix-hash", "--type", "sha256", "--base32", str(path)]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    argv = ["nix", "--extra-experimental-features", "nix-command", "hash", "to-sri", "--type", "sha256", text]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def test_network_is_evaluated_anew_if_its_pin_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.setenv("NIX_PATH", "")
    for number in (1, 2):
        tree = tmp_path / f"pkgs{number}"
        (tree / "nixos/lib").mkdir(parents=True)
        (tree / "nixos/lib/eval-config.nix").write_text(f'throw "nixpkgs {number}"')
    (tmp_path / "net").mkdir()
    (tmp_path / "net/net.nix").write_text(MARK)
    for number in (1, 2):
        tree = tmp_path / f"pkgs{number}"
        locked = {"type": "path", "path": str(tree), "narHash": hash_of(tree)}
        lock(tmp_path / "net/flake.lock", root={"inputs": {"nixpkgs": "nixpkgs"}}, nixpkgs={"locked": locked})
        config = {"files": ["net.nix"], "nix_path": ["nixpkgs=flake.lock#nixpkgs"]}
        with pytest.raises(OpsError, match=f"nixpkgs {number}"):
            evaluation.evaluate(network_of_source(str(tmp_path / "net/a.network.yml"), config))


def test_contents_of_keys_are_evaluated_with_a_pinned_nixpkgs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.setenv("NIX_PATH", "")
    tree = tmp_path / "pkgs"
    (tree / "nixos/lib").mkdir(parents=True)
    (tree / "nixos/lib/eval-config.nix").write_text('throw "the pinned nixpkgs"')
    (tmp_path / "net.nix").write_text('{ target.deployment.keys.a.text = "b"; }')
    locked = {"type": "path", "path": str(tree), "narHash": hash_of(tree)}
    lock(tmp_path / "flake.lock", root={"inputs": {"nixpkgs": "nixpkgs"}}, nixpkgs={"locked": locked})
    config = {"files": ["net.nix"], "nix_path": ["nixpkgs=flake.lock#nixpkgs"]}
    with pytest.raises(OpsError, match="the pinned nixpkgs"):
        evaluation.key_contents(network_of_source(str(tmp_path / "a.network.yml"), config), {"target": ["a"]})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("flake.lock", ""),
        ("flake.lock", "[]"),
        ("flake.lock", '{"version": 8, "root": "root", "nodes": {"root": {}}}'),
        ("flake.lock", '{"version": 7, "root": "a", "nodes": {"a": {"inputs": {"nixpkgs": ["nixpkgs"]}}}}'),
        ("npins/sources.json", '{"version": 6}'),
        ("nix/sources.json", "3"),
    ],
)
def test_pins_that_are_not_understood(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(OpsError, match="has no pins that are understood"):
        pins.resolve((f"nixpkgs={tmp_path}/{name}#nixpkgs",), {})


def test_place_that_is_not_a_pin_stays_as_it_is() -> None:
    entries = ("nixpkgs=/a/b#c", "nixpkgs=https://example.org/flake.lock#nixpkgs", "/a/flake.lock")
    assert pins.resolve(entries, {}) == entries
