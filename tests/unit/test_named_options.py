# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a task that are named by their variables, instead of a template for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.nix.ops.plugins.module_utils import argument_specs
from ansible_collections.nix.ops.plugins.plugin_utils import named_options

ROLES = Path(__file__).parents[2] / "roles"


def read(value: Any, **others: Any) -> Any:
    """The value of an option whose variable has this value, or None if it is left out."""
    variables = {"mine": value, **others}
    seen: list[Any] = []

    def template(value: Any) -> Any:
        seen.append(value)
        return Templar(DataLoader(), variables).template(value)

    found = named_options.read({"option": "mine"}, variables, template, {})
    assert len(seen) == 1
    return found.get("option")


def test_a_value_is_what_a_template_of_the_variable_gives() -> None:
    assert read(600) == 600
    assert read({"a": trust_as_template("{{ other }}")}, other=1) == {"a": 1}
    assert read(trust_as_template("{{ other }}"), other=trust_as_template("{{ third }}"), third=[7]) == [7]
    assert read(trust_as_template("{{ other + 1 }}"), other=1) == 2


def test_what_is_not_given_is_left_out() -> None:
    assert named_options.read({"option": "mine"}, {}, str, {}) == {}
    assert read("") is None
    assert read(trust_as_template("{{ omit }}")) is None


def test_only_what_is_used_of_a_result_is_read() -> None:
    found = {"boot_id": "a", "state": {"large": []}}
    wanted = {"expected": ("boot_id", "machine_id")}
    assert named_options.read({"expected": "found"}, {"found": found}, dict, wanted) == {"expected": {"boot_id": "a"}}


def test_text_that_is_not_trusted_is_no_template() -> None:
    assert read("{{ other }}", other=1) == "{{ other }}"


@pytest.mark.parametrize("value", ["{{ missing }}", "{{ mine }}"])
def test_a_variable_that_leads_nowhere_is_an_error(value: str) -> None:
    with pytest.raises(Exception, match=r"missing|mine|recursi"):
        read(trust_as_template(value))


@pytest.mark.parametrize("role", ["prepare", "copy", "activate"])
def test_the_roles_name_options_and_variables_that_there_are(role: str) -> None:
    [task] = yaml.safe_load((ROLES / role / "tasks/main.yml").read_text(encoding="utf-8"))
    module = next(name for name in task if name.startswith("nix.ops."))
    specification = getattr(argument_specs, module.removeprefix("nix.ops.").upper())["argument_spec"]
    names = task[module]["variables"]
    assert names.keys() <= specification.keys()
    known = set(yaml.safe_load((ROLES / role / "defaults/main.yml").read_text(encoding="utf-8")))
    known |= set(yaml.safe_load((ROLES / role / "vars/main.yml").read_text(encoding="utf-8")))
    known |= {"nix_deployment", "nix_deployment_uuid", "nix_machine", "nix_ssh_key", "prepare_result"}
    assert set(names.values()) <= known
