# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules' documentation shows runs as it stands there, and what it promises to return is returned."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
import yaml

from integration.project import NIXPKGS
from integration.tasks import PACKAGES, build_system, has_path, new_salt, put, run_tasks, write_inventory

MODULES = (
    "deployment_check",
    "deployment_clone",
    "deployment_commands",
    "deployment_create",
    "deployment_delete",
    "deployment_export",
    "deployment_forget",
    "deployment_forget_obsolete",
    "deployment_generations",
    "deployment_import",
    "deployment_info",
    "deployment_list",
    "deployment_modify",
    "deployment_prepare",
    "deployment_show",
    "deployment_ssh_config",
    "nix_build",
    "nix_copy_closure",
    "nixos_activate",
    "nixos_check",
    "nixos_command",
    "nixos_gc",
    "nixos_info",
    "nixos_reboot",
    "nixos_unlock",
)
ROLES = ("activate", "build", "copy", "deploy", "prepare")
TYPES: dict[str, Any] = {"str": str, "int": int, "bool": bool, "list": list, "dict": dict, "raw": object}

# What Ansible adds to every result.
ADDED = {"changed", "failed", "diff", "warnings", "deprecations", "exception", "msg", "invocation", "item"}

TARGET = '{ target.deployment.targetHost = "%s"; }'
CONFIG = '{ target = { services.openssh.enable = true; environment.etc.salt.text = "%s"; }; }'
TOOLS = """
{ verbose }: { tools.backup = (import ./packages.nix { salt = if verbose then "SALT" else "quiet"; }).tool; }
"""
PRODUCTION = '{ domain }: { web = { deployment.targetHost = "web.${domain}"; services.openssh.enable = true; }; }'
FLAKE = """
{ outputs = _: { packages.x86_64-linux.default = (import ./packages.nix { salt = "SALT"; }).base; }; }
"""


def documentation(module):
    """The documentation of a module: its examples' text, and what it returns."""
    found = importlib.import_module(f"ansible_collections.nix.ops.plugins.modules.{module}")
    return found.EXAMPLES, yaml.safe_load(found.RETURN)


def keys(result):
    """The module's own keys of a result."""
    return {name for name in result if name not in ADDED and not name.startswith("_")}


def check(described: dict[str, Any], value: Any, where: str) -> None:
    """A value is of the type that is described, and what is below it too."""
    if value is None:
        assert "V(null)" in str(described["description"]), where
        return
    wanted = TYPES[described["type"]]
    assert isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool), f"{where}: {value!r}"
    if described.get("elements"):
        for one in value:
            check({**described, "type": described["elements"], "elements": None}, one, where)
    elif described.get("contains"):
        assert set(value) == set(described["contains"]), where
        for name, below in described["contains"].items():
            check(below, value[name], f"{where}.{name}")
    if described["type"] == "dict" and isinstance(described.get("sample"), dict):
        for name in (one for one in value.values() if isinstance(one, dict)):
            assert set(name) == set(next(iter(described["sample"].values()))), where


@pytest.fixture
def target(machine):
    """A machine, which is also called builder."""
    return machine("target")


@pytest.fixture
def play(project, target):
    """Runs a module's examples, with what they need."""
    salt = new_salt()
    project.write("target.nix", TARGET % target.address)
    project.write("config.nix", CONFIG % salt)
    project.write("packages.nix", PACKAGES)
    project.write("default.nix", TOOLS.replace("SALT", salt))
    project.write("srv/infra/flake.nix", FLAKE.replace("SALT", salt))
    project.write("srv/infra/packages.nix", PACKAGES.replace("builtins.currentSystem", '"x86_64-linux"'))
    project.write("production.nix", PRODUCTION)
    (project.directory / "nixpkgs").symlink_to(NIXPKGS)
    hosts = {"target": {}, "builder": {"ansible_host": "target"}, "gateway": {"ansible_host": "target"}}

    def run(module, *words, source="hosts.yml", **variables):
        write_inventory(project, {name: {**given, **variables} for name, given in hosts.items()})
        tasks = yaml.safe_load(documentation(module)[0].replace("/srv/", f"{project.directory}/srv/"))
        project.write("site.yml", json.dumps([{"hosts": "target", "gather_facts": False, "tasks": tasks}]))
        outcome = project.play("-i", source, "site.yml", *words)
        assert outcome.exit_code == 0, outcome.output
        results = [one.result for one in outcome.results if f"nix.ops.{module}" in tasks[names(tasks, one)]]
        assert len(results) == len([task for task in tasks if f"nix.ops.{module}" in task])
        return results

    return run


