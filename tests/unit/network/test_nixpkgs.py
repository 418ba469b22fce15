# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nixpkgs a new deployment takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import nixpkgs
from ansible_collections.nix.ops.plugins.plugin_utils.network.nixpkgs import Nixpkgs

FIRST, SECOND = Nixpkgs("npins/sources.json#nixpkgs", "npins"), Nixpkgs("/srv/nixpkgs", "NIX_PATH")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home, in which nothing of this computer counts."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def found(directory: Path, home: Path, **environment: str) -> list[str]:
    known = {"HOME": str(home), "NIX_CONF_DIR": str(home / "conf"), "NIX_PATH": "", **environment}
    return [one.entry for one in nixpkgs.find(str(directory), known)]


def register(file: Path, /, **to: Any) -> None:
    flakes = [
        {"from": {"type": "indirect", "id": "other"}, "to": {"type": "path", "path": "/"}},
        {"from": {"type": "indirect", "id": "nixpkgs"}, "to": to},
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"version": 2, "flakes": flakes}))


def tree(path: Path) -> Path:
    (path / "nixos/lib").mkdir(parents=True)
    (path / "nixos/lib/eval-config.nix").write_text("")
    return path


def test_nothing_is_found_in_an_empty_home(tmp_path: Path, home: Path) -> None:
    assert found(tmp_path, home) == []


def test_pins_beside_the_source_come_first(tmp_path: Path, home: Path) -> None:
    (tmp_path / "npins").mkdir()
    (tmp_path / "npins/sources.json").write_text('{"version": 6, "pins": {"nixpkgs": {}, "other": {}}}')
    (tmp_path / "nix").mkdir()
    (tmp_path / "nix/sources.json").write_text('{"nixpkgs": {}}')
    nodes = {"root": {"inputs": {"nixpkgs": "n"}}, "n": {"locked": {"type": "path", "path": "/"}}}
    (tmp_path / "flake.lock").write_text(json.dumps({"version": 7, "root": "root", "nodes": nodes}))
    place = tree(tmp_path / "nixpkgs")
    assert found(tmp_path, home, NIX_PATH=f"x=/y:nixpkgs={place}:/z") == [
        "nixpkgs=npins/sources.json#nixpkgs",
        "nixpkgs=nix/sources.json#nixpkgs",
        "nixpkgs=flake.lock#nixpkgs",
        f"nixpkgs={place}",
    ]
    (tmp_path / "npins/sources.json").write_text("what is this")
    (tmp_path / "nix/sources.json").write_text('{"other": {}}')
    assert found(tmp_path, home) == ["nixpkgs=flake.lock#nixpkgs"]


def test_search_path_of_nix(tmp_path: Path, home: Path) -> None:
    place = tree(tmp_path / "all/nixpkgs")
    assert found(tmp_path, home, NIX_PATH=f"nixpkgs=/nowhere:{tmp_path}/all") == [f"nixpkgs={place}"]
    for remote in ("channel:nixos-25.05", "flake:nixpkgs", "https://example.org/nixpkgs.tar.gz"):
        assert found(tmp_path, home, NIX_PATH=f"nixpkgs={remote}:{tmp_path}/all") == [f"nixpkgs={remote}"]


def test_channel_is_written_as_every_user_has_it(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(home / ".nix-defexpr/channels/nixpkgs")
    environment = {"HOME": str(home), "NIX_CONF_DIR": str(home)}
    assert [str(one) for one in nixpkgs.find(str(tmp_path), environment)] == [
        "~/.nix-defexpr/channels/nixpkgs (a channel)"
    ]


@pytest.mark.parametrize(
    ("to", "entry"),
    [
        ({"type": "github", "owner": "NixOS", "repo": "nixpkgs", "rev": "abc", "narHash": "x"}, "archive/abc.tar.gz"),
        ({"type": "github", "owner": "NixOS", "repo": "nixpkgs", "ref": "nixos-25.05"}, "archive/nixos-25.05.tar.gz"),
        ({"type": "tarball", "url": "https://example.org/nixpkgs.tar.gz"}, "https://example.org/nixpkgs.tar.gz"),
        ({"type": "path", "path": "/usr"}, "nixpkgs=/usr"),
        ({"type": "path", "path": "/nowhere"}, None),
        ({"type": "git", "url": "https://example.org/nixpkgs.git"}, None),
    ],
)
def test_flake_registry(tmp_path: Path, home: Path, to: dict[str, str], entry: str | None) -> None:
    register(home / "conf/registry.json", **to)
    known = found(tmp_path, home)
    assert known == [] if entry is None else [one.endswith(entry) for one in known] == [True]
    register(home / ".config/nix/registry.json", type="path", path="/etc")
    assert found(tmp_path, home)[0] == "nixpkgs=/etc"


def test_same_one_is_found_once(tmp_path: Path, home: Path) -> None:
    register(home / "conf/registry.json", type="path", path=str(tree(tmp_path / "nixpkgs")))
    (tmp_path / "link").symlink_to(tmp_path / "nixpkgs")
    assert found(tmp_path, home, NIX_PATH=f"nixpkgs={tmp_path}/link") == [f"nixpkgs={tmp_path}/link"]


def test_choice(tmp_path: Path) -> None:
    place = tree(tmp_path / "nixpkgs")
    assert nixpkgs.choose([FIRST, SECOND], "2", "/") == SECOND
    assert nixpkgs.choose([FIRST, SECOND], "", "/") == nixpkgs.choose([FIRST, SECOND], None, "/") == FIRST
    assert nixpkgs.choose([], " nixpkgs", str(tmp_path)).entry == "nixpkgs=nixpkgs"
    assert nixpkgs.choose([], f"nixpkgs={place}", "/").entry == f"nixpkgs={place}"
    assert nixpkgs.choose([], "nixos-25.05", "/").entry == "nixpkgs=channel:nixos-25.05"
    assert nixpkgs.choose([], "https://example.org/x.tar.gz", "/").entry == "nixpkgs=https://example.org/x.tar.gz"
    listed = nixpkgs.question([FIRST, SECOND])
    assert "  1. npins/sources.json#nixpkgs (npins)\n  2. /srv/nixpkgs (NIX_PATH)\n" in listed


@pytest.mark.parametrize(
    ("answer", "what", "next_step"),
    [
        (None, "there is no nixpkgs on this controller", "ansible-playbook nix.ops.install -e install_nixpkgs="),
        ("", "no nixpkgs was named", "ansible-playbook nix.ops.install -e install_nixpkgs="),
        ("7", "there is no nixpkgs number 7", "Run the same again"),
        ("here", "there is no nixpkgs in /net/here", "Name the directory"),
    ],
)
def test_answer_that_means_no_nixpkgs(answer: str | None, what: str, next_step: str) -> None:
    with pytest.raises(OpsError) as refused:
        nixpkgs.choose([], answer, "/net")
    assert refused.value.what == what
    assert next_step in str(refused.value)


@pytest.mark.parametrize(
    ("nix_path", "named"),
    [((), False), (("x=/nixpkgs",), False), (("x=/y", "nixpkgs=./n"), True), (("/srv",), True)],
)
def test_search_path_that_names_a_nixpkgs(nix_path: tuple[str, ...], named: bool) -> None:
    assert nixpkgs.is_named(nix_path) == named
