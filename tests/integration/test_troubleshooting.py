# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outputs of docs/troubleshooting.md: each failure says its cause, State and Next once, in few lines."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.faults import WRITE
from integration.networks import Network
from integration.project import TESTS, Outcome, Project
from integration.tasks import read_until

PAGE = TESTS.parent / "docs" / "troubleshooting.md"

# Lines that a failure may have, beside those of the tools that failed.
MOST = 15

GATE = 'system.activationScripts.gate = "echo at the gate; while [ -e /run/gate ]; do sleep 0.1; done";'
# The unit fails only after the journal has its line. Otherwise the switch does not always show the line.
BAD_UNIT = """systemd.services.bad = {
  wantedBy = [ "multi-user.target" ]; serviceConfig.Type = "oneshot";
  script = "echo no such database; /usr/bin/journalctl --sync; exit 1";
};"""
UNHEALTHY = 'deployment.healthChecks = { commands = [ "test -e /run/app.sock" ]; deadline = 2; };'


class Shown:
    """Compares what a failed run has printed with the page, or writes it there."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def __call__(self, heading: str, output: str, machine: Machine, *, begins: str) -> str:
        """Compare the end of an output with the block below a heading.

        :param begins: how the first line begins that the page shows; what a tool has said before is left out.
        :returns: the excerpt.
        """
        excerpt = self._plain(_end(output, begins), machine)
        text = PAGE.read_text(encoding="utf-8")
        block = re.compile(rf"(\n##+ {re.escape(heading)}\n.*?```text\n)(.*?)(?=```\n)", re.DOTALL)
        found = block.search(text)
        assert found is not None and "\n## " not in found[1][4:], f"no block below {heading!r}"
        if os.environ.get(WRITE):
            PAGE.write_text(f"{text[: found.start(2)]}{excerpt}{text[found.end(2) :]}", encoding="utf-8")
        else:
            assert found[2] == excerpt
        return excerpt

    def _plain(self, text: str, machine: Machine) -> str:
        """Leave out what differs from run to run."""
        text = text.replace(str(self._project.directory), "/home/me/network").replace(
            machine.address, "target.example.org"
        )
        text = re.sub(r"/nix/store/[a-z0-9]{32}-", "/nix/store/…-", text)
        text = re.sub(r"(SHA256:)[A-Za-z0-9+/]{43}", r"\1…", text)
        text = re.sub(r"(ssh-ed25519 AAAA)[A-Za-z0-9+/]{64}", r"\1…", text)
        text = re.sub(r"\d\d:\d\d:\d\d", "18:30:00", text)
        return text.replace(".20240531.miniature", "")


def _end(output: str, begins: str) -> str:
    """Return the lines from the failure to the end, without the headers and the recap of Ansible."""
    lines = output.partition("\nPLAY RECAP")[0].splitlines()
    first = max(number for number, line in enumerate(lines) if line.startswith(begins))
    # Ansible's own line may come before or after that of another process.
    return "".join(f"{line}\n" for line in lines[first:] if line and line != "[ERROR]: User interrupted execution")


def is_short(excerpt: str) -> bool:
    """Whether the failure itself is told in few lines, each of them once."""
    lines = excerpt.splitlines()
    return len(lines) <= MOST and len(lines) == len(set(lines))


@pytest.fixture
def target(machine: MachineFactory) -> Machine:
    """A machine."""
    return machine("target")


@pytest.fixture
def network(project: Project, target: Machine) -> Network:
    """Its network."""
    return Network(project, target)


@pytest.fixture
def shown(project: Project) -> Shown:
    """Compares an output with the page."""
    return Shown(project)


def keys(project: Project, count: int) -> Iterator[str]:
    """Make key pairs that no machine knows; yield the private ones."""
    first = len(list(project.directory.glob("*.pub")))
    for number in range(first, first + count):
        file = project.directory / f"key{number}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
        yield str(file)


def over_ssh(machine: Machine, *, identities: list[str] | None = None, known: Path | None = None) -> tuple[str, str]:
    """Return the words that deploy with another configuration of ssh than that of the fleet."""
    offered = " ".join(f"-i {one}" for one in identities or [str(machine.identity_file)])
    known_hosts = f"-o UserKnownHostsFile={known or machine.known_hosts_file}"
    return "-e", f"ansible_ssh_args='-F none {offered} -o IdentitiesOnly=yes {known_hosts}'"


def failed(run: Outcome) -> str:
    """The output of a run that has failed."""
    assert run.exit_code != 0, run.output
    return run.output


@pytest.mark.both_pairs
def test_a_machine_that_can_not_be_reached(network: Network, target: Machine, shown: Shown) -> None:
    project = network.project
    target.link_down()
    try:
        run = network.deploy("-e", "ansible_timeout=1", "-e", "deploy_ssh_timeout=1")
    finally:
        target.link_up()
    first = "target> the machine can't be reached"
    assert is_short(shown("The machine does not answer", failed(run), target, begins=first))

    [other] = keys(project, 1)
    run = network.deploy(*over_ssh(target, identities=[other]))
    assert is_short(shown("Permission denied", failed(run), target, begins=first))
    run = network.deploy(*over_ssh(target, identities=[*keys(project, 8)]))
    assert is_short(shown("Too many authentication failures", failed(run), target, begins=first))


def test_a_host_key_that_is_not_accepted(network: Network, target: Machine, shown: Shown) -> None:
    known = network.project.directory / "known_hosts"
    run = network.deploy(*over_ssh(target, known=known))
    assert is_short(shown("The host key is not known", failed(run), target, begins="target> its host key"))
    [other] = keys(network.project, 1)
    known.write_text(f"{target.address} {Path(f'{other}.pub').read_text()}")
    run = network.deploy(*over_ssh(target, known=known))
    assert is_short(shown("The host key has changed", failed(run), target, begins="target> its host key"))


def test_a_network_that_is_not_right(network: Network, target: Machine, shown: Shown) -> None:
    network.define("environment.etc.tool.source = pkgs.no-such-package;")
    run = network.deploy()
    assert is_short(shown("The evaluation fails", failed(run), target, begins="the evaluation failed"))
    builder = 'pkgs.runCommand "tool" { } "echo no such compiler >&2; exit 3"'
    network.define(f"environment.etc.tool.source = {builder};")
    run = network.deploy()
    assert is_short(shown("The build fails", failed(run), target, begins="target> building"))


def test_a_system_that_does_not_stay(network: Network, target: Machine, shown: Shown) -> None:
    network.deployed()
    network.define(BAD_UNIT)
    excerpt = shown("Units fail", failed(network.deploy()), target, begins="target> units failed")
    assert is_short(excerpt)
    # The journal has only what was said since the switch began.
    network.define(BAD_UNIT.replace("database", "table"))
    again = failed(network.deploy())
    assert "no such table" in again and "no such database" not in again
    network.define(UNHEALTHY, one="uno")
    run = network.deploy()
    assert is_short(shown("Health checks fail", failed(run), target, begins="target> its health checks"))
    network.define("services.openssh.enable = pkgs.lib.mkForce false;")
    run = network.deploy("-e", "deploy_confirm_timeout=4")
    begins = "target> nobody got in"
    assert is_short(shown("Nobody gets in after the switch", failed(run), target, begins=begins))


def test_a_run_that_is_interrupted(network: Network, target: Machine, shown: Shown) -> None:
    network.define(GATE)
    target.run("touch /run/gate")
    try:
        run = network.start()
        seen = read_until(run, "target> at the gate")
        os.killpg(run.pid, signal.SIGINT)
        outcome = network.project.finish(run, seen)
        assert is_short(shown("The run is interrupted", failed(outcome), target, begins="target: this run has ended"))
        network.define(f'{GATE} environment.etc.other.text = "";')
        other = failed(network.deploy())
    finally:
        target.run("rm /run/gate")
    excerpt = _end(other, "target> another activation is at work")
    assert is_short(excerpt) and "State: nix.ops switch of " in excerpt and "Next: Wait for it to end" in excerpt


def test_a_machine_without_room(machine: MachineFactory, project: Project, shown: Shown) -> None:
    small = machine("target", store_mib=64)
    network = Network(project, small)
    network.define('environment.etc.big.source = pkgs.runCommand "big" { } "head -c 90000000 /dev/urandom >$out";')
    run = network.deploy()
    assert is_short(shown("The disk is full", failed(run), small, begins="target> the closure could not"))


@pytest.mark.both_pairs
def test_a_user_who_may_not_become_root(machine: MachineFactory, project: Project, shown: Shown) -> None:
    visited = machine("target", user="deploy", sudo_password="secret")
    network = Network(project, visited)
    run = network.deploy()
    assert is_short(shown("A password is missing", failed(run), visited, begins="target> the machine asks"))


def test_a_play_that_gathers_facts(project: Project, network: Network) -> None:
    project.write("site.yml", "- hosts: nixos\n  tasks:\n    - ansible.builtin.debug:\n")
    assert "'/nowhere/python' was not found" in failed(network.deploy(playbook="site.yml"))
    project.write("group_vars/nixos.yml", "ansible_facts_modules: []\n")
    assert network.deploy(playbook="site.yml").exit_code == 0