@pytest.fixture
def network(project):
    """The source of a network of the machine."""
    return project.write("example.network.yml", "plugin: nix.ops.network\nfiles: [target.nix, config.nix]\n").name


def names(tasks, result):
    """The place of a result's task among the tasks."""
    return [task["name"] for task in tasks].index(result.task)


@pytest.mark.both_pairs
def test_nix_build(play, project, target):
    _examples, described = documentation("nix_build")
    failure = described.pop("exit_code")
    network, package, pushed, dry, flake = play("nix_build")
    assert keys(network) == set(described)
    assert keys(package) == keys(pushed) == keys(dry) == keys(flake) == set(described) - {"machines", "unevaluated"}
    for result in (network, package, pushed, dry, flake):
        for name in keys(result):
            check(described[name], result[name], name)
    assert (project.directory / "srv/tools/backup").read_text()
    assert list((project.directory / "srv/cache").glob("*.narinfo"))
    assert has_path(target, flake["outputs"][0])
    failed = run_tasks(project, "- name: Fail\n  nix.ops.nix_build: {expression: a}\n  delegate_to: localhost").of(
        "Fail"
    )
    assert keys(failed) == {"exit_code"}
    check(failure, failed["exit_code"], "exit_code")


def test_nix_copy_closure(play, project, target):
    _examples, described = documentation("nix_copy_closure")
    toplevel = build_system(project, f'{{ environment.etc.salt.text = "{new_salt()}"; }}')
    failure = described.pop("exit_code")
    assert failure["returned"] == "failure"
    for result in play("nix_copy_closure", toplevel=toplevel):
        assert keys(result) == set(described)
        for name in described:
            check(described[name], result[name], name)
    assert has_path(target, toplevel)


def test_nixos_activate(play, project, target):
    _examples, described = documentation("nixos_activate")
    toplevel = build_system(project, f'{{ environment.etc.salt.text = "{new_salt()}"; }}')
    put(target, toplevel)
    switched, asked, booted, checked, rebooted, remembered = play("nixos_activate", toplevel=toplevel)
    always = {name for name, one in described.items() if one["returned"] == "unless the activation was refused"}
    activated = {name for name, one in described.items() if one["returned"] == "when something was activated"} | always
    assert keys(switched) == {*activated, "acknowledged"}
    assert keys(asked) == activated
    assert keys(booted) == always
    assert keys(remembered) == {*always, "ansible_facts"}
    assert activated | {"acknowledged", "ansible_facts", "key_changes", "specialisation"} == set(described)
    assert keys(checked) == keys(rebooted) == always
    for result in (switched, asked, booted, checked, rebooted, remembered):
        for name in keys(result):
            check(described[name], result[name], name)
    # The same of one that fails.
    bad = build_system(project, '{ systemd.services.bad = { wantedBy = [ "multi-user.target" ]; script = "false"; }; }')
    put(target, bad)
    failed = run_tasks(project, f"- name: Fail\n  nix.ops.nixos_activate: {{toplevel: {bad}}}").of("Fail")
    assert keys(failed) == activated
    for name in activated:
        check(described[name], failed[name], name)


def test_deployment_create(play, project):
    _examples, described = documentation("deployment_create")
    for result in play("deployment_create"):
        assert keys(result) == set(described)
        for name in described:
            check(described[name], result[name], name)
    for name in ("target", "production"):
        assert (project.directory / f"{name}.network.yml").exists()


def test_deployment_prepare(play, network):
    _examples, described = documentation("deployment_prepare")
    _examples, of_a_machine = documentation("nixos_info")
    # What both modules return is described once.
    assert set(of_a_machine) <= set(described)
    for name, one in of_a_machine.items():
        assert described[name]["description"] == f"See RV(nix.ops.nixos_info#module:{name})."
        same = ("type", "elements", "returned")
        assert [described[name].get(key) for key in same] == [one.get(key) for key in same]
    described |= of_a_machine
    assert described.pop("host_key")["returned"] == "if the host key is refused"
    [looked] = play("deployment_prepare", "--check", source=network)
    assert keys(looked) == {name for name, one in described.items() if one["returned"] != "not in check mode"}
    [result] = play("deployment_prepare", source=network)
    assert keys(result) == set(described)
    for name in described:
        check(described[name], result[name], name)


