# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A setup of AWX changes its own objects and no others."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.awx.api import Api
from ansible_collections.nix.ops.plugins.plugin_utils.awx.manifest import Manifest, Store
from ansible_collections.nix.ops.plugins.plugin_utils.awx.objects import Objects
from ansible_collections.nix.ops.plugins.plugin_utils.awx.setup import Wish
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError


class Lists(Api):
    """An AWX that has lists of objects, and no way to write."""

    def __init__(self, **lists: list[dict[str, Any]]) -> None:
        self._lists = lists

    def all(self, path: str, **query: Any) -> list[dict[str, Any]]:
        found = self._lists.get(path.strip("/"), [])
        return [one for one in found if all(one.get(name) == value for name, value in query.items())]


def objects(api: Api, made: tuple[tuple[str, str], ...] = ()) -> Objects:
    organization = {"id": 1, "name": "Default"}
    return Objects(api, organization, Manifest(frozenset(made)), updates=None, say=lambda _line: None)


def test_only_one_object_is_removed() -> None:
    twice = [{"id": number, "name": "a", "organization": 1} for number in (2, 3)]
    with pytest.raises(OpsError, match="AWX has 2 objects of the name 'a'"):
        objects(Lists(projects=twice), (("projects", "a"),)).bring({})
    one = objects(Lists(projects=twice[:1]), (("projects", "a"),))
    one.bring({})
    assert one.changes == ["remove the project a"]


def test_a_template_of_another_organization_is_another_one() -> None:
    other = {"id": 5, "name": "deploy", "organization": 2, "forks": 1}
    one = objects(Lists(job_templates=[other]))
    one.bring({"controller_templates": [{"name": "deploy", "forks": 2}]})
    assert one.changes == ["create the job template deploy"]
    with pytest.raises(OpsError, match="AWX has no job template 'deploy'"):
        objects(Lists(job_templates=[other])).id_of("job_templates", "deploy")


def test_all_is_only_removed_if_the_user_says_so() -> None:
    nothing: list[dict[str, Any]] = [{}, {"controller_projects": []}]
    for definitions in nothing:
        with pytest.raises(OpsError, match="there is no definition"):
            Wish("nix.ops", "Default", definitions).check()
    Wish("nix.ops", "Default", {}, removes_all=True).check()


@pytest.mark.parametrize("variables", ["", "{}", "---", '{"nix_ops_setup": {}}', "[]"])
def test_an_inventory_of_somebody_else_is_not_taken_for_the_setup_s(variables: str) -> None:
    theirs = {"id": 3, "name": "nix.ops setup", "organization": 1, "variables": variables}
    with pytest.raises(OpsError, match="do not say what the setup has made"):
        Store(Lists(inventories=[theirs]), "nix.ops setup", 1)
