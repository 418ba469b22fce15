# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/reference.md, and the specifications of the playbooks that it is made from."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tools import reference
from tools.reference import CHECKOUT

PLAYBOOKS = reference.specification("playbooks")

# Options and variables of a module's task, such as directory: "{{ directory | default(omit) }}".
GIVEN = re.compile(r"\{\{ (\w+) \| default\(omit\) \}\}")


def test_the_page_is_up_to_date() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run make reference"


def test_every_playbook_has_variables_of_its_own_or_of_its_role() -> None:
    roles = {path.name for path in (CHECKOUT / "roles").iterdir()}
    playbooks = {path.stem for path in (CHECKOUT / "playbooks").glob("*.yml")}
    assert playbooks - roles <= PLAYBOOKS.keys() <= playbooks


def test_words_of_the_documentation_become_markdown() -> None:
    option = {"description": ["Either C(a | b).", "See P(nix.ops.copy#role)."], "type": "list", "elements": "str"}
    assert list(reference._table({"one": option})) == [
        "| Variable | Meaning | Type | Default |\n|---|---|---|---|\n"
        "| `one` | Either `a \\| b`. See [copy](../roles/copy/README.md). | list of str |  |\n"
    ]


def tasks_of(playbook: str) -> Iterator[dict[str, Any]]:
    """The tasks of a playbook."""
    for play in yaml.safe_load((CHECKOUT / "playbooks" / f"{playbook}.yml").read_text(encoding="utf-8")):
        yield from play.get("tasks", ())


@pytest.mark.parametrize("playbook", ["create", "list", "info"])
def test_a_playbook_hands_its_variables_to_a_module(playbook: str) -> None:
    specifications = importlib.import_module("ansible_collections.nix.ops.plugins.module_utils.argument_specs")
    given: dict[str, dict[str, Any]] = {}
    for task in tasks_of(playbook):
        [module] = [name for name in task if name.startswith("nix.ops.")]
        options = getattr(specifications, module.removeprefix("nix.ops.").upper())["argument_spec"]
        for option, value in task[module].items():
            # The inventory sets nix_ssh_key.
            if (found := GIVEN.fullmatch(str(value))) and found[1] != "nix_ssh_key":
                given[found[1]] = options[option]
    told = PLAYBOOKS[playbook]["options"]
    assert told.keys() - given.keys() == {
        "create": {"deployment", "networks"},
        "list": set(),
        "info": {"info_machines", "info_ask"},
    }.get(playbook)
    for name, option in given.items():
        for key in ("type", "elements", "default", "choices", "required"):
            assert told[name].get(key) == option.get(key), f"{name}: {key}"


def test_the_variables_of_awx_setup_are_those_of_the_file() -> None:
    text = (CHECKOUT / "playbooks/vars/awx.yml").read_text(encoding="utf-8")
    told = PLAYBOOKS["awx_setup"]["options"]
    assert told.keys() == {name for name in re.findall(r"\bawx_setup_\w+", text) if not name.endswith("_")}
    for name, option in told.items():
        # A default that is made of other variables is told in words.
        if read := re.search(rf"\b{name} \| default\(('[^']*'|\[[^]]*\]|\w+)\)", text):
            value = yaml.safe_load(read[1])
            is_one = option["type"] == "list" and not isinstance(value, list)
            assert option.get("default") == ([value] if is_one else value), name
