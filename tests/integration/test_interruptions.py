# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is interrupted, killed or out of time: what it had begun is ended, or ends in order by itself."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from integration.networks import ACTIVATE, BUILD, COPY, Network
from integration.outside import COPIED, processes_of, stands
from integration.tasks import read_until, wait_for

# A store that holds what is sent to it: it takes the first part and waits at a gate for the rest.
SLOW_STORE = """#!/bin/sh
{
    case $* in
        *--serve*)
            dd bs=64k count=30 status=none
            : >/run/copying
            while [ ! -e /run/gate ]; do sleep 0.1; done
            ;;
    esac
    cat
} | /usr/bin/nix-store "$@"
"""

INTERRUPTIONS = ["SIGINT", "SIGKILL", "timeout"]


@pytest.fixture(scope="module")
def target(machine):
    """One machine for all interruptions: each test compares with what it found."""
    return machine("target")


@pytest.fixture
def network(project, target):
    """The machine's network, in a project whose temporary files can be counted."""
    temporary = project.directory / "tmp"
    temporary.mkdir()
    project.environment["TMPDIR"] = str(temporary)
    yield Network(project, target)
    for process in processes_of(project):
        os.kill(process, signal.SIGKILL)


def start(network, interruption):
    """Begin a deployment that is to be interrupted."""
    if interruption == "timeout":
        network.project.environment["ANSIBLE_TASK_TIMEOUT"] = "4"
    return network.start()


def interrupt(network, interruption, deploying, seen):
    """Interrupt it as a user, the system or Ansible would, and wait until all of it has ended."""
    if interruption == "SIGINT":
        # As the terminal does.
        os.killpg(deploying.pid, signal.SIGINT)
    elif interruption == "SIGKILL":
        deploying.kill()
    run = network.project.finish(deploying, seen, timeout=30)
    network.project.environment.pop("ANSIBLE_TASK_TIMEOUT", None)
    assert run.exit_code != 0
    wait_for(lambda: not processes_of(network.project), "no process of the run is left")
    # A killed ansible-playbook leaves a directory of Python's multiprocessing, which no one else can remove.
    temporary = Path(network.project.environment["TMPDIR"])
    left = [file.name for file in temporary.iterdir() if not file.name.startswith("pymp-")]
    assert left == [], run.output
    return run


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_during_the_build(network, target, interruption):
    gate = network.project.directory / "gate"
    builder = f"echo waiting $$; until [ -e {gate} ]; do sleep 0.1; done; echo built >$out"
    network.define(f"environment.etc.gate.source = pkgs.runCommand \"gate\" {{ }} ''{builder}'';")
    before = target.inspect()
    deploying = start(network, interruption)
    seen = read_until(deploying, "target> waiting ")
    builder_pid = seen[-1].split()[-1]
    interrupt(network, interruption, deploying, seen)
    wait_for(lambda: not Path("/proc", builder_pid).exists(), "the builder has ended")
    assert target.inspect() == before

    gate.touch()
    again = network.deployed()
    assert again.statuses(BUILD) == {"target": "changed"}
    assert again.statuses(ACTIVATE) == {"target": "changed"}
    assert target.run("cat /etc/gate").stdout == "built\n"


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_during_the_copy(network, target, interruption):
    network.define(
        f'environment.etc.big.source = pkgs.runCommand "{interruption}" {{ }} "head -c 4000000 /dev/urandom >$out";'
    )
    slow = "/usr/local/bin/nix-store"
    target.run(f"cat >{slow}; chmod +x {slow}; rm -f /run/gate /run/copying", stdin=SLOW_STORE.encode())
    before = target.inspect()
    try:
        deploying = start(network, interruption)
        wait_for(lambda: target.run("test -e /run/copying", check=False).returncode == 0, "the copy has begun")
        interrupt(network, interruption, deploying, [])
        target.run("touch /run/gate")
        wait_for(
            lambda: target.run("pgrep -x nix-store", check=False).returncode == 1, "the machine's store is at rest"
        )
    finally:
        target.run(f"rm {slow}")
    assert target.inspect() == {**before, "leftovers": [COPIED]}

    again = network.deployed()
    assert again.statuses(BUILD) == {"target": "ok"}
    assert again.statuses(COPY) == {"target": "changed"}
    assert again.statuses(ACTIVATE) == {"target": "changed"}
    assert target.run("stat -L -c %s /etc/big").stdout == "4000000\n"


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_during_the_activation(network, target, interruption):
    gate = 'system.activationScripts.gate = "echo at the gate; while [ -e /run/gate ]; do sleep 0.1; done";'
    network.define(f'{gate} environment.etc.note.text = "{interruption}";')
    before = target.inspect()
    target.run("touch /run/gate")
    deploying = start(network, interruption)
    try:
        seen = read_until(deploying, "target> at the gate")
        run = interrupt(network, interruption, deploying, seen)
        assert stands(target.inspect()) == stands(before)
        told = run.output[run.output.index("target: this run has ended while it activates a system there") :]
        assert "State: the activation goes on by itself; the switch ends by " in told
        assert "waits 60 s for this controller and goes back to what ran before" in told
        assert "Next: Run the same again." in told
        # The next run goes on where that one was.
        going_on = network.start()
        seen = read_until(going_on, "the same activation is at work already; following it to its end")
    finally:
        target.run("rm /run/gate")
    again = network.project.finish(going_on, seen)
    assert again.exit_code == 0, again.output
    assert "target> activation finished successfully" in again.output
    after = target.inspect()
    assert set(stands(after)) == {again.of(ACTIVATE)["toplevel"]}
    assert after["generation"] == before["generation"] + 1
    assert (after["failed_units"], after["sshd_pid"]) == ([], before["sshd_pid"])
    assert target.run("cat /etc/note").stdout == interruption
    assert after["leftovers"] == [COPIED]


def test_what_an_abandoned_activation_said_is_kept_for_minutes(network, target):
    target.run("mkdir /run/nix-ops-stale; touch -d '11 minutes ago' /run/nix-ops-*; mkdir /run/nix-ops-fresh")
    network.define(f'environment.etc.note.text = "{network.project.directory}";')
    assert network.deployed().statuses(ACTIVATE) == {"target": "changed"}
    assert target.inspect()["leftovers"] == ["/run/nix-ops-fresh", COPIED]
    target.run("rmdir /run/nix-ops-fresh")
