# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which options of a source a change of a deployment edits, and how they are written."""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import editing
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.creation import quote
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
OTHER = "11111111-2222-4333-8444-555555555555"
GIVEN: dict[str, Any] = {
    **dict.fromkeys(("name", "networks", "flake", "nix_path")),
    "options": {},
    "arguments": {},
    "unset": [],
}
SOURCE = f"""\
# The shop.
plugin: nix.ops.network
name: shop # ours
uuid: {UUID}
files:
  - shop.nix # where
arguments: {{domain: example.org, token: secret}}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Deployment:
    path = tmp_path / "shop.network.yml"
    path.write_text(SOURCE)
    path.chmod(0o644)
    return Deployment(str(path), "shop", UUID, None, hosts={"web": "web"})


def changed(shop: Deployment, **given: Any) -> editing.Change:
    start = os.path.dirname(shop.path)
    return editing.change(shop, editing.edits(shop, start, {**GIVEN, **given}))


def test_a_name_keeps_the_uuid(shop: Deployment, tmp_path: Path) -> None:
    one = changed(shop, name="store")
    assert one.after == SOURCE.replace("name: shop #", "name: store #")
    assert one.options == ["name"] and changed(shop, name="shop").options == []
    Path(shop.path).write_text("plugin: nix.ops.network\n")
    one = changed(shop, name="store")
    assert one.options == ["name", "uuid"]
    assert one.after == f"plugin: nix.ops.network\nname: store\nuuid: {UUID}\n"


def test_files_are_relative_to_the_source(shop: Deployment, tmp_path: Path) -> None:
    given = editing.edits(shop, f"{tmp_path}/sub", {**GIVEN, "networks": ["../shop.nix", "more.nix"]})
    assert editing.change(shop, given).after == SOURCE.replace(
        "  - shop.nix # where\n", "  - shop.nix # where\n  - sub/more.nix\n"
    )


def test_a_flake_takes_the_place_of_files(shop: Deployment) -> None:
    after = changed(shop, flake=".").after
    assert after == SOURCE.replace("files:\n  - shop.nix # where\n", "") + "flake: ./.\n"


def test_options_and_the_search_path(shop: Deployment) -> None:
    one = changed(shop, options={"cores": 2, "fallback": None}, nix_path=["nixpkgs=./nixpkgs"])
    assert one.after == SOURCE + "nix_path:\n  - nixpkgs=nixpkgs\noptions:\n  cores: 2\n"
    Path(shop.path).write_text(one.after)
    assert changed(shop, options={"cores": None}, nix_path=[]).after == SOURCE


def test_arguments_are_not_shown(shop: Deployment) -> None:
    one = changed(shop, arguments={"token": "other", "port": 8080}, unset=["domain", "nosuch"])
    assert one.after == SOURCE.replace("{domain: example.org, token: secret}", "{token: other, port: 8080}")
    before, after = one.shown
    assert "secret" not in before and "other" not in after and "8080" not in after
    assert "{domain: (hidden), token: (hidden)}" in before
    assert "{token: '(hidden, as given)', port: '(hidden, as given)'}" in after
    Path(shop.path).write_text("plugin: nix.ops.network\narguments: {a: secret, # c\n  b: [1]}\n")
    assert changed(shop, name="store").shown[1] == "(not shown, since its arguments can't be hidden)\n"
    for name in ("a b", "a: b", "--x", ""):
        with pytest.raises(OpsError, match="is not a valid name of an argument"):
            changed(shop, arguments={name: 1})


def test_it_is_written_as_a_whole(shop: Deployment, tmp_path: Path) -> None:
    link = tmp_path / "link.network.yml"
    link.symlink_to(shop.path)
    linked = Deployment(str(link), "shop", UUID, None)
    editing.write(changed(linked, name="store"))
    assert link.is_symlink() and "name: store" in Path(shop.path).read_text()
    assert stat.S_IMODE(os.stat(shop.path).st_mode) == 0o644
    editing.write(changed(shop, arguments={"token": "new"}))
    assert stat.S_IMODE(os.stat(shop.path).st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["link.network.yml", "shop.network.yml"]


def test_what_was_changed_meanwhile_stays(shop: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    one = changed(shop, name="store")
    Path(shop.path).write_text(SOURCE + "# mine\n")
    with pytest.raises(OpsError, match="was changed meanwhile"):
        editing.write(one)
    assert Path(shop.path).read_text() == SOURCE + "# mine\n"
    monkeypatch.setattr(editing, "_BUSY", 0)
    descriptor = os.open(os.path.dirname(shop.path), os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(OpsError, match="another run edits in"):
        editing.write(changed(shop, name="store"))
    os.close(descriptor)


def test_a_clone_keeps_comments(shop: Deployment, tmp_path: Path) -> None:
    file = editing.clone(shop, "staging", OTHER)
    assert file.path == f"{tmp_path}/staging.network.yml"
    assert file.text == SOURCE.replace("name: shop #", "name: staging #").replace(UUID, OTHER)
    assert "secret" not in file.shown and not file.private
    Path(shop.path).chmod(0o600)
    assert editing.clone(shop, "staging", OTHER).private


def test_which_deployment_is_meant(shop: Deployment) -> None:
    other = Deployment("/b/other.network.yml", "other", OTHER, None)
    assert editing.choose([shop, other], "other", ()) is other
    assert editing.choose([shop, other], OTHER, ()) is other
    # That of the inventory.
    assert editing.choose([shop, other], None, ()) is shop
    assert editing.choose([replace(shop, hosts={}), other], None, (other.path,)) is other
    with pytest.raises(OpsError, match=f"there is no deployment {quote('x')}, only shop"):
        editing.choose([shop, other], "x", ())
    with pytest.raises(OpsError, match="there are 2 deployments"):
        editing.choose([other, other], None, ())
    with pytest.raises(OpsError, match="there is no deployment\n"):
        editing.choose([], None, ())


def test_a_name_that_is_taken(shop: Deployment) -> None:
    other = Deployment("/b/other.network.yml", "other", OTHER, None)
    editing.check_name("shop", shop, [shop, other])
    with pytest.raises(OpsError, match=f"is deployment {quote('other')} already"):
        editing.check_name("other", shop, [shop, other])


def test_a_file_without_a_source(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="network file without a source") as refused:
        editing.read(Deployment("/a/shop.nix", "shop", UUID, None))
    assert "nix.ops.create" in str(refused.value)
