# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX is given is what the modules of awx.awx take, and what the playbooks read."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_INFO, NIXOS_ACTIVATE
from integration.awx import LISTS, PLAYBOOKS
from integration.awx import definitions as definitions_of
from integration.awx_api import ADMINISTRATOR, Awx, serving
from integration.project import NIXPKGS, OTHERS, TESTS, Outcome, Project
from tools.reference import specification

CHECKOUT = TESTS.parent
MODULES = OTHERS / "ansible_collections/awx/awx/plugins/modules"
# For each list of definitions the module that takes its entries.
MODULES_OF = dict(
    zip(
        LISTS,
        [
            *("execution_environment", "credential", "project", "inventory", "inventory_source", "job_template"),
            *("workflow_job_template", "schedule", "notification_template", "role"),
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
    own = {
        "awx_setup_notifications": [{"name": "a", "notification_type": "slack", "notification_configuration": {}}],
        "awx_setup_operators": {"teams": ["ops"]},
        "awx_setup_approvers": {"users": ["anna"]},
        "awx_setup_known_hosts": "target ssh-ed25519 AAAA",
        "awx_setup_webhook_service": "github",
    }
    everything = definitions_of(project, *secrets, "-e", json.dumps(own))
    for name, module in MODULES_OF.items():
        assert everything[name], name
        for entry in everything[name]:
            assert faults(module, entry) == [], entry
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
    role = specification("roles/deploy")["main"]["options"] if playbook in ("deploy", "rollback") else {}
    return {*own, *role}


def test_what_turns_the_drift_job_red(definitions):
    [drift] = [one for one in definitions["controller_templates"] if "info_fail_on" in one["extra_vars"]]
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


@contextmanager
def files_at(directory: Path) -> Iterator[str]:
    """Serve a directory; :returns: its address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(directory))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_the_example_brings_its_nixpkgs(project, tmp_path):
    """AWX synchronizes its inventory without channels; here another server has the pinned release."""
    example = tmp_path / "example"
    shutil.copytree(CHECKOUT / "examples/awx", example)
    [(address, archive)] = re.findall(
        r"nixpkgs=(https://.*/)(\S+)$", (example / "target.network.yml").read_text(), re.M
    )
    with tarfile.open(tmp_path / archive, "w:gz") as packed:
        packed.add(NIXPKGS, "nixpkgs")
    project.environment["NIX_PATH"] = ""
    with files_at(tmp_path) as server:
        source = (example / "target.network.yml").read_text().replace(address, f"{server}/")
        (example / "target.network.yml").write_text(source)
        done = project.run("ansible-inventory", "-i", str(example / "target.network.yml"), "--list")
    assert done.exit_code == 0, done.output
    assert '"ansible_host": "target.example.org"' in done.output


def test_a_further_template_is_one_entry(project):
    more = '{"awx_setup_templates": [{"name": "Reboot", "playbook": "reboot.yml", "forks": 1}]}'
    added = definitions_of(project, "-e", more)["controller_templates"][-1]
    assert faults("job_template", added) == []
    assert (added["name"], added["forks"], added["use_fact_cache"]) == ("nix.ops Default Reboot", 1, True)


def test_a_secret_that_is_not_given_is_only_named(definitions):
    assert definitions["controller_credentials"] == []
    assert {name for one in definitions["controller_templates"] for name in one["credentials"]} == {
        "nix.ops Default machines"
    }


def test_the_vault_stays_a_template_s_where_its_password_is_not_given_again(project):
    told = definitions_of(project, "-e", "awx_setup_vault=true awx_setup_credentials=team")
    assert told["controller_credentials"] == []
    assert told["controller_templates"][0]["credentials"] == ["team", "nix.ops Default vault"]


@dataclass
class Setup:
    """A project from which a stand-in of AWX is set up."""

    project: Project
    awx: Awx
    address: str

    def run(self, *words: str, user: str = ADMINISTRATOR, **variables: Any) -> Outcome:
        """Set AWX up; the writes of earlier runs are forgotten."""
        self.awx.writes.clear()
        self.project.environment.update(CONTROLLER_HOST=self.address, CONTROLLER_OAUTH_TOKEN=user)
        return self.project.play("nix.ops.awx_setup", "-e", json.dumps({**SITE, **variables}), *words)

    def changes(self, *words: str, user: str = ADMINISTRATOR, **variables: Any) -> list[str]:
        """Set AWX up; it has to succeed. Return what it changed."""
        outcome = self.run(*words, user=user, **variables)
        assert outcome.exit_code == 0, outcome.output
        return list(outcome.of(BRING)["changes"])


SITE = {"awx_setup_scm_url": "https://git.example.org/machines.git", "awx_setup_image": "example.org/nix-ops"}
BRING = "Bring AWX to what the variables say"


@pytest.fixture
def setup(project: Project) -> Iterator[Setup]:
    awx = Awx()
    with serving(awx) as address:
        yield Setup(project, awx, address)


def test_set_up_again_changes_nothing_and_check_mode_tells_what_would_change(setup: Setup) -> None:
    everything: dict[str, Any] = {
        "awx_setup_ssh_key": "a-secret-key",
        "awx_setup_ssh_key_passphrase": "a-secret-passphrase",
        "awx_setup_vault_password": "a-secret-password",
        "awx_setup_scm_credential": "git",
        "awx_setup_image_credential": "registry",
        "awx_setup_webhook_service": "github",
        "awx_setup_webhook_credential": "git",
        "awx_setup_instance_groups": "near",
        "awx_setup_labels": ["nix"],
        "awx_setup_sources": ["a.network.yml", "b.network.yml"],
        "awx_setup_notifications": [
            {
                "name": "chat",
                "notification_type": "slack",
                "notification_configuration": {"token": "a-secret-token", "channels": ["#ops"]},
            }
        ],
        "awx_setup_operators": {"teams": ["ops"]},
        "awx_setup_approvers": {"users": ["anna"]},
        "awx_setup_variables": True,
    }
    awx = setup.awx
    organization = awx.named("organizations", "Default")["id"]
    kind = awx.named("credential_types", "Source Control")["id"]
    for name in ("git", "registry"):
        awx.add("credentials", name=name, organization=organization, credential_type=kind)
    awx.add("teams", name="ops", organization=organization)
    awx.add("users", username="anna")

    told = setup.changes("--check", **everything)
    assert awx.writes == []
    first = setup.run("-vvv", **everything)
    assert first.exit_code == 0, first.output
    assert sorted(first.of(BRING)["changes"]) == sorted(told)
    assert "AWX> the inventory has 1 machines: target" in first.output
    assert "a-secret" not in first.output
    assert "unsafe" not in first.output
    for words in ((), ("--check",)):
        again = setup.run(*words, **everything)
        assert (again.of(BRING)["changes"], awx.writes) == ([], [])
        assert not again.changed
    # AWX does not tell secrets, so they are written if the user says so.
    renewed = setup.changes(awx_setup_update_secrets=True, **everything)
    assert renewed == [
        "change the credential nix.ops Default machines: inputs",
        "change the credential nix.ops Default vault: inputs",
        "change the notification template nix.ops Default chat: notification_configuration",
    ]
    workflow = "nix.ops Default preview, approve, deploy"
    assert awx.members("workflow_job_templates", workflow, "approval", "users") == ["anna"]
    assert awx.members("job_templates", "nix.ops Default preview", "read", "users") == ["anna"]
    assert awx.members("workflow_job_templates", workflow, "execute", "teams") == ["ops"]
    # With approvers, operators deploy by the workflow alone.
    for name in ("deploy", "deploy previewed", "deploy with variables"):
        assert awx.members("job_templates", f"nix.ops Default {name}", "execute", "teams") == []
    assert awx.attached("workflow_job_templates", workflow, "notification_templates_approvals") == [
        "nix.ops Default chat"
    ]
    changed = setup.changes(**{**everything, "awx_setup_approval_timeout": 60, "awx_setup_forks": 3})
    assert "change the approval of nix.ops Default preview, approve, deploy: timeout" in changed
    assert "change the job template nix.ops Default deploy: forks" in changed
    assert setup.changes(**{**everything, "awx_setup_approval_timeout": 60, "awx_setup_forks": 3}) == []


def test_what_is_no_longer_named_goes_and_what_people_attached_stays(setup: Setup) -> None:
    awx = setup.awx
    organization = awx.named("organizations", "Default")["id"]
    kinds = {name: awx.named("credential_types", name)["id"] for name in ("Source Control", "Vault")}
    for name in ("git", "by hand"):
        kind = kinds["Vault" if name == "by hand" else "Source Control"]
        awx.add("credentials", name=name, organization=organization, credential_type=kind)
    awx.add("teams", name="ops", organization=organization)
    awx.add("teams", name="guests", organization=organization)
    untouched = awx.add("job_templates", name="nix.ops Default of somebody", organization=organization)
    more: dict[str, Any] = {
        "awx_setup_ssh_key": "KEY",
        "awx_setup_scm_credential": "git",
        "awx_setup_templates": [{"name": "users", "playbook": "info.yml"}],
        "awx_setup_sources": ["a.network.yml", "target.network.yml"],
        "awx_setup_labels": ["nix"],
        "awx_setup_operators": {"teams": ["ops"]},
    }
    setup.changes(**more)
    nodes = [path for method, path in awx.writes if method == "POST" and "node" in path]
    # A node that follows no other would be launched at once.
    made = [path.split("/")[2] for path in nodes[:4]]
    assert made == ["workflow_nodes", "success_nodes", "create_approval_template", "success_nodes"]
    name = "nix.ops Default preview"
    awx.attach("job_templates", name, "credentials", awx.named("credentials", "by hand"))
    roles = awx.named("job_templates", name)["roles"]
    awx.answer("POST", f"roles/{roles['execute_role']}/teams/", {}, awx.named("teams", "guests"), ADMINISTRATOR)
    assert awx.named("projects", "nix.ops Default")["credential"] == awx.named("credentials", "git")["id"]

    # The secret is not given again.
    setup.changes()
    assert awx.named("projects", "nix.ops Default")["credential"] is None
    assert "nix.ops Default users" not in awx.names("job_templates")
    assert awx.names("inventory_sources") == ["nix.ops Default target.network.yml"]
    assert awx.attached("job_templates", name, "credentials") == ["by hand", "nix.ops Default machines"]
    assert awx.attached("job_templates", name, "labels") == []
    assert awx.members("job_templates", name, "execute", "teams") == ["guests"]
    assert setup.changes() == []

    removed = setup.changes(awx_setup_state="absent")
    assert "remove the credential nix.ops Default machines" in removed
    assert awx.names("job_templates") == [untouched["name"]]
    assert awx.names("credentials") == ["by hand", "git"]
    for kind in ("projects", "inventories", "execution_environments", "workflow_job_templates", "schedules"):
        assert awx.names(kind) == [], kind
    assert setup.changes(awx_setup_state="absent") == []


def test_two_prefixes_and_two_organizations_share_an_awx(setup: Setup) -> None:
    awx = setup.awx
    sites = [
        ({"awx_setup_organization": organization, "awx_setup_prefix": prefix, "awx_setup_ssh_key": "KEY"}, user)
        for organization, prefix, user in (
            ("Default", "one", ADMINISTRATOR),
            ("Default", "two", "Default"),
            ("Other", "one", "Other"),
        )
    ]
    for site, user in sites:
        assert setup.changes(user=user, **site)
    assert awx.names("credentials") == ["one Default machines", "one Other machines", "two Default machines"]
    for site, user in sites:
        assert setup.changes(user=user, **site) == []
    site, user = sites[2]
    assert setup.changes(user=user, awx_setup_forks=1, **site)
    assert {awx.named("job_templates", f"one {name} deploy")["forks"] for name in ("Default", "Other")} == {1, 20}
    assert setup.changes(user=user, awx_setup_state="absent", **site)
    assert awx.names("projects") == ["one Default", "two Default"]
    assert awx.names("schedules") == ["one Default drift", "two Default drift"]
    stranger = setup.run(user="Other", **sites[1][0], awx_setup_forks=1)
    assert stranger.exit_code == 2
    assert "AWX refuses PATCH job_templates/" in stranger.output
    assert "Use the token of an administrator of the organization." in stranger.output


def test_awx_awx_sets_up_the_same(setup: Setup) -> None:
    """The modules of awx.awx take the definitions and find the stand-in to be an AWX; then nothing is left to do."""
    project = setup.project
    tasks = [
        {
            "name": f"Apply {name}",
            f"awx.awx.{module}": "{{ item }}",
            "loop": f"{{{{ {name} }}}}",
            "loop_control": {"label": "{{ item.name }}"},
        }
        for name, module in MODULES_OF.items()
        if name not in ("controller_notifications", "controller_roles")
    ]
    variables = {**SITE, "awx_setup_ssh_key": "KEY"}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(PLAYBOOKS / "vars/awx.yml")],
        "tasks": tasks,
    }
    project.write("apply.yml", json.dumps([play]))
    paths = f"{os.environ['ANSIBLE_COLLECTIONS_PATH']}:{OTHERS}"
    project.environment.update(
        ANSIBLE_COLLECTIONS_PATH=paths, CONTROLLER_HOST=setup.address, CONTROLLER_OAUTH_TOKEN=ADMINISTRATOR
    )
    project.configure(interpreter_python=sys.executable)
    applied = project.play("apply.yml", "-e", json.dumps(variables))
    assert applied.exit_code == 0, applied.output
    assert setup.changes(**variables) == []


def test_what_is_missing_is_said_before_anything_is_made(setup: Setup) -> None:
    for variables, told in (
        ({"awx_setup_scm_url": ""}, "the address of the repository is missing"),
        ({"awx_setup_image": ""}, "the image of the execution environment is missing"),
        ({"awx_setup_organization": "None"}, "AWX has no organization 'None'"),
        ({"awx_setup_sources": ["."]}, "'.' is not a source of a deployment, whose name ends in .network.yml"),
        ({"awx_setup_labels": ["nix"]}, "AWX has no credential 'nix.ops Default machines'"),
    ):
        outcome = setup.run(**variables)
        assert outcome.exit_code == 2, told
        assert told in outcome.output
        assert "State: nothing in AWX was touched" in outcome.output
        assert setup.awx.writes == []
    setup.address = ""
    assert "CONTROLLER_HOST is not set" in setup.run().output


def test_updates_that_fail_or_never_end_are_told(setup: Setup) -> None:
    setup.awx.failing = "error: file 'nixpkgs' was not found in the Nix search path"
    failed = setup.run(awx_setup_ssh_key="KEY")
    assert failed.exit_code == 2
    assert "the synchronization of nix.ops Default target.network.yml ended: failed" in failed.output
    assert "file 'nixpkgs' was not found" in failed.output
    assert "Correct the network in the repository" in failed.output
    # The same again synchronizes it, though nothing else is to do.
    setup.awx.failing = None
    again = setup.run()
    assert again.exit_code == 0, again.output
    assert [path.split("/")[0] for _method, path in setup.awx.writes] == ["inventory_sources"]
    setup.awx.stuck = True
    stuck = setup.run(awx_setup_scm_branch="main", awx_setup_update_timeout=0.5)
    assert stuck.exit_code == 2
    assert "the update of nix.ops Default has not ended in 0.5 seconds (status: pending)" in stuck.output
