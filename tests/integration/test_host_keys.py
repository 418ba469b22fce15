# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host keys: known ones are checked whatever the environment says, and no other one is accepted unseen."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.networks import ACTIVATE, INFO, PLAN, Network
from integration.outside import untouched
from integration.project import Outcome, Project

PASSWORD = "secret"
ACCEPT = ("-e", "deploy_accept_new_host_keys=true")
KEY = "/etc/ssh/ssh_host_ed25519_key"

# Asks for the password, and writes it down.
SUDO = r"""#!/bin/sh
while [ $# -gt 0 ]; do
    [ "$1" != -p ] || printf %s "$2" >&2
    shift
done
head -n 1 >>/tmp/given-to-sudo
exit 1
"""


@pytest.fixture
def stranger(project: Project) -> Project:
    """A user whose ssh knows no host of the fleet, and whose variables switch the check off, as ansible-runner does."""
    project.environment["ANSIBLE_HOST_KEY_CHECKING"] = "False"
    return project


def know(project: Project, machine: Machine, *lines: str) -> Path:
    """Let ssh know these hosts alone, by the user's own file; :returns: the file, which is missing without lines."""
    file = project.directory / "known_hosts"
    if lines:
        file.write_text("".join(f"{line}\n" for line in lines))
    config = machine.ssh_config.read_text().replace(str(machine.known_hosts_file), str(file))
    project.configure(project.write("ssh_config", config.replace("  StrictHostKeyChecking yes\n", "")))
    return file


@pytest.fixture
def renewed(machine: MachineFactory) -> Iterator[Machine]:
    """A machine whose host key is another one in the end than the fleet's, until the test is over."""
    target = machine("target")
    yield target
    set_key(target, (target.directory / "host_key").read_bytes())


def set_key(target: Machine, key: bytes) -> None:
    target.run(f"cat >{KEY}; chmod 600 {KEY}; ssh-keygen -y -f {KEY} >{KEY}.pub; systemctl restart sshd", stdin=key)


def new_key(project: Project) -> tuple[bytes, str]:
    """Make a host key; :returns: the private half, and the public one in two words."""
    file = project.directory / "new_host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file], check=True)
    return file.read_bytes(), file.with_suffix(".pub").read_text().strip()


def fingerprint(key: str) -> str:
    """Return the hash that ssh shows of a key."""
    words = ["ssh-keygen", "-lf", "-"]
    return subprocess.run(words, input=key, capture_output=True, text=True, check=True).stdout.split()[1]


def forget_connections(project: Project) -> None:
    """Forget the connections that ssh shares, whose host key was checked when they were opened."""
    shutil.rmtree(project.directory / ".cp", ignore_errors=True)


def refused(run: Outcome, words: str) -> str:
    """A run in which the host key of the target was refused; :returns: the message."""
    assert run.exit_code == 4, run.output
    assert run.statuses(INFO) == {"target": "unreachable"}
    message = str(run.of(INFO)["msg"])
    assert words in message
    assert "State: the running system is untouched" in message
    return message


def test_first_contact_and_a_changed_key(renewed: Machine, stranger: Project) -> None:
    known = know(stranger, renewed)
    network = Network(stranger, renewed)
    with untouched(renewed):
        message = refused(network.deploy(), "its host key is not known")
        assert fingerprint(renewed.host_public_key) in message
        assert " ".join(ACCEPT) in message
        assert not known.exists()
        info = network.deploy(playbook="nix.ops.info")
        assert "| host key unknown |" in info.output
        assert f"-e {ACCEPT[1]}" in info.output.partition("| host key unknown |")[2]

    run = network.deployed(*ACCEPT)
    assert "(ED25519)" in next(line for line in run.lines("target") if line.startswith("its host key was new"))
    forget_connections(stranger)
    again = network.deployed()
    assert not again.changed
    assert "host key" not in again.output
    forget_connections(stranger)
    # Other modules know the key too.
    raw = stranger.ad_hoc("-i", "example.network.yml", "target", "-m", "raw", "-a", "true")
    assert raw.exit_code == 0, raw.output

    private, public = new_key(stranger)
    set_key(renewed, private)
    forget_connections(stranger)
    message = refused(network.deploy(*ACCEPT), "its host key has changed")
    assert fingerprint(public) in message and fingerprint(renewed.host_public_key) in message
    assert "REMOTE HOST IDENTIFICATION" not in message
    [removing] = [words.split(". ")[0] for words in message.split("known: ") if words.startswith("ssh-keygen -R")]
    subprocess.run(removing, shell=True, check=True, cwd=stranger.directory, env=stranger.variables())
    network.deployed(*ACCEPT)
    assert not known.exists()


def test_an_impostor_gets_no_password(machine: MachineFactory, stranger: Project) -> None:
    target = machine("user", user="deploy", sudo_password=PASSWORD)
    public = new_key(stranger)[1]
    # Of the machine that is meant, ssh knows another key than that of who answers.
    file = know(stranger, target, f"{target.address} {public}")
    target.run("cat >/usr/local/bin/sudo; chmod +x /usr/local/bin/sudo", stdin=SUDO.encode())
    where = {"user": 'deployment.targetUser = "deploy";'}
    network = Network(stranger, target, where=where)
    run = network.deploy("-e", f"ansible_become_password={PASSWORD}", "-e", "ansible_become_exe=/usr/local/bin/sudo")
    assert target.run("cat /tmp/given-to-sudo", check=False).stdout == "", run.output
    assert run.exit_code == 4, run.output
    assert f"{file} line 1" in run.of(INFO)["msg"]


def test_keys_of_the_network_are_enough_also_for_a_new_one(renewed: Machine, stranger: Project) -> None:
    known = know(stranger, renewed)
    private, public = new_key(stranger)
    old = renewed.host_public_key
    renewed.run("cat >/root/new_host_key", stdin=private)
    keys = f'deployment.sshHostKeys = [ "{old} target" "{public}" ];'
    network = Network(stranger, renewed, where={"target": keys})
    # sshd is restarted with the new key, and the deploy gets in again.
    network.define(
        f"""
        system.activationScripts.hostKey = "install -m 600 /root/new_host_key {KEY}";
        services.openssh.extraConfig = "LogLevel INFO";
        """
    )
    run = network.deployed()
    assert run.statuses(ACTIVATE) == {"target": "changed"}
    assert run.of(PLAN)["unchecked"] == []
    assert not known.exists()
    seen = subprocess.run(["ssh-keyscan", "-t", "ed25519", renewed.address], capture_output=True, text=True, check=True)
    assert public in seen.stdout

    forget_connections(stranger)
    network.define()
    network.project.write(
        "example-target.nix", (stranger.directory / "example-target.nix").read_text().replace(public, old)
    )
    message = refused(network.deploy(), "its host key has changed")
    assert "deployment.sshHostKeys (ED25519)" in message
    off = network.deploy("--check", "-e", "ansible_host_key_checking=false")
    assert off.exit_code == 0, off.output
    assert off.of(PLAN)["unchecked"] == ["target"]
    assert "Machines whose host key is not checked: target" in off.output
