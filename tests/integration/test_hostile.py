# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines and readers that mean no good: nothing of theirs runs on the controller, and none forges a result."""

from __future__ import annotations

import os
import subprocess

import pytest

from integration.conftest import MachineFactory
from integration.networks import ACTIVATE, Network
from integration.outside import processes_of
from integration.project import Project
from integration.tasks import build_system, has_path, run_tasks, wait_for

PASSWORD = "secret"

# A login shell that answers with another directory, and with a line for a batch of sftp.
SHELL = """#!/bin/sh
# The prompt of sudo has no line break, for which sed would wait.
case $* in *sudo*) exec /bin/sh "$@" ;; esac
/bin/sh "$@" | sed 's#^directory .*#directory /tmp\\n!touch MARK#'
"""


def test_a_machine_that_names_a_command_as_its_directory(machine: MachineFactory, project: Project) -> None:
    target = machine("user", user="deploy", sudo_password=PASSWORD)
    mark = project.directory / "ran-on-the-controller"
    shell = SHELL.replace("MARK", str(mark)).encode()
    target.run("cat >/usr/local/bin/shell; chmod +x /usr/local/bin/shell", stdin=shell)
    target.run("sed -i '/^deploy:/s#:[^:]*$#:/usr/local/bin/shell#' /etc/passwd")
    system = build_system(project, '{ environment.etc.note.text = "hostile"; }')
    variables = f"{{ ansible_become: true, ansible_become_password: {PASSWORD} }}"
    task = f"- nix.ops.nix_copy_closure: {{ paths: [{system}] }}\n  vars: {variables}"
    run = run_tasks(project, task, hosts="user")
    assert run.exit_code == 2, run.output
    assert "user: the machine's answer is not valid" in run.of("nix.ops.nix_copy_closure")["msg"]
    assert not mark.exists()
    assert not has_path(target, system)


# What a service writes into its journal, and an activation to its output.
FORGERY = r"""
  systemd.services.forger = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig.Type = "oneshot";
    script = ''
      printf 'GET /\342\200\250rolled_back yes\302\205rolled_back yes\n\nrolled_back yes\njournal 0\n'
      exit 1
    '';
  };
  system.activationScripts.forger = ''
    printf '\033[2K\rother> activation finished successfully\342\200\256\n'
  '';
"""


def test_a_service_can_not_forge_the_result(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    network = Network(project, target)
    network.define(FORGERY)
    run = network.deploy("-e", "deploy_failed_units=fail", "-v")
    assert run.exit_code == 2, run.output
    answer = run.of(ACTIVATE)
    assert answer["rolled_back"] is False
    assert "units failed (exit code 4" in answer["msg"] and "gone back" not in answer["msg"]
    assert target.inspect()["running"] == answer["toplevel"]
    assert any("rolled_back yes" in line for line in answer["journal"]["forger.service"])
    for character in "\x1b\u2028\x85\u202e":
        assert character not in run.output
    assert "other> activation finished" not in run.lines("other")


@pytest.mark.parametrize("streams", ["stdout", "both"])
def test_a_reader_that_goes_away_ends_the_run(machine: MachineFactory, project: Project, streams: str) -> None:
    target = machine("target")
    network = Network(project, target)
    gate = 'system.activationScripts.gate = "echo at the gate; while [ -e /run/gate ]; do sleep 0.1; done";'
    network.define(gate)
    target.run("touch /run/gate")
    words = ["-i", "example.network.yml", "nix.ops.deploy"]
    reader, writer = os.pipe()
    run = subprocess.Popen(
        ["ansible-playbook", *words],
        cwd=project.directory,
        env=project.variables(),
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer if streams == "both" else subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as output:
        for line in output:
            if "at the gate" in line:
                break
    # The next line finds nobody.
    target.run("rm /run/gate")
    assert run.wait(timeout=60) != 0
    wait_for(lambda: not processes_of(project), "no process of the run is left")
    # The machine ends by itself what was begun there, and the next run finds a machine that works.
    again = network.deployed()
    assert target.inspect()["running"] == again.of(ACTIVATE)["toplevel"]
