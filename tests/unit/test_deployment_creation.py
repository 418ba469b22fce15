# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nix.ops.create writes, and what it tells about a configuration that is there."""

from __future__ import annotations

import configparser
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.config.manager import ConfigManager
from ansible.parsing.dataloader import DataLoader

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import creation
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.creation import File, Settings
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import source

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
GIVEN: dict[str, Any] = {
    "deployment": "target",
    "uuid": None,
    "networks": ["target.nix"],
    "flake": None,
    "arguments": {},
    "nix_path": [],
    "options": {},
}

# What YAML and Jinja would take for something else.
SPECIAL: dict[str, Any] = {
    "word": "on",
    "number": "1.0",
    "date": "2026-01-01",
    "nothing": "null",
    "tag": "!vault x",
    "template": "{{ 1 + 1 }} {% raw %}",
    "comment": "a # b: c",
    "lines": "one\n  two\n\n",
    "letters": "\u00fc \u2028 \u65e5 \t \\ ' \"",
    "real": [1, 1.5, True, None, {"deep": {"er": []}}],
}


def config(directory="/net", start="/net", **given):
    return creation.config(directory, start, UUID, {**GIVEN, **given})


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("a.nix", "a.nix"),
        ("../a.nix", "../a.nix"),
        ("/net/sub/a.nix", "sub/a.nix"),
        ("/else/a.nix", "/else/a.nix"),
        ("~a.nix", "./~a.nix"),
    ],
)
def test_files_are_relative_to_the_source(given, written):
    assert config(networks=[given])["files"] == [written]


def test_relative_paths_start_where_they_were_given():
    written = config("/net/deployments", "/net", nix_path=["nixpkgs=./nixpkgs", "https://example.org/x", "/x"])
    assert written["files"] == ["../target.nix"]
    assert written["nix_path"] == ["nixpkgs=../nixpkgs", "https://example.org/x", "/x"]
    flakes = {one: config("/net/deployments", "/net", networks=None, flake=one)["flake"] for one in (".", "github:a/b")}
    assert flakes == {".": "./..", "github:a/b": "github:a/b"}


def test_source_is_read_back_as_it_was_given(tmp_path):
    path = str(tmp_path / "target.network.yml")
    given = config(str(tmp_path), str(tmp_path), arguments=SPECIAL, options={"cores": 2, "keep-going": True})
    (tmp_path / "target.network.yml").write_text(creation.source(path, given).text, encoding="utf-8")
    network = source.read_source(path, DataLoader().load_from_file)
    assert network == source.network_of_source(path, given)
    assert network.arguments == SPECIAL
    assert network.options == {"cores": "2", "keep-going": "true"}


def test_arguments_are_neither_shown_nor_readable_by_others(tmp_path):
    file = creation.source(str(tmp_path / "a.network.yml"), config(arguments={"password": "hunter2"}))
    assert "hunter2" in file.text
    assert "hunter2" not in file.shown
    assert "password" in file.shown
    creation.write(str(tmp_path), [file])
    assert stat.S_IMODE(Path(file.path).stat().st_mode) == 0o600


def test_configuration_lacks_nothing(tmp_path):
    path = str(tmp_path / "target.network.yml")
    written = creation.configuration(str(tmp_path / "ansible.cfg"), "target.network.yml", ["host_list", "auto"])
    creation.write(str(tmp_path), [written, creation.source(path, config())])
    manager = ConfigManager(written.path)
    assert manager.get_config_value("DEFAULT_HOST_LIST") == [path]
    parser = configparser.ConfigParser()
    parser.read(written.path)
    assert parser["inventory"]["enable_plugins"] == "nix.ops.network, host_list, auto"
    settings = Settings(
        written.path,
        manager.get_config_value("CACHE_PLUGIN"),
        manager.get_config_value("CACHE_PLUGIN_TIMEOUT"),
        manager.get_config_value("DEFAULT_HOST_LIST"),
        manager.get_config_value("INVENTORY_ENABLED"),
        manager.get_config_value("INVENTORY_ANY_UNPARSED_IS_FAILED"),
    )
    assert creation.hints(settings, path) == []


COMPLETE = Settings("/net/ansible.cfg", "redis", 0, ["/net"], ["nix.ops.network"], strict=True)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        ({"timeout": 86400.0}, ["[defaults]", "fact_caching_timeout = 0"]),
        (
            {"cache": "memory"},
            [
                "[defaults]",
                "fact_caching = ansible.builtin.jsonfile",
                "fact_caching_connection = .nix-ops/facts",
            ],
        ),
        ({"inventory": []}, ["[defaults]", "inventory = b.network.yml"]),
        ({"enabled": ["auto"]}, ["[inventory]", "enable_plugins = nix.ops.network, auto"]),
        ({"strict": False}, ["[inventory]", "any_unparsed_is_failed = true"]),
    ],
)
def test_lines_that_are_lacking(change, told):
    assert creation.lacking(replace(COMPLETE, **change), "/net/b.network.yml") == told


def test_second_source_has_to_be_chosen():
    [hint] = creation.hints(replace(COMPLETE, inventory=["/net/a.network.yml"]), "/net/b.network.yml")
    assert "-i b.network.yml" in hint


def test_files_are_never_overwritten(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    with pytest.raises(OpsError, match="old exists already"):
        creation.write(str(tmp_path), [File(str(new), "new", ""), File(str(old), "new", "")])
    assert old.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"old", ".nix-ops"}


def test_place_for_what_is_kept(tmp_path):
    before = os.umask(0o027)
    try:
        creation.write(str(tmp_path), [File(str(tmp_path / "file"), "text", "")])
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in (".nix-ops", ".nix-ops/facts", "file")}
    assert modes == {".nix-ops": 0o700, ".nix-ops/facts": 0o700, "file": 0o640}
    assert (tmp_path / ".nix-ops/.gitignore").read_text() == "*\n"


def test_files_that_are_no_network(tmp_path):
    for name in ("missing.nix", "a.network.yml"):
        (tmp_path / "a.network.yml").touch()
        network = source.network_of_files([str(tmp_path / name)], name="a")
        with pytest.raises(OpsError, match=name):
            creation.check_files(network)
