# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults during whole deploys that take long: `make chaos` causes them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet import Machine
from integration.conftest import Deployed
from integration.engine import wait_on
from integration.faults import Tell
from integration.networks import ACTIVATE, COPY, INFO, Network, toplevels
from integration.outside import in_words, left_over, processes_of, stands
from integration.project import Outcome
from integration.tasks import read_until, wait_for
from integration.test_hangs import ENDLESS, ONE_LINE, SILENT, SILENT_COPY, log_in_to, masters
from integration.test_lockout import EXHAUST, give_back

pytestmark = pytest.mark.chaos

GATE = 'system.activationScripts.gate = "echo at the gate; while [ -e /run/gate ]; do sleep 0.1; done";'
SOON = "deploy_stall_timeout=12 deploy_confirm_timeout=6 deploy_ssh_timeout=0"


@pytest.fixture
def network(deployed: Deployed) -> Network:
    """A network whose machine was deployed."""
    return deployed("target")


@pytest.fixture
def target(network: Network) -> Machine:
    """Its machine."""
    return network.machines[0]


def is_old(before: dict[str, Any], after: dict[str, Any]) -> None:
    """The machine runs and boots what it did before, and nothing is left over."""
    assert stands(after) == stands(before)
    assert left_over(after) == []


def is_new(run: Outcome, after: dict[str, Any]) -> None:
    """The machine runs and boots what was deployed, and nothing is left over."""
    new = toplevels(run)["target"]
    assert stands(after) == (new, new, new)
    assert left_over(after) == []


def says(run: Outcome, task: str) -> str:
    """The message of the only task that failed, with what runs and what helps."""
    assert run.exit_code != 0, run.output
    message = str(run.of(task)["msg"])
    assert "\nState: " in message and "\nNext: " in message, message
    assert not processes_of_run(run)
    return message


def processes_of_run(run: Outcome) -> list[str]:
    """Lines of an unexpected error; a run has none."""
    return [line for line in run.output.splitlines() if "Traceback" in line or "invalid literal" in line]


def at_rest(target: Machine) -> dict[str, Any]:
    """What is seen on a machine once no activation is at work."""
    target.wait_up()
    wait_on(target, "! systemctl is-active --quiet nix-ops-activation", "the activation has ended", 90)
    return target.inspect()


# What its login shell does, the task that fails, what its message says.
HANGS = {
    "it takes connections and says nothing": (SILENT, INFO, "no answer within 60 seconds (what it runs)"),
    "it prints without end": (ENDLESS, INFO, "its answer takes more than 128 MiB (what it runs)"),
    "it prints a line of 200 MB": (ONE_LINE, INFO, "its answer takes more than 128 MiB (what it runs)"),
    "its store takes nothing": (SILENT_COPY, COPY, "no progress for 12 seconds (the copy of the closure)"),
}


@pytest.mark.parametrize("fault", HANGS)
def test_a_machine_that_hangs(network: Network, target: Machine, tell: Tell, fault: str) -> None:
    shell, task, said = HANGS[fault]
    before = target.inspect()
    network.define(one="uno")
    log_in_to(target, shell)
    message = says(network.deploy("-e", SOON), task)
    assert said in message and "State: the running system is untouched" in message
    assert not processes_of(network.project)
    # Connections that are open keep the login shell.
    log_in_to(target, 'exec /bin/sh "$@"')
    after = target.inspect()
    is_old(before, after)
    is_new(network.deployed(), target.inspect())
    tell(fault, before, after, says=message.partition("can't be reached: ")[2], then="succeeds")


def test_a_new_system_that_lets_in_and_says_nothing(network: Network, target: Machine, tell: Tell) -> None:
    before = target.inspect()
    network.define('services.openssh.extraConfig = "ForceCommand sleep infinity";')
    message = says(network.deploy("-e", SOON), ACTIVATE)
    assert "gone back to what ran before" in message
    after = target.inspect()
    is_old(before, after)
    network.define(one="uno")
    is_new(network.deployed(), target.inspect())
    tell("the new system lets in and says nothing", before, after, says=message, then="succeeds")


