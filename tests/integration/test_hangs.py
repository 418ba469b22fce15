# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that accept a connection and then say nothing, or never stop: no run waits for them without end."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from fleet import Machine
from integration.conftest import Deployed, MachineFactory
from integration.networks import ACTIVATE, COPY, INFO, OUTCOME, Network, toplevels
from integration.outside import processes_of
from integration.project import Project
from integration.tasks import close_gate, open_gate, read_until, run_tasks, wait_for

PASSWORD = "secret"

# What a login shell does instead of a command.
SILENT = "exec sleep infinity"
ENDLESS = "exec yes"
ONE_LINE = "exec head -c 200000000 /dev/zero"

# A login shell that is silent once Nix copies to it.
SILENT_COPY = 'case $* in *--serve*) exec sleep infinity ;; esac; exec /bin/sh "$@"'

GATE = """
  system.activationScripts.gate = ''
    [ ! -p /run/gate ] || cat /run/gate
  '';
"""


def log_in_to(target: Machine, shell: str) -> None:
    """Let root's logins run this script."""
    target.run("cat >/usr/local/bin/shell; chmod +x /usr/local/bin/shell", stdin=f"#!/bin/sh\n{shell}\n".encode())
    target.run("sed -i '/^root:/s#:[^:]*$#:/usr/local/bin/shell#' /etc/passwd")


def masters(project: Project) -> list[int]:
    """The processes that share a project's connections of ssh."""
    title = f"ssh: {project.directory}/.cp/".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cmdline").read_bytes().startswith(title):
                found.append(int(process.name))
    return found


def test_a_silent_machine_holds_up_nobody(machine: MachineFactory, project: Project) -> None:
    silent, other = machine("silent"), machine("other")
    network = Network(project, silent, other)
    log_in_to(silent, SILENT)
    began = time.monotonic()
    run = network.deploy("-e", "deploy_answer_timeout=12 deploy_ssh_timeout=0")
    assert time.monotonic() - began < 60
    assert run.statuses(INFO) == {"silent": "unreachable", "other": "changed"}
    assert "waiting for what it runs since 10 s" in run.lines("silent")
    message = run.of(INFO, "silent")["msg"]
    assert "no answer within 12 seconds (what it runs)" in message
    assert "State: the running system is untouched\nNext: " in message and "deploy_answer_timeout" in message
    assert other.inspect()["running"] == toplevels(run)["other"]
    assert run.of(OUTCOME)["machines"]["silent"].startswith("not deployed")
    assert not processes_of(project)

    listed = project.play("-i", "example.network.yml", "nix.ops.info", "-e", "info_answer_timeout=3")
    assert listed.exit_code == 0, listed.output
    [row] = [line for line in listed.output.splitlines() if line.startswith("| silent ")]
    assert "unreachable" in row


@pytest.mark.parametrize("shell", [ENDLESS, ONE_LINE])
def test_an_answer_without_end_is_cut_off(machine: MachineFactory, project: Project, shell: str) -> None:
    target = machine("target")
    log_in_to(target, shell)
    began = time.monotonic()
    run = run_tasks(project, "- nix.ops.nixos_info:")
    assert time.monotonic() - began < 45
    message = run.of("nix.ops.nixos_info")["msg"]
    assert "its answer takes more than 128 MiB" in message and "prints without end" in message
    assert run.statuses("nix.ops.nixos_info") == {"target": "unreachable"}
    assert not processes_of(project)


def test_a_copy_that_stands_still_is_ended(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    network = Network(project, target)
    log_in_to(target, SILENT_COPY)
    run = network.deploy("-e", "deploy_stall_timeout=12")
    assert run.exit_code != 0, run.output
    assert run.statuses(COPY) == {"target": "unreachable"}
    assert "no progress for 12 seconds (the copy of the closure)" in run.of(COPY)["msg"]
    assert any(line.startswith("waiting for the copy of the closure since 10 s: ") for line in run.lines("target"))
    assert not processes_of(project)


def test_a_new_system_that_lets_in_and_says_nothing(deployed: Deployed) -> None:
    network = deployed("target")
    [target] = network.machines
    before = target.inspect()
    network.define('services.openssh.extraConfig = "ForceCommand sleep infinity";')
    began = time.monotonic()
    run = network.deploy("-e", "deploy_confirm_timeout=4")
    assert time.monotonic() - began < 90
    assert "nobody got in over a new connection within 4 seconds" in run.of(ACTIVATE)["msg"]
    assert target.inspect()["running"] == before["running"]
    assert not processes_of(network.project)


def test_a_shared_connection_that_is_stopped(deployed: Deployed) -> None:
    network = deployed("target")
    words = ("-i", "example.network.yml", "nix.ops.info", "-e", "info_answer_timeout=5")
    assert network.project.play(*words).exit_code == 0
    [master] = masters(network.project)
    os.kill(master, signal.SIGSTOP)
    try:
        run = network.project.play(*words)
        assert run.statuses(INFO) == {"target": "ok"}, run.output
        assert master not in masters(network.project)
    finally:
        if master in masters(network.project):
            os.kill(master, signal.SIGKILL)


def test_a_refused_password_is_not_tried_again(machine: MachineFactory, project: Project) -> None:
    target = machine("user", user="deploy", sudo_password=PASSWORD)
    network = Network(project, target, where={"user": 'deployment.targetUser = "deploy";'})
    network.define(GATE)
    close_gate(target)
    run = network.start("-e", f"ansible_become=true ansible_become_password={PASSWORD} deploy_confirm_timeout=5")
    seen = read_until(run, "activating the configuration")
    target.run("chpasswd", stdin=b"deploy:another\n")
    began = time.monotonic()
    outcome = project.finish(run, seen)
    assert time.monotonic() - began < 30
    message = outcome.of(ACTIVATE)["msg"]
    assert "the machine refuses the password" in message and "the activation there goes on by itself" in message
    failures = target.run("journalctl --no-pager _COMM=sudo | grep -c 'authentication failure'", check=False)
    assert int(failures.stdout) == 1
    open_gate(target)
    wait_for(lambda: "activation" not in " ".join(target.inspect()["leftovers"]), "the machine ends by itself", 90)
