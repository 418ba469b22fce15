# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX is given is what the modules of awx.awx take, and what the playbooks read."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_INFO, NIXOS_ACTIVATE
from integration.awx import LISTS, PLAYBOOKS
from integration.awx import definitions as definitions_of
from integration.project import OTHERS, TESTS, Outcome, Project
from tools.reference import specification

CHECKOUT = TESTS.parent
MODULES = OTHERS / "ansible_collections/awx/awx/plugins/modules"
# For each list of definitions the module that takes its entries.
MODULES_OF = dict(
    zip(
        LISTS,
        [
            *("execution_environment", "credential", "project", "inventory", "inventory_source", "job_template"),
            *("workflow_job_template", "schedule"),
        ],
        strict=True,
    )
)


def options_of(module: str) -> Any:
    """The argument spec of a module of awx.awx, read from its source."""
    for node in ast.walk(ast.parse((MODULES / f"{module}.py").read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "argument_spec":
            return eval(compile(ast.Expression(node.value), module, "eval"), {"dict": dict})
    raise AssertionError(f"{module} has no argument_spec")


def suboptions_of(module: str, option: str) -> Mapping[str, Any]:
    """What a module's documentation says of the entries of an option."""
    for node in ast.parse((MODULES / f"{module}.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOCUMENTATION":
            return dict(yaml.safe_load(ast.literal_eval(node.value))["options"][option]["suboptions"])
    raise AssertionError(f"{module} has no documentation")


def faults(module: str, entry: Mapping[str, Any]) -> list[str]:
    """What a module would refuse of an entry; a text is no number, and a number no text."""
    spec = options_of(module)
    found = list(ArgumentSpecValidator(spec).validate(dict(entry)).error_messages)
    types = {"str": str, "bool": bool, "int": int, "list": list, "dict": dict, "float": float}
    names = {alias: one for name, one in spec.items() for alias in [name, *one.get("aliases", [])]}
    for key, value in entry.items():
        wanted = names.get(key, {}).get("type", "str")
        if key in names and not isinstance(value, types[wanted]):
            found.append(f"{key} is no {wanted}")
    return found


@pytest.fixture
def definitions(project: Project) -> dict[str, Any]:
    return definitions_of(project)


def test_the_modules_take_the_definitions(project):
    secrets = ["-e", "awx_setup_ssh_key=KEY awx_setup_become_password=BECOME awx_setup_vault_password=VAULT"]
    secrets += ["-e", "awx_setup_scm_credential=git awx_setup_image_credential=registry"]
    everything = definitions_of(project, *secrets)
    for name, module in MODULES_OF.items():
        assert everything[name], name
        for entry in everything[name]:
            assert faults(module, entry) == [], entry["name"]
    nodes = suboptions_of("workflow_job_template", "workflow_nodes")
    for workflow in everything["controller_workflows"]:
        for node in workflow["workflow_nodes"]:
            assert set(node) <= set(nodes)
            assert set(node["unified_job_template"]) <= set(nodes["unified_job_template"]["suboptions"])
            assert set(node.get("related", {})) <= set(nodes["related"]["suboptions"])


def test_what_a_module_does_not_take_is_found(definitions):
    template = definitions["controller_templates"][0]
    assert faults("job_template", {**template, "use_fact_cash": True})
    assert faults("job_template", {**template, "job_type": "dry"})
    assert faults("job_template", {**template, "forks": "20"})


def test_the_playbook_applies_every_definition():
    tasks = yaml.safe_load((PLAYBOOKS / "tasks/awx.yml").read_text())
    applied = {
        task["loop"].strip("{} "): key.removeprefix("awx.awx.") for task in tasks for key in task if "awx.awx." in key
    }
    assert applied == MODULES_OF
    [credentials] = [task for task in tasks if "awx.awx.credential" in task]
    assert credentials["no_log"] is True


def test_surveys_ask_what_playbooks_read(definitions):
    activate: Any = NIXOS_ACTIVATE["argument_spec"]
    choices = {
        "deploy_action": activate["action"]["choices"],
        "deploy_reboot": activate["reboot"]["choices"],
        "deploy_rollback": activate["rollback"]["choices"],
    }
    for template in definitions["controller_templates"]:
        read = _variables_of(template["playbook"].removesuffix(".yml"))
        for question in template.get("survey_spec", {}).get("spec", []):
            assert question["variable"] in read
            if question["type"] == "multiplechoice":
                assert question["default"] in question["choices"]
            if question["variable"] in choices:
                assert question["choices"] == choices[question["variable"]]
        for variable in template.get("extra_vars", {}):
            assert variable in read


def _variables_of(playbook: str) -> set[str]:
    """Return the variables of a playbook, with those of the role of its name."""
    own = specification("playbooks")[playbook]["options"]
    role = specification("roles/deploy")["main"]["options"] if playbook == "deploy" else {}
    return {*own, *role}


def test_what_turns_the_drift_job_red(definitions):
    [drift] = [one for one in definitions["controller_templates"] if "extra_vars" in one]
    specification: Any = DEPLOYMENT_INFO["argument_spec"]
    reasons = specification["fail_on"]["choices"]
    assert set(drift["extra_vars"]["info_fail_on"]) <= set(reasons)


def test_playbooks_are_in_the_example(definitions):
    example = CHECKOUT / "examples/awx"
    for template in definitions["controller_templates"]:
        [play] = yaml.safe_load((example / template["playbook"]).read_text())
        assert play["ansible.builtin.import_playbook"] == f"nix.ops.{Path(template['playbook']).stem}"
    for source in definitions["controller_inventory_sources"]:
        assert (example / source["source_path"]).is_file()


def test_a_further_template_is_one_entry(project):
    more = '{"awx_setup_templates": [{"name": "Reboot", "playbook": "reboot.yml", "forks": 1}]}'
    added = definitions_of(project, "-e", more)["controller_templates"][-1]
    assert faults("job_template", added) == []
    assert (added["name"], added["forks"], added["use_fact_cache"]) == ("Reboot", 1, True)


def test_a_secret_that_is_not_given_is_only_named(definitions):
    assert definitions["controller_credentials"] == []
    assert {name for one in definitions["controller_templates"] for name in one["credentials"]} == {"nix.ops machines"}


def test_the_vault_stays_a_template_s_where_its_password_is_not_given_again(project):
    told = definitions_of(project, "-e", "awx_setup_vault=true awx_setup_credentials=team")
    assert told["controller_credentials"] == []
    assert told["controller_templates"][0]["credentials"] == ["team", "nix.ops vault"]


def setup(project: Project, *words: str) -> Outcome:
    """Set up an AWX that is not there."""
    project.environment.update(CONTROLLER_HOST="http://127.0.0.1:1", CONTROLLER_OAUTH_TOKEN="TOKEN")
    return project.play("nix.ops.awx_setup", *words)


def test_setup_without_the_modules_of_awx(project):
    outcome = setup(project)
    assert outcome.exit_code == 2
    assert "The collection awx.awx is not installed." in outcome.output
    assert "ansible-galaxy collection install awx.awx" in outcome.output


def test_setup_shows_no_secret(project):
    project.environment["ANSIBLE_COLLECTIONS_PATH"] = f"{os.environ['ANSIBLE_COLLECTIONS_PATH']}:{OTHERS}"
    project.environment["AWX_SETUP_SSH_KEY"] = "a-secret-key"
    outcome = setup(project, "-vvv")
    assert outcome.exit_code == 2
    assert "awx.awx" in outcome.output
    assert "127.0.0.1:1" in outcome.output
    assert "a-secret-key" not in outcome.output
