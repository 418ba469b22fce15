# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nix.ops.create writes, and which deployments it leaves as they are."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible import constants
from ansible.parsing.dataloader import DataLoader

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import creation
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.creation import File, Plan
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
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


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("path:sub", "path:./../sub"),
        ("path:/srv/x", "path:/srv/x"),
        ("./a?dir=b", "./../a?dir=b"),
        ("github:a/b", "github:a/b"),
    ],
)
def test_path_of_a_flake_is_relative_to_the_source(given, written):
    assert config("/net/deployments", "/net", networks=None, flake=given)["flake"] == written


def test_file_of_the_search_path_is_written_as_it_was_given():
    assert config(networks=["<site/net.nix>"])["files"] == ["<site/net.nix>"]


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
    creation.write(str(tmp_path), Plan((file,), (), ()))
    assert stat.S_IMODE(Path(file.path).stat().st_mode) == 0o600


def test_files_are_never_overwritten(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    with pytest.raises(OpsError, match="old exists already"):
        creation.write(str(tmp_path), Plan((File(str(new), "new", ""), File(str(old), "new", "")), (), ()))
    assert old.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_modes_of_what_is_written(tmp_path):
    before = os.umask(0o027)
    try:
        creation.write(str(tmp_path), Plan((File(str(tmp_path / "file"), "text", ""),), (f"{tmp_path}/a/b",), ()))
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "file")}
    assert modes == {"a": 0o700, "a/b": 0o700, "file": 0o640}


@pytest.fixture
def no_configuration(monkeypatch, tmp_path):
    """A run for which no configuration file is in use."""
    monkeypatch.setattr(constants, "CONFIG_FILE", None)
    monkeypatch.chdir(tmp_path)


def test_plan_without_a_configuration(no_configuration, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    path = str(tmp_path / "target.network.yml")
    found = creation.plan(path, config(), UUID)
    assert [file.path for file in found.files] == [str(tmp_path / "ansible.cfg"), path]
    assert (found.directories, found.hints) == ((f"~/.local/state/nix.ops/facts/{UUID}",), ())
    [hint] = creation.plan(path, config(arguments={"a": 1}), UUID).hints
    assert "encrypt what is secret" in hint


def test_plan_leaves_a_configuration_alone(no_configuration, tmp_path):
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")
    path = str(tmp_path / "target.network.yml")
    found = creation.plan(path, config(), UUID)
    assert ([file.path for file in found.files], found.directories) == ([path], ())
    assert found.hints[0].startswith(f"{tmp_path}/ansible.cfg is left alone")


def test_plan_where_ansible_would_ignore_a_configuration(no_configuration, tmp_path):
    tmp_path.chmod(0o777)
    found = creation.plan(str(tmp_path / "target.network.yml"), config(), UUID)
    assert len(found.files) == 1
    assert "Ansible would ignore an ansible.cfg there" in found.hints[0]


def deployment(path="/net/target.network.yml", name="target", uuid=UUID, **given):
    network = source.network_of_files(["/net/target.nix"], name=name, uuid=uuid, **given)
    return Deployment(path, name, uuid, network)


OTHER = "9e8652aa-e64a-11f1-b7ab-02fc00000002"


def test_a_deployment_that_exists():
    there = deployment()
    wanted = source.network_of_files(["/net/target.nix"], name="target", uuid=OTHER)
    assert creation.find_existing("/net/target.network.yml", wanted, [there]) == there
    # Of the same name in the directory, whatever its source is called.
    assert creation.find_existing("/net/target.network.yml", wanted, [deployment("/net/a.network.yml")])
    assert creation.find_existing("/net/target.network.yml", wanted, [deployment("/else/target.network.yml")]) is None


def test_a_source_that_is_another_deployment_is_refused():
    wanted = source.network_of_files(["/net/target.nix"], name="target", uuid=OTHER)
    broken = replace(deployment(), network=None, problem="no YAML")
    for there, why in ((deployment(name="other"), "is deployment \u2018other\u2019"), (broken, "can't be read")):
        with pytest.raises(OpsError, match=why):
            creation.find_existing("/net/target.network.yml", wanted, [there])


def test_a_uuid_that_is_taken_is_refused():
    wanted = source.network_of_files(["/net/b.nix"], name="b", uuid=UUID)
    with pytest.raises(OpsError, match="that of deployment \u2018target\u2019"):
        creation.find_existing("/net/b.network.yml", wanted, [deployment()])


def test_options_that_differ():
    there = deployment(arguments={"a": 1})
    wanted = deployment(uuid=OTHER, options={"cores": 2}).network
    given = {**GIVEN, "uuid": OTHER, "options": {"cores": 2}}
    assert creation.find_differing(there.network, wanted, given) == ["uuid", "options"]
    assert creation.find_differing(there.network, wanted, {**given, "uuid": None}) == ["options"]
    told, differs = creation.describe_existing(there, ["uuid"])
    assert f"UUID {UUID}, files target.nix, named by /net/target.network.yml" in told
    assert "(uuid); the deployment was left as it is" in differs
    assert len(creation.describe_existing(there, [])) == 1


def test_values_that_are_no_json_are_refused():
    with pytest.raises(OpsError, match="can't be written as JSON"):
        creation.plain_options({"arguments": {"a": {1}}})


def test_files_that_are_no_network(tmp_path):
    for name in ("missing.nix", "a.network.yml"):
        (tmp_path / "a.network.yml").touch()
        network = source.network_of_files([str(tmp_path / name)], name="a")
        with pytest.raises(OpsError, match=name):
            creation.check_files(str(tmp_path), network)
    with pytest.raises(OpsError, match="there is no directory"):
        creation.check_files(str(tmp_path / "missing"), network)
