# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment's key gets in, beside whatever else gets in."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment.ssh_keys import generate
from fleet import Machine
from integration.conftest import MachineFactory
from integration.networks import Network
from integration.outside import processes_of, untouched
from integration.project import BIN, Outcome, Project
from integration.tasks import GATE, close_gate, open_gate, read_until, wait_for

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


@pytest.mark.both_pairs
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


def encrypt(project: Project, machine: Machine, vault_id: str = "team") -> str:
    """Make the deployment's key of a machine and encrypt it, as a team commits it; :returns: the public key."""
    project.write("secret", "a secret of the team\n")
    public_key = key_of(project, machine)
    key = project.directory / "keys" / machine.name
    words = ("encrypt", "--vault-id", f"{vault_id}@secret", "--encrypt-vault-id", vault_id, str(key))
    assert project.run("ansible-vault", *words).exit_code == 0
    # What Git makes of it.
    key.chmod(0o644)
    return public_key


TEAM = ("--vault-id", "team@secret")


@pytest.fixture
def team(machine: MachineFactory, project: Project) -> Network:
    """A network whose machine is reached by an encrypted key of the team, and by nothing else."""
    target = machine("target")
    network = Network(project, target, source="ssh_keys: keys", where={"target": 'deployment.sshOptions = [ "-4" ];'})
    public_key = encrypt(project, target)
    authorize(target, public_key)
    without_identities(project, target)
    keys = f"users.users.root.openssh.authorizedKeys.keys = [ {json.dumps(public_key)} ];"
    network.define(f"{keys} imports = [ {GATE} ];")
    return network


def secret_lines(project: Project) -> list[str]:
    """The lines of the key that the team has encrypted, without those that every key has."""
    shown = subprocess.run(
        [BIN / "ansible-vault", "view", *TEAM, "keys/target"],
        cwd=project.directory,
        env=project.variables(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    # The second line begins as that of any key does.
    return [line for line in shown.splitlines() if "PRIVATE KEY" not in line][2:]


def files_with(directory: Path, lines: list[str]) -> list[str]:
    """The files below a directory that have any of the lines."""
    found = []
    for file in directory.rglob("*"):
        if file.is_file() and any(line.encode() in file.read_bytes() for line in lines):
            found.append(str(file))
    return found


@pytest.mark.both_pairs
def test_an_encrypted_key_deploys_and_is_nowhere_to_be_seen(project: Project, team: Network) -> None:
    [target] = team.machines
    close_gate(target)
    deploying = team.start(*TEAM, "-vvvv")
    seen = read_until(deploying, "before the gate")
    # In the middle of a deploy, from where other users look.
    secret = secret_lines(project)
    assert secret
    lines = processes_of(project).values()
    assert any("/proc/" in line and "IdentityFile" in line for line in lines)
    places = [project.directory, Path("/run/user"), Path("/dev/shm")]
    assert [file for place in places for file in files_with(place, secret)] == []
    open_gate(target)
    # Nix's own connections and the new one that acknowledges go by it as well.
    outcome = project.finish(deploying, seen)
    assert outcome.exit_code == 0, outcome.output
    assert "deployment finished successfully" in outcome.output
    listed = project.run("ansible-inventory", "-i", "example.network.yml", "--list", *TEAM)
    assert not any(line in text for line in secret for text in (outcome.output, listed.output))
    assert files_with(project.directory, secret) == []
    assert not team.deployed(*TEAM).changed


def test_an_encrypted_key_is_gone_with_a_run_that_is_killed(project: Project, team: Network) -> None:
    [target] = team.machines
    close_gate(target)
    deploying = team.start(*TEAM)
    read_until(deploying, "before the gate")
    holders = [process for process in processes_of(project) if keys_held(process)]
    assert holders
    os.killpg(deploying.pid, signal.SIGKILL)
    deploying.wait()
    open_gate(target)
    wait_for(lambda: not any(keys_held(process) for process in [*holders, *processes_of(project)]), "the key is gone")
    assert files_with(project.directory, secret_lines(project)) == []


def keys_held(process: int) -> list[Path]:
    """What a process has open that is a key in its memory."""
    try:
        return [one for one in Path(f"/proc/{process}/fd").iterdir() if "nix-ops-key" in os.readlink(one)]
    except FileNotFoundError:
        return []


def test_without_its_secret_the_message_names_the_vault_id(project: Project, team: Network) -> None:
    [target] = team.machines
    with untouched(target):
        outcome = team.deploy()
    assert outcome.exit_code != 0
    assert "Permission denied" in outcome.output
    assert "it is encrypted with the vault id 'team'" in outcome.output
    assert "--vault-id team@prompt" in outcome.output


def test_without_its_secret_what_else_there_is_gets_in(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    Network(project, target, source="ssh_keys: keys")
    encrypt(project, target)
    assert_reached(reach(project, target))


@contextmanager
def agent(project: Project, machine: Machine) -> Iterator[None]:
    """An agent of the user's with the identity that gets in."""
    socket = project.directory / "agent"
    running = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        wait_for(socket.exists, "the agent is there")
        project.environment["SSH_AUTH_SOCK"] = str(socket)
        subprocess.run(["ssh-add", "-q", machine.identity_file], check=True, env=project.variables())
        yield
    finally:
        running.terminate()
        running.wait()


@pytest.mark.both_pairs
@pytest.mark.parametrize("awx", [False, True])
def test_an_agent_is_enough(machine: MachineFactory, project: Project, awx: bool) -> None:
    target = machine("target")
    network = Network(project, target)
    public_key = subprocess.run(
        ["ssh-keygen", "-y", "-f", target.identity_file], check=True, capture_output=True, text=True
    ).stdout.strip()
    network.define(f"users.users.root.openssh.authorizedKeys.keys = [ {json.dumps(public_key)} ];")
    without_identities(project, target)
    config = project.directory / "ssh_config"
    config.write_text(config.read_text().replace("  IdentityAgent none\n", ""))
    denied = reach(project, target)
    assert "Permission denied" in denied.output
    if awx:
        # A job with a machine credential has its key in an agent, and nothing needs to be set.
        project.environment["AWX_PRIVATE_DATA_DIR"] = str(project.directory / "job")
        project.environment["ANSIBLE_CACHE_PLUGIN_CONNECTION"] = str(project.directory / "kept-facts")
    words = () if awx else ("-e", "deploy_provision=false")
    with agent(project, target):
        network.deployed(*words)
        assert not network.deployed(*words).changed
    assert not (project.directory / "state" / "nix.ops" / "keys").exists()