@pytest.mark.parametrize("what", EXHAUST)
def test_run_is_full_during_the_switch(network: Network, target: Machine, tell: Tell, what: str) -> None:
    before = target.inspect()
    target.run("cat >/run/fill", stdin=f"PATH=/usr/bin:/bin\n{EXHAUST[what]}\n".encode())
    network.define('system.activationScripts.fill = "if [ -e /run/fill ]; then /bin/sh /run/fill; fi";')
    try:
        run = network.deploy("-e", SOON)
    finally:
        give_back(target)
        target.run("rm -f /run/fill")
    message = says(run, ACTIVATE)
    after = at_rest(target)
    assert f"State: it {in_words(after['running'], after['boot_default'])}" in message
    assert ("gone back" in message) == (after["running"] == before["running"])
    assert "Next: Free room" in message
    assert left_over(after) == []
    network.define(one="uno")
    is_new(network.deployed(), target.inspect())
    tell(f"/run has no {what} left during the switch", before, after, says=message, then="succeeds")


def test_var_is_full(network: Network, target: Machine, tell: Tell) -> None:
    before = target.inspect()
    network.define(one="uno")
    target.run(
        "mkdir -p /mnt/var; mount -t tmpfs -o size=256m tmpfs /mnt/var; cp -a /var/. /mnt/var;"
        " mount --bind /mnt/var /var; dd if=/dev/zero of=/var/full bs=1M 2>/dev/null; df --output=avail /var"
    )
    try:
        message = says(network.deploy("-e", SOON), ACTIVATE)
    finally:
        target.run("umount -l /var; umount -l /mnt/var")
    assert "No space left on device" in message and "Next: Free room on the machine" in message
    assert "warning: going back ended with exit code 2" in message
    after = target.inspect()
    is_old(before, after)
    is_new(network.deployed(), target.inspect())
    tell("/var is full", before, after, says=message, then="succeeds")


def test_a_temporary_directory_that_executes_nothing(network: Network, target: Machine, tell: Tell) -> None:
    temporary = network.project.directory / "tmp"
    temporary.mkdir()
    before = target.inspect()
    network.define(one="uno")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", temporary], check=True)
    network.project.environment["TMPDIR"] = str(temporary)
    try:
        run = network.deployed()
    finally:
        subprocess.run(["umount", "-l", temporary], check=True)
        del network.project.environment["TMPDIR"]
    after = target.inspect()
    is_new(run, after)
    network.define(one="due")
    is_new(network.deployed(), target.inspect())
    tell("TMPDIR of the controller is noexec", before, after, says="activation finished successfully", then="succeeds")


# Seconds of latency each way, seconds until a connection is cut, seconds that it stands still.
LINES = {
    "each connection has a latency of 0.8 s": (0.4, 0, 0),
    "each connection is cut after 6 s": (0, 6, 0),
    "each connection stands still for 10 s": (0, 0, 10),
}


@contextmanager
def over(network: Network, latency: float, cut: float, stall: float) -> Iterator[None]:
    """Let all connections of a network go over a bad line."""
    program = Path(__file__).with_name("bad_line.py")
    words = f"{sys.executable} {program} %h %p {latency} {cut} {stall}"
    config = network.project.directory / "bad_line_config"
    [target] = network.machines
    config.write_text(f"Host *\n  ProxyCommand {words}\n{target.ssh_config.read_text()}")
    network.project.configure(config)
    yield
    network.project.configure(target.ssh_config)


@pytest.mark.parametrize("fault", LINES)
def test_a_bad_line(network: Network, target: Machine, tell: Tell, fault: str) -> None:
    before = target.inspect()
    network.define(one="uno")
    with over(network, *LINES[fault]):
        run = network.deploy(timeout=300)
    assert run.exit_code == 0, run.output
    after = target.inspect()
    is_new(run, after)
    network.define(one="due")
    is_new(network.deployed(), target.inspect())
    tell(fault, before, after, says="activation finished successfully", then="succeeds")


