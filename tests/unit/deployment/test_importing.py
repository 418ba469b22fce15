# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an import writes for deployments of NixOps, and what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible import constants
from ansible.plugins.loader import cache_loader

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import (
    creation,
    discovery,
    fact_cache,
    importing,
    nixops_file,
)
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.importing import Import
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.nixops_file import Exported
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import source
from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluation import evaluate
from networks.support import NIX_PATH
from nixops.support import exported, key

GIVEN: dict[str, Any] = {"networks": None, "flake": None, "nix_path": []}

# Networks as they were written for NixOps 1.7, with machines of several kinds.
PHYSICAL = """
{ domain, replicas, ... }:
{
  resources.ec2KeyPairs.fleet-key = { region = "eu-west-1"; };
  rack.deployment.targetHost = "rack.${domain}";
  shop =
    { resources, ... }:
    {
      deployment.targetEnv = "ec2";
      deployment.ec2.region = "eu-west-1";
      deployment.ec2.keyPair = resources.ec2KeyPairs.fleet-key;
    };
  inside.deployment = { targetEnv = "ec2"; ec2.region = "eu-west-1"; };
  metal.deployment = { targetEnv = "hetzner"; hetzner.mainIPv4 = "203.0.113.9"; };
  lab.deployment = { targetEnv = "libvirtd"; libvirtd.memorySize = 1024; };
}
"""
LOGICAL = """
{ domain, ... }:
{
  defaults = { services.openssh.enable = true; };
  shop.deployment.ec2.instanceType = "t2.small";
  lab = { nodes, ... }: { environment.etc.shop.text = nodes.shop.config.networking.privateIPv4; };
}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's directory, without any configuration of Ansible."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "CONFIG_FILE", None)
    # By its whole name, only Ansible's own programs find a plugin.
    monkeypatch.setattr(fact_cache, "_FILES", "jsonfile")
    return tmp_path / "work"


def planned(
    one: Exported, directory: Path, given: Mapping[str, Any] | None = None, *, with_keys: bool = True
) -> Import:
    path = str(directory / f"{one.name}.network.yml")
    config = creation.config(
        str(directory), str(directory), one.uuid, importing.options(one, {**GIVEN, **(given or {})}, str(directory))
    )
    return importing.plan(one, path, config, with_keys=with_keys)


def test_machines_of_nixops_become_machines_that_exist(place: Path, tmp_path: Path) -> None:
    (place / "physical.nix").write_text(PHYSICAL)
    (place / "logical.nix").write_text(LOGICAL)
    [fleet] = nixops_file.read(exported("1.7", tmp_path / "pairs"))
    plan = planned(fleet, place, {"networks": ["physical.nix", "logical.nix"], "nix_path": NIX_PATH})
    importing.write(plan, importing.check_cache(plan))

    keys = tmp_path / "state/nix.ops/keys" / fleet.uuid
    assert sorted(file.name for file in keys.iterdir() if file.suffix != ".pub") == ["lab", "metal", "rack", "shop"]
    assert {file.stat().st_mode & 0o777 for file in keys.iterdir() if file.suffix != ".pub"} == {0o600}
    assert keys.stat().st_mode & 0o777 == 0o700
    assert (keys / "shop").read_text() == key(tmp_path / "pairs/shop", private=True)
    host_key = key(tmp_path / "pairs/host", private=False).rpartition(" NixOps")[0]
    assert (tmp_path / "state/nix.ops/known_hosts" / fleet.uuid).read_text() == f"shop {host_key}\n"
    assert json.loads((place / "fleet-imported/machines.json").read_text()) == {
        "shop": {"address": "198.51.100.7", "privateIPv4": "10.0.0.7", "publicIPv4": "198.51.100.7"},
        "inside": {"address": "10.0.0.8", "privateIPv4": "10.0.0.8", "publicIPv4": "198.51.100.8"},
        "metal": {"address": "203.0.113.9"},
        "lab": {"address": "192.168.122.5", "privateIPv4": "192.168.122.5"},
    }

    network = source.read_source(plan.path, lambda path: yaml.safe_load(Path(path).read_text()))
    assert network.arguments == {"domain": "fleet.example", "replicas": 3}
    found = evaluate(network).definitions
    assert {name: (one.target_env, one.target_host) for name, one in found.items()} == {
        "rack": ("none", "rack.fleet.example"),
        "shop": ("none", "198.51.100.7"),
        "inside": ("none", "10.0.0.8"),
        "metal": ("none", "203.0.113.9"),
        "lab": ("none", "192.168.122.5"),
    }
    told = "\n".join(importing.describe(plan, [*found, "extra"]))
    assert "retired" in told and "extra is new" in told


def test_what_is_remembered_is_in_the_cache_of_the_new_configuration(place: Path, tmp_path: Path) -> None:
    (place / "nixops.nix").write_text("{ }")
    [shop] = nixops_file.read(exported("2", tmp_path / "pairs"))
    plan = planned(shop, place)
    facts = importing.check_cache(plan)
    assert facts == str(tmp_path / "state/nix.ops/facts" / shop.uuid)
    importing.write(plan, facts)
    cached = cache_loader.get("jsonfile", _uri=facts, _timeout=0).get("web")
    state = states.read(cached[fact_cache.FACT][shop.uuid], shop.uuid)
    assert state is not None
    assert state.inputs.state_version == "20.09"
    assert state.inputs.ssh_public_key == key(tmp_path / "pairs/web", private=False)
    # A second import would find all of it.
    with pytest.raises(OpsError, match="UUID"):
        importing.check_new(
            shop, str(place / "other.network.yml"), [discovery.Deployment(plan.path, "shop", shop.uuid, None)]
        )
    with pytest.raises(OpsError, match="exists already"):
        importing.check_new(shop, plan.path, [])


def test_a_cache_that_forgets_is_refused(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "nixops.nix").write_text("{ }")
    (place / "ansible.cfg").write_text("[defaults]\n")
    monkeypatch.setattr(constants, "CONFIG_FILE", str(place / "ansible.cfg"))
    monkeypatch.setattr(constants, "CACHE_PLUGIN", "memory")
    [shop] = nixops_file.read(exported("2", tmp_path / "pairs"))
    with pytest.raises(OpsError, match="facts are kept in memory"):
        importing.check_cache(planned(shop, place))
    assert sorted(os.listdir(place)) == ["ansible.cfg", "nixops.nix"]


def test_nothing_is_left_if_a_file_cannot_be_written(place: Path, tmp_path: Path) -> None:
    (place / "physical.nix").write_text("{ }")
    [fleet] = nixops_file.read(exported("1.7", tmp_path / "pairs"))
    plan = planned(fleet, place, {"networks": ["physical.nix"]})
    (place / "ansible.cfg").write_text("")
    with pytest.raises(OpsError, match="exists already"):
        importing.write(plan, None)
    assert sorted(os.listdir(place)) == ["ansible.cfg", "physical.nix"]
    assert list((tmp_path / "state/nix.ops/keys" / fleet.uuid).iterdir()) == []


def test_keys_that_are_here_already(place: Path, tmp_path: Path) -> None:
    (place / "nixops.nix").write_text("{ }")
    [shop] = nixops_file.read(exported("2", tmp_path / "pairs"))
    keys = tmp_path / "state/nix.ops/keys" / shop.uuid
    keys.mkdir(parents=True)
    (keys / "web").write_text(key(tmp_path / "pairs/web", private=True))
    assert str(keys / "web") not in [file.path for file in planned(shop, place).plan.files]
    (keys / "web").write_text(key(tmp_path / "pairs/other", private=True))
    with pytest.raises(OpsError, match="web exists already, and is something else"):
        planned(shop, place)
    without = planned(shop, place, with_keys=False)
    assert not [file for file in without.plan.files if str(keys) in file.path]
    assert without.states["web"].inputs.ssh_public_key == key(tmp_path / "pairs/web", private=False)


def test_a_key_pair_that_is_not_one(place: Path, tmp_path: Path) -> None:
    (place / "nixops.nix").write_text("{ }")
    [shop] = nixops_file.read(exported("2", tmp_path / "pairs"))
    db, web = shop.machines
    for wrong, message in (
        (replace(web, public_key=db.public_key), "does not belong"),
        (replace(web, private_key="-----BEGIN RSA PRIVATE KEY-----\nAAAA\n"), "can read"),
    ):
        with pytest.raises(OpsError, match=message) as refused:
            planned(replace(shop, machines=(db, wrong)), place)
        assert "BEGIN" not in str(refused.value)


def test_which_deployments_are_imported(tmp_path: Path) -> None:
    [shop] = nixops_file.read(exported("2", tmp_path))
    [fleet] = nixops_file.read(exported("1.7", tmp_path))
    both, choose = [shop, fleet], importing.choose
    assert choose(both, None, None) == both
    assert choose(both, "shop", None) == choose(both, shop.uuid, None) == [shop]
    assert choose(both, "shop", "market") == [replace(shop, name="market")]
    for exports, wanted, name, message in (
        (both, "absent", None, "no deployment absent"),
        (both, None, "market", "only one deployment"),
        ([replace(shop, name=None)], None, None, "has no name"),
        ([shop, replace(fleet, name="shop")], None, None, "two deployments"),
    ):
        with pytest.raises(OpsError, match=message):
            choose(exports, wanted, name)


def test_where_the_network_is(place: Path, tmp_path: Path) -> None:
    [shop] = nixops_file.read(exported("2", tmp_path))
    with pytest.raises(OpsError, match="are not known"):
        importing.options(shop, GIVEN, str(place))
    (place / "flake.nix").touch()
    assert importing.options(shop, GIVEN, str(place))["flake"] == "."
    (place / "nixops.nix").touch()
    assert importing.options(shop, GIVEN, str(place))["networks"] == ["nixops.nix"]
    assert importing.options(shop, {**GIVEN, "networks": ["a.nix"]}, str(place))["networks"] == ["a.nix"]
    moved = replace(shop, files=("<shop/a.nix>", "/gone/b.nix"))
    with pytest.raises(OpsError, match=r"/gone/b\.nix"):
        importing.options(moved, GIVEN, str(place))
    assert importing.options(moved, {**GIVEN, "networks": ["b.nix"]}, str(place))["networks"] == ["b.nix"]
    told = importing.options(moved, {**GIVEN, "flake": "path:."}, str(place))
    assert (told["networks"], told["flake"]) == ([], "path:.")