def test_deployment_info(play, project, network):
    _examples, described = documentation("deployment_info")

    def told():
        results = play("deployment_info", source=network)
        for result in results:
            assert keys(result) == set(described)
            check(described["deployments"], result["deployments"], "deployments")
        return [result["deployments"] for result in results]

    [new, *_others] = told()
    assert new[0]["machines"][0]["status"] == "New"
    assert project.play("-i", network, "nix.ops.deploy").exit_code == 0
    asked, remembered = told()
    assert asked[0]["machines"][0]["status"] == "Up-to-date"
    assert json.loads((project.directory / "deployments.json").read_text()) == remembered


def test_deployment_list(play, project, network):
    _examples, described = documentation("deployment_list")
    shown, written = play("deployment_list", source=network)
    for result in (shown, written):
        assert keys(result) == set(described)
        check(described["deployments"], result["deployments"], "deployments")
    assert json.loads((project.directory / "deployments.json").read_text()) == written["deployments"]


def test_nixos_info(play):
    _examples, described = documentation("nixos_info")
    [result] = play("nixos_info")
    assert keys(result) == set(described)
    for name in described:
        check(described[name], result[name], name)


def test_nixos_keys(play, project, network):
    project.write("certificate.p12.b64", "AP8=")
    _examples, described = documentation("nixos_keys")
    results = play(
        "nixos_keys",
        nix_deployment_keys={"db-password": {"path": "/run/keys/db-password"}},
        nix_keys={"db-password": "secret"},
        nix_network=str(project.directory / network),
        nix_machine="target",
        nix_deployment_uuid="11111111-2222-4333-8444-555555555555",
    )
    assert [result["added"] for result in results] == [["db-password"], ["certificate"]]
    for result in results:
        assert keys(result) == set(described)
        for name in described:
            check(described[name], result[name], name)


@pytest.mark.both_pairs
def test_ansible_doc_shows_every_plugin(project):
    plugins_of = {
        "module": MODULES,
        "inventory": ("network",),
        "become": ("command",),
        "lookup": ("host_key_options", "ssh_key_options"),
        "role": ROLES,
    }
    for kind, names_ in plugins_of.items():
        plugins = [f"nix.ops.{name}" for name in names_]
        shown = project.run("ansible-doc", "-t", kind, *plugins)
        assert shown.exit_code == 0, shown.output
        # Of its own collection ansible-core misses a manifest.
        complaints = [line for line in shown.output.splitlines() if "_protomatter" not in line]
        assert not [line for line in complaints if "WARNING" in line or "ERROR" in line]
        for plugin in plugins:
            assert plugin in shown.output


@pytest.mark.both_pairs
def test_documented_options_are_the_options():
    specifications = importlib.import_module("ansible_collections.nix.ops.plugins.module_utils.argument_specs")
    for module in MODULES:
        found = importlib.import_module(f"ansible_collections.nix.ops.plugins.modules.{module}")
        same_options(module, options_of(found.DOCUMENTATION), getattr(specifications, module.upper())["argument_spec"])


def options_of(text):
    """Return a module's documented options, with those of its fragments."""
    documentation = yaml.safe_load(text)
    options = dict(documentation["options"])
    for fragment in documentation["extends_documentation_fragment"]:
        name, _dot, part = fragment.removeprefix("nix.ops.").partition(".")
        found = importlib.import_module(f"ansible_collections.nix.ops.plugins.doc_fragments.{name}")
        shared = getattr(found.ModuleDocFragment, part.upper() or "DOCUMENTATION")
        options |= yaml.safe_load(shared).get("options", {})
    return options


def same_options(where, documented, specified):
    assert documented.keys() == specified.keys(), where
    for name, option in documented.items():
        for key in ("type", "elements", "default", "choices", "required", "aliases"):
            assert option.get(key) == specified[name].get(key), f"{where}.{name}.{key}"
        same_options(f"{where}.{name}", option.get("suboptions", {}), specified[name].get("options", {}))