def test_a_shared_connection_that_is_stopped_during_the_switch(network: Network, target: Machine, tell: Tell) -> None:
    before = target.inspect()
    network.define(GATE)
    target.run("touch /run/gate")
    run = network.start()
    seen = read_until(run, "at the gate")
    stopped = masters(network.project)
    for process in stopped:
        os.kill(process, signal.SIGSTOP)
    target.run("rm /run/gate")
    outcome = network.project.finish(run, seen, timeout=240)
    assert outcome.exit_code == 0, outcome.output
    assert stopped and not set(stopped) & set(masters(network.project))
    after = target.inspect()
    is_new(outcome, after)
    network.define(one="due")
    is_new(network.deployed(), target.inspect())
    end = "activation finished successfully"
    tell("the ssh of the shared connection is stopped", before, after, says=end, then="succeeds")


def worker_of(run: subprocess.Popen[str]) -> int:
    """The worker of ansible-playbook that has started others."""
    for child in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split():
        if Path(f"/proc/{child}/task/{child}/children").read_text().split():
            return int(child)
    raise AssertionError("no worker is at work")


def test_a_worker_of_ansible_that_is_killed(network: Network, target: Machine, tell: Tell) -> None:
    before = target.inspect()
    network.define(GATE)
    target.run("touch /run/gate")
    run = network.start("-e", SOON)
    seen = read_until(run, "at the gate")
    os.kill(worker_of(run), signal.SIGKILL)
    outcome = network.project.finish(run, seen)
    assert outcome.exit_code != 0
    told = outcome.output[outcome.output.index("target: this run has ended") :]
    assert "State: the activation goes on by itself" in told and "Next: Run the same again" in told
    wait_for(lambda: not processes_of(network.project), "no process of the run is left")
    target.run("rm /run/gate")
    after = at_rest(target)
    # For some minutes a run may still ask for its result.
    target.run("rm -r /run/nix-ops-*")
    is_old(before, {**after, "leftovers": target.inspect()["leftovers"]})
    again = network.deployed()
    assert "was rolled back after its run had ended" in again.output
    is_new(again, target.inspect())
    tell("a worker of Ansible is killed", before, after, says=told, then="succeeds")


def test_two_deployments_of_one_machine(network: Network, target: Machine, tell: Tell) -> None:
    before = target.inspect()
    other = Network(network.project, target, name="other")
    message = says(other.deploy(), INFO)
    after = target.inspect()
    is_old(before, after)
    network.define(one="uno")
    is_new(network.deployed(), target.inspect())
    said = re.sub("[0-9a-f-]{36}", "…", message).replace(f" at {target.address} port 22", "")
    tell("another deployment has the machine", before, after, says=said, then="succeeds")


def test_a_garbage_collection_after_each_step(network: Network, target: Machine, tell: Tell) -> None:
    before = target.inspect()
    network.define(one="uno")
    with collecting(target):
        copied = network.deployed("--skip-tags", "activate", "--tags", "copy")
        new = toplevels(copied)["target"]
        target.run("nix-store --gc")
        target.run(["nix-store", "--check-validity", new])
        run = network.deployed()
    assert toplevels(run)["target"] == new
    after = target.inspect()
    is_new(run, after)
    network.define(one="due")
    is_new(network.deployed(), target.inspect())
    end = "activation finished successfully"
    tell("the machine's store is collected all the time", before, after, says=end, then="succeeds")


@contextmanager
def collecting(target: Machine) -> Iterator[None]:
    """Collect garbage on a machine again and again."""
    target.run("touch /run/collect")
    words = [*target.enter(), "/bin/sh", "-c", "while [ -e /run/collect ]; do nix-store --gc >/dev/null 2>&1; done"]
    process = subprocess.Popen(words)
    try:
        yield
    finally:
        target.run("rm /run/collect")
        process.wait(timeout=60)
