# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a network says about an option, about its arguments, and what a deploy adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import inspection
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network, Remembered
from networks.support import NIX_PATH, write

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDrvBYPIHG6nTZqPGRaRCfQ1DVvdWmJGY0h0iYbTcbcC nix.ops key of web in shop"
REMEMBERED = {"web": Remembered("24.05", KEY)}
SHOP = """
{ domain, port ? 80 }: {
  require = [ ./more.nix ];
  web = { pkgs, ... }: {
    deployment.targetHost = "web.${domain}";
    environment.etc."motd.d/shop".text = "hello";
    environment.systemPackages = [ pkgs.hello ];
    services.openssh.ports = [ port ];
  };
}
"""
MORE = "{ debug ? false, ... }: { web.services.openssh.ports = [ 22 ]; }"


@pytest.fixture
def shop(tmp_path: Path) -> Network:
    _more, file = write(tmp_path, more=MORE, shop=SHOP)
    return Network(
        "shop",
        "11111111-2222-3333-4444-555555555555",
        (str(file),),
        arguments={"domain": "example.org"},
        nix_path=NIX_PATH,
    )


def shown(network: Network, option: str) -> dict[str, Any]:
    return inspection.option(network, "web", option, remembered=REMEMBERED, env={}, on_line=print)


def test_an_option_has_its_value_and_the_files_of_its_definitions(shop: Network, tmp_path: Path) -> None:
    found = shown(shop, "services.openssh.ports")
    assert sorted(found["value"]) == [22, 80]
    assert {one["file"]: one["value"] for one in found["definitions"]} == {
        f"{tmp_path}/shop.nix": [80],
        f"{tmp_path}/more.nix": [22],
    }
    assert "list of" in found["type"]
    assert found["declarations"][0].endswith(".nix")


def test_what_a_deploy_adds_is_there(shop: Network) -> None:
    found = shown(shop, "users.users.root.openssh.authorizedKeys.keys")
    assert found["value"] == [KEY]
    assert [(Path(one["file"]).name, one["value"]) for one in found["definitions"]] == [("physical.nix", [KEY])]
    found = shown(shop, "system.stateVersion")
    assert found["value"] == "24.05"
    assert [Path(one["file"]).name for one in found["definitions"]] == ["physical.nix"]


def test_what_is_inside_of_an_option_and_sets_of_options(shop: Network) -> None:
    found = shown(shop, 'environment.etc."motd.d/shop".text')
    assert found["value"] == "hello" and found["type"] is None
    assert [(Path(one["file"]).name, one["value"]) for one in found["definitions"]] == [("shop.nix", "hello")]
    assert shown(shop, "deployment")["value"]["targetHost"] == "web.example.org"
    assert shown(shop, "environment.systemPackages")["value"][0].startswith("/nix/store/")


@pytest.mark.parametrize("option", ["services.nosuch.enable", "", ".a", "a..b", 'a."b', "a b"])
def test_an_option_that_does_not_exist(shop: Network, option: str) -> None:
    with pytest.raises(OpsError, match=r"has no option 'services.nosuch.enable'|is not the path of an option"):
        shown(shop, option)


def test_a_machine_that_does_not_exist(shop: Network) -> None:
    with pytest.raises(OpsError, match="no machine called 'db', only web"):
        inspection.option(shop, "db", "deployment", remembered={}, env={}, on_line=print)


def test_the_arguments(shop: Network, tmp_path: Path) -> None:
    assert inspection.arguments(shop, env={}, on_line=print) == [
        {"name": "debug", "needed": False, "given": False, "files": [f"{tmp_path}/more.nix"]},
        {"name": "domain", "needed": True, "given": True, "files": [f"{tmp_path}/shop.nix"]},
        {"name": "port", "needed": False, "given": False, "files": [f"{tmp_path}/shop.nix"]},
    ]


def test_the_arguments_of_a_network_that_lacks_them(tmp_path: Path) -> None:
    (file,) = write(tmp_path, n="{ files, domain }: { require = files; }")
    network = Network("n", "11111111-2222-3333-4444-555555555555", (str(file),), arguments={"other": 1})
    found = inspection.arguments(network, env={}, on_line=print)
    assert [(one["name"], one["needed"], one["given"]) for one in found] == [
        ("domain", True, False),
        ("files", True, False),
        ("other", False, True),
    ]


def test_the_physical_part(shop: Network) -> None:
    found = inspection.physical(shop, remembered=REMEMBERED, env={}, on_line=print)
    assert found == {
        "web": {
            "system": {"stateVersion": "24.05"},
            "users": {"users": {"root": {"openssh": {"authorizedKeys": {"keys": [KEY]}}}}},
        }
    }
    found = inspection.physical(shop, remembered={}, env={}, on_line=print)
    assert "system" not in found["web"]
