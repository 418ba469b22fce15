# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment's key gets in, beside whatever else gets in."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.keys import generate
from fleet import Machine
from integration.conftest import MachineFactory
from integration.networks import Network
from integration.project import BIN, Outcome, Project

SILENT = """
Match all
  UserKnownHostsFile KNOWN_HOSTS
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  IdentityAgent none
"""


def without_identities(project: Project, machine: Machine) -> None:
    """Let ssh know the machines' host keys, and no identity of the fleet."""
    config = project.write("ssh_config", SILENT.replace("KNOWN_HOSTS", str(machine.known_hosts_file)))
    project.configure(config)


def key_of(project: Project, machine: Machine) -> str:
    """Make the deployment's key of a machine; :returns: the public key."""
    listed = project.run("ansible-inventory", "-i", "example.network.yml", "--host", machine.name)
    path = json.loads(listed.output)["nix_ssh_key"]
    assert Path(path).is_relative_to(project.directory)
    return generate(path, "nix.ops key of the test")


def authorize(machine: Machine, public_key: str) -> None:
    """Let the owner of a key log in to a machine as root, and nobody else."""
    machine.run("cat >/root/.ssh/authorized_keys", stdin=f"{public_key}\n".encode())


def reach(project: Project, machine: Machine) -> Outcome:
    """Run a command on a machine by its ssh."""
    return project.ad_hoc(machine.name, "-i", "example.network.yml", "-m", "raw", "-a", "echo reached by ssh")


def assert_reached(outcome: Outcome) -> None:
    assert outcome.exit_code == 0, outcome.output
    assert "reached by ssh" in outcome.output
    # ssh has nothing to complain of.
    assert "no such identity" not in outcome.output


@pytest.mark.parametrize("more", ["", 'deployment.sshOptions = [ "-o" "LogLevel=INFO" ];'])
def test_the_key_gets_in_where_no_other_does(machine: MachineFactory, project: Project, more: str) -> None:
    target = machine("target")
    Network(project, target, where={"target": more}, source='ssh_keys: "the team\'s 50% {{ keys }}"')
    without_identities(project, target)
    denied = reach(project, target)
    assert denied.exit_code == 4
    assert "Permission denied" in denied.output

    public_key = key_of(project, target)
    assert "Permission denied" in reach(project, target).output
    authorize(target, public_key)
    assert_reached(reach(project, target))


def test_a_configured_identity_gets_in_until_the_key_does(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    Network(project, target)
    key_of(project, target)
    assert_reached(reach(project, target))


def test_a_default_identity_gets_in_until_the_key_does(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    Network(project, target)
    key_of(project, target)
    without_identities(project, target)
    assert "Permission denied" in reach(project, target).output
    home = project.directory / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    shutil.copy(target.identity_file, home / ".ssh" / "id_ed25519")
    done = at_home(project, home, "ansible", "target", "-i", "example.network.yml", "-m", "raw", "-a", "echo reached")
    assert done.returncode == 0, done.stdout
    assert "reached" in done.stdout
    assert "no such identity" not in done.stdout


def at_home(project: Project, home: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's programs where the user's home is another one: ssh does not ask HOME for it."""
    own = f"{pwd.getpwuid(os.getuid()).pw_name}:"
    users = [user for user in Path("/etc/passwd").read_text().splitlines() if not user.startswith(own)]
    file = project.write("passwd", "\n".join([f"{own}x:{os.getuid()}:{os.getgid()}::{home}:/bin/sh", *users, ""]))
    mount = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", str(file), str(BIN / program), *words],
        cwd=project.directory,
        env=project.variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_variable_of_the_user_leads_through_a_jump_host_with_and_without_the_key(
    machine: MachineFactory, project: Project
) -> None:
    jump = machine("jump")
    target = machine("target", jump="jump")
    Network(project, target)
    authorize(target, key_of(project, target))
    without_identities(project, target)
    # There is no way but the one through the jump host.
    assert reach(project, target).exit_code == 4

    through = f"-o ProxyCommand='ssh -F {jump.ssh_config} -W %h:%p jump'"
    project.write("group_vars/all.yml", f"ansible_ssh_common_args: {json.dumps(through)}\n")
    # The way is there, and the key is not offered.
    assert "Permission denied" in reach(project, target).output
    with_key = f"{through} {{{{ nix_ssh_options | default('') }}}}"
    project.write("group_vars/all.yml", f"ansible_ssh_common_args: {json.dumps(with_key)}\n")
    assert_reached(reach(project, target))

    # The same way by a setting instead of a variable needs no word of the key.
    (project.directory / "group_vars" / "all.yml").unlink()
    project.environment["ANSIBLE_SSH_COMMON_ARGS"] = through
    assert_reached(reach(project, target))


def test_a_deployment_goes_by_the_key(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    network = Network(project, target)
    public_key = key_of(project, target)
    authorize(target, public_key)
    without_identities(project, target)
    network.define(f"users.users.root.openssh.authorizedKeys.keys = [ {json.dumps(public_key)} ];")
    # Nix's own connections too.
    network.deployed()
    assert not network.deployed().changed
