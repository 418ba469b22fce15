# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NixOps exports is read, and what is not valid is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import exporting, nixops_file
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Activated, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Definition, Evaluation, Network, Remembered
from nixops.support import exported, key

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
TOPLEVEL = "/nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-web-24.05"


def test_an_export_of_nixops_2(tmp_path: Path) -> None:
    [shop] = nixops_file.read(exported("2", tmp_path))
    assert (shop.uuid, shop.name) == ("f6984bba-ec3a-11f1-9fa2-02fc00000001", "shop")
    assert (shop.files, shop.nix_path, shop.arguments) == ((), (), {"domain": "shop.example"})
    db, web = shop.machines
    assert (db.name, db.kind, db.address, db.port, db.user) == ("db", "none", "192.0.2.15", None, None)
    assert (web.name, web.state_version) == ("web", "20.09")
    assert web.private_key == key(tmp_path / "web", private=True)
    assert web.public_key == key(tmp_path / "web", private=False)
    assert [line.split(" (")[0] for line in shop.left] == ["earlier configurations of the whole network"]


def test_an_export_of_nixops_1_7(tmp_path: Path) -> None:
    [fleet] = nixops_file.read(exported("1.7", tmp_path))
    assert fleet.files == ("/srv/fleet/logical.nix", "/srv/fleet/physical.nix")
    assert fleet.nix_path == ("nixpkgs=/srv/nixpkgs",)
    assert fleet.arguments == {"domain": "fleet.example", "replicas": 3}
    machines = {one.name: one for one in fleet.machines}
    assert {name: (one.kind, one.address, one.port) for name, one in machines.items()} == {
        "rack": ("none", "rack.fleet.example", 2222),
        "shop": ("ec2", "198.51.100.7", None),
        "inside": ("ec2", "10.0.0.8", None),
        "metal": ("hetzner", "203.0.113.9", None),
        "lab": ("libvirtd", "192.168.122.5", None),
    }
    # The key of a machine on EC2 belongs to another resource.
    for name in ("rack", "shop", "metal", "lab"):
        assert machines[name].private_key == key(tmp_path / name, private=True)
    assert machines["inside"].private_key is None
    assert machines["shop"].host_keys == (key(tmp_path / "host", private=False).rpartition(" NixOps")[0],)
    left = "\n".join(fleet.left)
    for text in ("argument extra", "retired", "ec2-keypair): fleet-key", "elastic-ip): shop-ip", "datadogNotify"):
        assert text in left
    assert "inside (ec2), lab (libvirtd), metal (hetzner), shop (ec2)" in left and "rack" not in left


def changed(tmp_path: Path, *place: str, value: Any) -> str:
    """Return the export of NixOps 2 with another value, or without it if it is None."""
    document = json.loads(exported("2", tmp_path))
    [uuid] = document
    inside: dict[str, Any] = document
    for name in (uuid, *place[:-1]):
        inside = inside[name]
    inside[place[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("name",), "a\nb"),
        (("name",), ["shop"]),
        (("args",), "[]"),
        (("args",), '{"a": 1}'),
        (("args",), '{"a": "1", "a": "2"}'),
        (("args",), "{"),
        (("nixExprs",), '["relative.nix"]'),
        (("nixExprs",), '["--option"]'),
        (("nixPath",), '["-I"]'),
        (("nixPath",), '["nixpkgs=/a\\nb"]'),
        (("nixPath",), '"/a"'),
        (("resources",), []),
        (("resources", "web"), "none"),
        (("resources", "web", "type"), None),
        (("resources", "web", "type"), "none; rm"),
        (("resources", "web", "targetHost"), "-oProxyCommand=touch x"),
        (("resources", "web", "targetHost"), "host name"),
        (("resources", "web", "targetPort"), "65536"),
        (("resources", "web", "targetPort"), "22 -v"),
        (("resources", "web", "targetUser"), "-l"),
        (("resources", "web", "stateVersion"), "20.09; evil"),
        (("resources", "web", "none.sshPrivateKey"), "not a key"),
        (("resources", "web", "none.sshPublicKey"), "ssh-ed25519 AAAA\nssh-rsa BBBB"),
        (("resources", "web", "ec2.publicHostKey"), "nonsense"),
        (("resources", "../web"), {"type": "none"}),
        (("resources", "-web"), {"type": "none"}),
        (("resources", "all"), {"type": "none"}),
    ],
)
def test_what_is_not_valid_is_refused(tmp_path: Path, place: tuple[str, ...], value: Any) -> None:
    text = changed(tmp_path, *place, value=value)
    with pytest.raises(OpsError) as refused:
        nixops_file.read(text)
    assert "not a key" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"nonsense": {"resources": {}}}',
        f'{{"{UUID}": 1}}',
        f'{{"{UUID}": {{}}, "{UUID}": {{}}}}',
        "[" * 100_000,
    ],
)
def test_what_is_no_export_is_refused(text: str) -> None:
    with pytest.raises(OpsError):
        nixops_file.read(text)


def test_a_file_that_cannot_be_read_or_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="can't be read"):
        nixops_file.load(str(tmp_path / "missing"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(OpsError, match="is not JSON"):
        nixops_file.load(str(tmp_path / "bytes"))
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(OpsError, match="more than 64 MiB"):
        nixops_file.load(str(tmp_path / "large"))


def definition(name: str, **more: Any) -> Definition:
    given = {
        "target_env": "none",
        "target_host": "192.0.2.1",
        "target_port": None,
        "target_user": None,
        "ssh_options": (),
        "ssh_host_keys": (),
        "privilege_escalation_command": ("sudo", "-H", "--"),
        "provision_ssh_key": True,
        "always_activate": False,
        "owners": (),
        "tags": (),
        "nixos_release": "24.05",
        **more,
    }
    return Definition(name=name, **given)


def test_what_is_exported_is_read_back(tmp_path: Path) -> None:
    network = Network(
        "shop",
        UUID,
        files=("/srv/shop.nix",),
        arguments={"domain": "shop.example", "sizes": [1, -2]},
        nix_path=("nixpkgs=/srv/nixpkgs", "other=sources.json#pin"),
        options={"cores": "2"},
    )
    public, private = key(tmp_path / "web", private=False), key(tmp_path / "web", private=True)
    inputs = Remembered("24.05", public)
    web = State(UUID, "shop", "web", inputs, activations=(Activated(TOPLEVEL, "switch", 3, 0, 5),))
    evaluated = Evaluation(
        "A shop", {"web": definition("web", target_port=2222, target_user="deploy"), "new": definition("new")}, {}
    )
    composed = exporting.compose(network, evaluated, {"web": web}, {"web": private})
    [back] = nixops_file.read(json.dumps({UUID: composed}))
    assert (back.name, back.files, back.nix_path) == ("shop", network.files, ("nixpkgs=/srv/nixpkgs",))
    assert back.arguments == network.arguments
    new, again = back.machines
    assert (again.address, again.port, again.user) == ("192.0.2.1", 2222, "deploy")
    assert (again.state_version, again.public_key, again.private_key) == ("24.05", public, private)
    assert (new.state_version, new.public_key, new.private_key, new.port) == (None, None, None, None)
    assert composed["resources"]["web"]["toplevel"] == TOPLEVEL
    left = list(exporting.left(network, ["new", "web"], {"web": web}))
    assert [one.split(",")[0].split(":")[0] for one in left] == [
        "the pin other=sources.json#pin",
        "settings of Nix",
        "the state version of new",
    ]
