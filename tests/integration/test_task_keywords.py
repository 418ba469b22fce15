# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The task keywords do what users of Ansible expect of them."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from integration.networks import standing
from integration.tasks import (
    GATE,
    PACKAGES,
    build_package,
    build_system,
    close_gate,
    has_path,
    new_salt,
    nix,
    open_gate,
    put,
    run_tasks,
    wait_for,
    write_inventory,
)


@pytest.fixture
def target(machine):
    """A machine that no one has deployed to."""
    return machine("target")


@pytest.fixture
def salt(project):
    """The salt of packages that no store has seen."""
    project.write("packages.nix", PACKAGES)
    return new_salt()


def still_building(machine, salt):
    """Whether the builder of a package with this salt runs, on a machine or (None) on the controller."""
    search = f"cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c '^salt={salt}' || true"
    return (nix("sh", "-c", search) if machine is None else machine.run(search).stdout.strip()) != "0"


@pytest.mark.both_pairs
def test_environment_reaches_nix(target, project, salt):
    project.write(
        "mine/default.nix", '{ salt }: (import ../packages.nix { salt = salt + builtins.getEnv "MORE"; }).base'
    )
    outcome = run_tasks(
        project,
        f"""
        - name: Evaluate with it
          nix.ops.nix_build:
            expression: import <mine> {{ salt = "{salt}"; }}
          environment:
            NIX_PATH: mine={project.directory}/mine
            MORE: -and-more
          delegate_to: localhost
        - name: Build here with it
          nix.ops.nix_build:
            file: packages.nix
            attribute: [tool]
            arguments: {{salt: {salt}}}
          environment: {{NIX_CONFIG: "max-jobs = 0"}}
          delegate_to: localhost
          ignore_errors: true
        - name: Build there with it
          nix.ops.nix_build:
            file: packages.nix
            attribute: [tool]
            arguments: {{salt: {salt}}}
          environment: {{NIX_CONFIG: "max-jobs = 0"}}
          ignore_errors: true
        - name: Ask with it
          nix.ops.nixos_info:
          environment: {{PATH: /usr/bin:/bin, "IT'S": "no name"}}
        """,
    )
    output = outcome.of("Evaluate with it")["outputs"][0]
    assert f"{salt}-and-more" in Path(output).read_text()
    assert outcome.statuses("Build here with it") == {"target": "failed"}
    assert outcome.statuses("Build there with it") == {"target": "failed"}
    assert "is not a valid name of an environment variable" in outcome.of("Ask with it")["msg"]


@pytest.mark.both_pairs
def test_no_log_shows_nothing(target, project, salt):
    system = build_system(project, '{ system.activationScripts.secret = "echo the line is hunter2"; }')
    put(target, system)
    outcome = run_tasks(
        project,
        f"""
        - name: Build here
          nix.ops.nix_build:
            file: packages.nix
            attribute: [waiting]
            arguments: {{salt: {salt}-hunter2, gate: /dev/null}}
          delegate_to: localhost
          no_log: true
          ignore_errors: true
        - name: Build there
          nix.ops.nix_build:
            file: packages.nix
            attribute: [tool]
            arguments: {{salt: {salt}-hunter2}}
          environment: {{PASSWORD: hunter2}}
          no_log: true
        - name: Activate
          nix.ops.nixos_activate:
            toplevel: {system}
          environment: {{PASSWORD: hunter2}}
          no_log: true
        """,
        "-vvv",
    )
    assert outcome.exit_code == 0, outcome.output
    assert standing(target)[0] == system
    for said in ("hunter2", "this is the tool", "before the gate", "activating the configuration", "-tool"):
        assert said not in outcome.output
    assert outcome.lines("target") == []


@pytest.mark.both_pairs
@pytest.mark.parametrize("here", [True, False], ids=["controller", "build host"])
def test_timeout_ends_a_build(target, project, salt, here):
    gate = project.directory / "gate" if here else Path("/tmp/gate")
    machine = None if here else target
    if here:
        subprocess.run(["mkfifo", gate], check=True)
    else:
        target.run(["mkfifo", str(gate)])
    begin = time.monotonic()
    outcome = run_tasks(
        project,
        f"""
        - name: Build
          nix.ops.nix_build:
            file: packages.nix
            attribute: [waiting]
            arguments: {{salt: {salt}, gate: "{gate}"}}
          timeout: 8
        """,
        hosts="localhost" if here else "target",
    )
    assert outcome.exit_code != 0
    assert time.monotonic() - begin < 60
    assert "Timed out after 8" in outcome.of("Build")["msg"]
    assert "before the gate" in outcome.output
    wait_for(lambda: not still_building(machine, salt), "the builder has ended")
    target.run("rm -f /tmp/gate")
    assert target.inspect()["leftovers"] == []


