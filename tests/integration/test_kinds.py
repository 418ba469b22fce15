# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of every kind are deployed, however they are reached."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.networks import ACTIVATE, COPY, Counter, Network, standing, toplevels
from integration.outside import COPIED
from integration.project import Outcome, Project

PASSWORD = "s e'c$"


def ssh_options(machine: Machine) -> str:
    """What ssh needs to reach a machine without any configuration of its own, as a list of Nix."""
    return " ".join(["[", *(json.dumps(word) for word in ("-F", "none", *machine.ssh_args)), "]"])


def assert_deployed(network: Network, *words: str) -> Outcome:
    """Deploy a machine: it stands at what was built, nothing was left over, and a second run has nothing to do."""
    (machine,) = network.machines
    first = network.deployed(*words)
    assert first.statuses(ACTIVATE) == {machine.name: "changed"}
    toplevel = toplevels(first)[machine.name]
    assert standing(machine) == (toplevel,) * 3
    assert machine.inspect()["leftovers"] == [COPIED]
    assert machine.run("systemctl is-active one two sshd").stdout.split() == ["active"] * 3
    assert not network.deployed(*words).changed
    return first


@pytest.mark.both_pairs
@pytest.mark.parametrize("debian", ["bookworm", "trixie"])
def test_the_nix_of_each_debian(machine: MachineFactory, project: Project, debian: str) -> None:
    done = assert_deployed(Network(project, machine(debian, debian=debian)))
    assert toplevels(done)[debian] in done.of(COPY)["paths"]


def test_a_user_with_sudo_copies_as_root(machine: MachineFactory, project: Project) -> None:
    # The daemon would not take unsigned paths from him.
    user = machine("user", user="deploy")
    done = assert_deployed(Network(project, user, where={"user": 'deployment.targetUser = "deploy";'}))
    assert any(line.startswith("copying path ") and "ssh://" in line for line in done.lines("user"))


@pytest.mark.both_pairs
def test_sudo_with_a_password_and_a_login_shell_that_is_not_posix(machine: MachineFactory, project: Project) -> None:
    user = machine("user", user="deploy", sudo_password=PASSWORD, shell="fish")
    network = Network(project, user, where={"user": 'deployment.targetUser = "deploy";'})
    # Not on a command line, where every user of the controller could read it.
    project.write("group_vars/nixos.yml", f"ansible_become_password: {json.dumps(PASSWORD)}\n")
    done = assert_deployed(network)
    assert any(line.endswith("paths as a file...") for line in done.lines("user"))
    assert toplevels(done)["user"] in done.of(COPY)["paths"]
    assert PASSWORD not in done.output

    (project.directory / "group_vars" / "nixos.yml").unlink()
    network.define(one="uno")
    before = user.inspect()
    without = network.deploy()
    assert without.exit_code != 0
    assert "password" in without.output
    assert user.inspect() == before


@pytest.mark.parametrize(
    "command",
    [
        '[ "sudo" "-H" "-u" "root" "--" ]',
        # Words that a shell would take apart.
        r"""[ "env" "WORDS=two words; \"$(touch /tmp/nix-ops-run)\" '" "sudo" "-n" "--" ]""",
    ],
)
def test_any_privilege_escalation_command(machine: MachineFactory, project: Project, command: str) -> None:
    user = machine("user", user="deploy")
    where = f'deployment.targetUser = "deploy"; deployment.privilegeEscalationCommand = {command};'
    assert_deployed(Network(project, user, where={"user": where}))
    assert not Path("/tmp/nix-ops-run").exists()


def test_behind_a_jump_host_by_the_networks_own_ssh_options(machine: MachineFactory, project: Project) -> None:
    machine("jump")
    behind = machine("behind", jump="jump")
    # Without any configuration of ssh: the network says all.
    project.configure()
    assert_deployed(Network(project, behind, where={"behind": f"deployment.sshOptions = {ssh_options(behind)};"}))


def test_behind_a_jump_host_by_the_users_ssh_configuration(machine: MachineFactory, project: Project) -> None:
    machine("jump")
    assert_deployed(Network(project, machine("behind", jump="jump")))


def test_a_port_other_than_22(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    # The fleet's configuration of ssh names the port, and would win.
    project.configure()
    network = Network(project, target, where={"target": f"deployment.sshOptions = {ssh_options(target)};"})
    network.deployed()
    network.define("services.openssh.ports = [ 2222 ];")
    assert network.deployed().of(ACTIVATE)["units"]["restarted"] == ["sshd.service"]

    # By default the first of sshd's ports is the one to connect to.
    network.define("services.openssh.ports = [ 2222 ];", one="uno")
    ssh = Counter(project, "ssh")
    assert network.deployed().of(ACTIVATE)["units"]["restarted"] == ["one.service"]
    connections = [words for words in ssh.runs() if target.address in words]
    assert connections
    assert all("Port=2222" in words for words in connections)


def test_a_small_store_with_room(machine: MachineFactory, project: Project) -> None:
    assert_deployed(Network(project, machine("small", store_mib=64)))


def test_a_system_as_heavy_as_a_real_one(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    network = Network(project, target)
    weight = "imports = [ <nixpkgs/nixos/modules/profiles/weight.nix> ];"
    network.define(weight)
    toplevel = toplevels(network.deployed())["target"]
    assert len(target.run(["nix-store", "--query", "--requisites", toplevel]).stdout.split()) >= 500
    assert not network.deployed().changed

    network.define(f'{weight} environment.etc."weight/file-7".source = pkgs.lib.mkForce ./example-config.nix;')
    preview = network.deployed("--check", "--diff").output
    assert "/etc/weight/file-7: changed" in preview
    assert "--- /etc/weight/file-7 now" in preview and "-path 1007" in preview


def test_a_container_has_nothing_to_reboot_for(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    network = Network(project, target)
    boot_id = target.inspect()["boot_id"]
    network.define("boot.isContainer = true;")
    answer = network.deployed("-e", "deploy_reboot=when_needed").of(ACTIVATE)
    assert not answer["reboot_needed"] and not answer["rebooted"]
    assert target.inspect()["boot_id"] == boot_id