def test_timeout_ends_the_following_and_not_the_activation(target, project):
    system = build_system(project, GATE)
    put(target, system)
    close_gate(target)
    outcome = run_tasks(
        project,
        f"""
        - name: Activate
          nix.ops.nixos_activate:
            toplevel: {system}
            # Nobody is there to get in again.
            rollback: never
          timeout: 8
        """,
    )
    assert "Timed out after 8" in outcome.of("Activate")["msg"]
    assert "before the gate" in outcome.output
    open_gate(target)
    wait_for(lambda: standing(target) == (system, system, system), "the switch went on to its end")


@pytest.mark.both_pairs
def test_delegate_to_loop_and_register(machine, target, project, salt):
    other = machine("other")
    tool, base = build_package(project, "tool", salt), build_package(project, "base", salt)
    outcome = run_tasks(
        project,
        f"""
        - name: Copy each
          nix.ops.nix_copy_closure:
            path: "{{{{ item }}}}"
          loop: [{base}, {tool}]
          delegate_to: other
          register: copied
        - name: Ask the other
          nix.ops.nixos_info:
          delegate_to: other
          register: asked
        - name: Say
          ansible.builtin.debug:
            msg: "{{{{ copied.results | map(attribute='paths') | list }}}} {{{{ asked.boot_id }}}}"
        """,
    )
    assert outcome.exit_code == 0, outcome.output
    assert [result["paths"] for result in outcome.of("Copy each")["results"]] == [[base], [tool]]
    assert outcome.of("Say")["msg"] == f"[['{base}'], ['{tool}']] {other.inspect()['boot_id']}"
    assert has_path(other, tool)
    assert not has_path(target, base)


def test_failure_names_the_host_it_was_delegated_to(machine, target, project, salt):
    machine("bare", nix=False)
    outcome = run_tasks(
        project,
        f"""
        - name: Build
          nix.ops.nix_build:
            file: packages.nix
            attribute: [tool]
            arguments: {{salt: {salt}}}
          delegate_to: bare
        """,
    )
    assert outcome.of("Build")["msg"].startswith("bare: ")


@pytest.mark.both_pairs
def test_module_defaults(target, project, salt):
    tool = build_package(project, "tool", salt)
    project.write(
        "site.yml",
        json.dumps(
            [
                {
                    "hosts": "target",
                    "gather_facts": False,
                    "module_defaults": {
                        "nix.ops.nix_copy_closure": {"paths": [tool]},
                        "group/nix.ops.ops": {"profile": "/nix/var/nix/profiles/of-no-one"},
                    },
                    "tasks": [
                        {
                            "name": "Copy",
                            "nix.ops.nix_copy_closure": {},
                            "module_defaults": {"nix.ops.nix_copy_closure": {"paths": [tool]}, "group/nix.ops.ops": {}},
                        },
                        {"name": "Info", "nix.ops.nixos_info": {}},
                    ],
                }
            ]
        ),
    )
    outcome = project.play("-i", "target,", "site.yml")
    assert outcome.exit_code == 0, outcome.output
    assert has_path(target, tool)
    assert outcome.of("Info")["profile"] is None
    assert outcome.of("Info")["running"] == target.toplevel


@pytest.mark.both_pairs
@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("nix_build", {"expression": "1"}),
        ("nix_copy_closure", {"paths": []}),
        ("nixos_activate", {"toplevel": "/nix/store/x"}),
        ("nixos_info", {}),
    ],
)
def test_async_is_refused(target, project, module, options):
    before = target.inspect()
    outcome = run_tasks(project, f"- name: Later\n  nix.ops.{module}: {json.dumps(options)}\n  async: 60\n  poll: 0")
    assert outcome.exit_code != 0
    assert "async" in outcome.of("Later")["msg"].lower()
    assert target.inspect() == before


@pytest.mark.both_pairs
def test_check_mode_of_a_task(target, project, salt):
    tool = build_package(project, "tool", salt)
    outcome = run_tasks(
        project,
        f"""
        - name: Would copy
          nix.ops.nix_copy_closure: {{path: {tool}}}
          check_mode: true
        - name: Copies
          nix.ops.nix_copy_closure: {{path: {tool}}}
          check_mode: false
        """,
        "--check",
    )
    assert outcome.of("Would copy")["paths"] == outcome.of("Copies")["paths"]
    assert has_path(target, tool)


@pytest.mark.both_pairs
def test_become_another_user(target, project, salt):
    # root becomes one who is not trusted: what he may not is refused.
    tool = build_package(project, "tool", salt)
    write_inventory(project, {"target": {"ansible_become": True, "ansible_become_method": "su"}})
    outcome = run_tasks(
        project,
        f"""
        - name: Ask as deploy
          nix.ops.nixos_info:
          become_user: deploy
        - name: Copy as root
          nix.ops.nix_copy_closure: {{path: {tool}}}
        - name: Activate as deploy
          nix.ops.nixos_activate: {{toplevel: {target.toplevel}, force: true}}
          become_user: deploy
        """,
        hosts="all",
    )
    assert outcome.of("Ask as deploy")["running"] == target.toplevel
    assert has_path(target, tool)
    assert "needs root" in outcome.of("Activate as deploy")["msg"]
