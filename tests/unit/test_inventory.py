# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin and its become plugin, through the commands that a user types."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader

from ansible_collections.nix.ops.plugins.plugin_utils.deployment.ssh_keys import generate
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import bounded
from ansible_collections.nix.ops.plugins.plugin_utils.network.source import read_source
from networks.support import ENVIRONMENT, NETWORKS, NIXPKGS, write
from unit.ansible_programs import PROGRAMS, AnsiblePrograms

BIN = Path(sys.executable).parent


class Project:
    """A directory in which a user types commands.

    :param programs: what runs Ansible's programs in the usual environment.
    """

    def __init__(self, directory: Path, programs: AnsiblePrograms) -> None:
        self.directory = directory
        self._programs = programs
        self.env = {
            **usual_environment(),
            "XDG_CACHE_HOME": str(directory / "cache"),
            "XDG_STATE_HOME": str(directory / "state"),
        }

    def run(self, command: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        if command in PROGRAMS and self._programs.fits({**self.env, **env}, self.directory):
            return self._programs.run([command, *arguments], {**self.env, **env}, self.directory)
        return subprocess.run(
            [str(BIN / command), *arguments],
            cwd=self.directory,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
        )

    def source(self, text: str, name: str = "example.network.yml") -> str:
        (self.directory / name).write_text("plugin: nix.ops.network\n" + text, encoding="utf-8")
        return name

    def listed(self, *sources: str) -> dict[str, Any]:
        done = self.run("ansible-inventory", "--list", *(f"-i{source}" for source in sources))
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr
        listing: dict[str, Any] = json.loads(done.stdout)
        return listing

    def hosts(self, *sources: str) -> dict[str, dict[str, Any]]:
        hosts: dict[str, dict[str, Any]] = self.listed(*sources)["_meta"]["hostvars"]
        return hosts

    def refused(self, *sources: str, command: tuple[str, ...] = ("ansible-inventory", "--list")) -> str:
        """Assert that a command refuses the sources; return what it says."""
        done = self.run(*command, *(f"-i{source}" for source in sources))
        assert done.returncode != 0
        assert done.stdout == ""
        return done.stderr


def usual_environment() -> dict[str, str]:
    """The variables that the commands have."""
    environment = {
        **os.environ,
        **ENVIRONMENT,
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_INVENTORY_ENABLED": "nix.ops.network,host_list,script,auto,yaml,ini",
    }
    environment.pop("ANSIBLE_INVENTORY", None)
    environment.pop("ANSIBLE_SSH_COMMON_ARGS", None)
    return environment


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnsiblePrograms]:
    """What runs Ansible's programs."""
    running = AnsiblePrograms(usual_environment(), tmp_path_factory.mktemp("programs"))
    yield running
    running.close()


@pytest.fixture
def project(tmp_path: Path, programs: AnsiblePrograms) -> Project:
    shutil.copytree(NETWORKS / "example", tmp_path, dirs_exist_ok=True)
    return Project(tmp_path, programs)


EXAMPLE = "files: [target.nix, config.nix]\n"


KNOWING = "{{ lookup('nix.ops.host_key_options', nix_machine | default([])) }}"

# The variables by which host keys are checked.
CHECKING = {
    "ansible_host_key_checking": True,
    "ansible_scp_extra_args": KNOWING + " {{ nix_user_options }}",
    "ansible_sftp_extra_args": KNOWING + " {{ nix_user_options }}",
    "ansible_ssh_extra_args": KNOWING + " {{ nix_user_options }}",
    "nix_user_options": "-o User=root",
    "nix_host_key_options": KNOWING,
}


def test_source_lists_groups_and_variables(project: Project) -> None:
    listing = project.listed(project.source(EXAMPLE))
    groups = {name: group["hosts"] for name, group in listing.items() if "hosts" in group and name != "_meta"}
    assert groups == {"nixos": ["db", "web"], "deployment_example": ["db", "web"], "tag_front_end": ["web"]}
    uuid = listing["_meta"]["hostvars"]["db"]["nix_deployment_uuid"]
    own = {
        **CHECKING,
        "nix_owners": ["ops@example.org"],
        "nix_deployment": "example",
        "nix_deployment_uuid": uuid,
        "nix_network": str(project.directory / "example.network.yml"),
        "nix_enable_rollback": True,
    }
    keys = project.directory / "state" / "nix.ops" / "keys" / uuid
    assert listing["_meta"]["hostvars"] == {
        "db": {
            **own,
            "nix_ssh_key": str(keys / "db"),
            "ansible_host": "db",
            "ansible_port": 2200,
            "nix_machine": "db",
            "nix_tags": [],
        },
        "web": {
            **own,
            "nix_ssh_key": str(keys / "web"),
            "ansible_host": "10.0.0.1",
            "ansible_port": 2222,
            "ansible_user": "deploy",
            "ansible_ssh_common_args": "-o ServerAliveInterval=5",
            "ansible_become": True,
            "ansible_become_method": "sudo",
            "ansible_become_flags": "-H -S -n",
            "nix_machine": "web",
            "nix_tags": ["front-end"],
        },
    }


def test_health_checks_are_a_variable_where_there_are_any(project: Project) -> None:
    write(
        project.directory,
        more="""{ web.deployment.healthChecks = {
          units = [ "nginx" ];
          commands = [ "echo '{{ 1 + 1 }}' | grep -q 1" ];
          http = [ "http://10.0.0.1/{{2+2}}" ];
        }; }""",
    )
    source = project.source("files: [target.nix, config.nix, more.nix]\n")
    shown = project.run("ansible", "all", "-i", source, "-m", "debug", "-a", "var=nix_health_checks")
    answer = json.loads(shown.stdout.split("web | SUCCESS =>", 1)[1].split("\n}\n", 1)[0] + "\n}")
    assert answer["nix_health_checks"] == {
        "units": ["nginx.service"],
        "commands": ["echo '{{ 1 + 1 }}' | grep -q 1"],
        "tcp": [],
        "http": [
            {
                "url": "http://10.0.0.1/{{2+2}}",
                "status": [200],
                "contains": None,
                "headers": {},
                "validate_certs": True,
            }
        ],
        "stable": 3,
        "successes": 1,
        "interval": 1,
        "deadline": 60,
    }
    listed = project.hosts(source)
    assert listed["web"]["nix_health_checks"]["units"] == ["nginx.service"]
    assert "nix_health_checks" not in listed["db"]


def test_user_that_the_network_leaves_open_is_anybody_whom_ansible_names(project: Project) -> None:
    write(project.directory, more='{ own.deployment.targetUser = "root"; }')
    source = project.source("files: [target.nix, config.nix, more.nix]\n")

    def users(*more: str) -> dict[str, str]:
        return {name: host.get("ansible_user", "open") for name, host in project.hosts(source, *more).items()}

    assert users() == {"db": "open", "web": "deploy", "own": "root"}
    for variables in ("all", "nixos", "tag_none", "db"):
        directory = project.directory / ("host_vars" if variables == "db" else "group_vars")
        directory.mkdir(exist_ok=True)
        file = directory / f"{variables}.yml"
        file.write_text("ansible_user: me\n")
        assert users() == {"db": "open" if variables == "tag_none" else "me", "web": "deploy", "own": "root"}, file
        file.unlink()
    # A group of another source, whatever its name.
    (project.directory / "groups.ini").write_text("[app]\ndb\nweb\n[app:vars]\nansible_user=me\n")
    assert users("groups.ini") == {"db": "me", "web": "deploy", "own": "root"}

    done = project.run("ansible-inventory", "--list", "--export", "-i", source)
    exported = json.loads(done.stdout)
    assert "ansible_user" not in exported["deployment_example"]["vars"]
    assert "ansible_user" not in exported["_meta"]["hostvars"]["db"]
    assert exported["_meta"]["hostvars"]["own"]["ansible_user"] == "root"
    grouped = project.source(EXAMPLE + "groups: {roots: \"ansible_user == 'root'\"}\n")
    assert project.listed(grouped)["roots"]["hosts"] == ["db"]


def given_to_ssh(project: Project, host: str, *arguments: str, **env: str) -> list[str]:
    """All words that ssh is given for a host."""
    ssh = project.directory / "ssh"
    ssh.write_text('#!/bin/sh\nprintf "%s\\0" "$@" >"$0.words"\n')
    ssh.chmod(0o755)
    env = {"ANSIBLE_SSH_EXECUTABLE": str(ssh), "ANSIBLE_SSH_ARGS": "-o ControlMaster=no", **env}
    done = project.run("ansible", host, *arguments, "-m", "raw", "-a", "true", **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(f"{ssh}.words").read_text().split("\0")


def ssh_words(project: Project, host: str, *arguments: str, **env: str) -> list[str]:
    """What ssh is given by the variables and settings of a host, from `-o ConnectTimeout` on."""
    words = given_to_ssh(project, host, *arguments, **env)
    return words[words.index("ConnectTimeout=10") + 1 : words.index("10.0.0.1" if host == "web" else host)]


def offered(*paths: str) -> list[str]:
    return [word for path in paths for word in ("-o", f'IdentityFile="{path}"')]


def user(project: Project, host: str, *arguments: str, **env: str) -> str:
    """The user as whom ssh logs in to a host; ssh takes the first."""
    return user_of(given_to_ssh(project, host, *arguments, **env))


def user_of(words: list[str]) -> str:
    return next(value.strip('"') for word in words for name, _equals, value in [word.partition("=")] if name == "User")


@pytest.mark.parametrize("by", ["nothing", "-u", "ansible.cfg", "variable", "play"])
def test_who_logs_in_where_the_network_leaves_it_open(project: Project, by: str) -> None:
    source, told = project.source(EXAMPLE), "root" if by == "nothing" else "me"
    arguments = ["-i", source, *(["-u", "me"] if by == "-u" else [])]
    if by == "variable":
        (project.directory / "group_vars").mkdir()
        (project.directory / "group_vars" / "nixos.yml").write_text("ansible_user: me\n")
    env = {"ANSIBLE_REMOTE_USER": "me"} if by == "ansible.cfg" else {}
    assert user(project, "web", *arguments, **env) == "deploy"
    if by != "play":
        assert user(project, "db", *arguments, **env) == told
        return
    (project.directory / "play.yml").write_text(
        "[{hosts: db, remote_user: me, gather_facts: false, tasks: [{raw: 'true'}]}]"
    )
    done = project.run(
        "ansible-playbook", *arguments, "play.yml", ANSIBLE_SSH_EXECUTABLE=str(project.directory / "ssh")
    )
    assert done.returncode == 0, done.stdout
    assert user_of((project.directory / "ssh.words").read_text().split("\0")) == told


@pytest.fixture
def defaults() -> list[str]:
    """The identities that ssh would offer by itself to whoever runs the tests."""
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    names = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
    return [f"~/.ssh/{name}" for name in names if (home / ".ssh" / name).is_file()]


def test_key_that_exists_is_offered_beside_all_others(project: Project, defaults: list[str]) -> None:
    source = project.source(EXAMPLE + "ssh_keys: keys\n")
    before = project.listed(source)
    assert before["_meta"]["hostvars"]["web"]["nix_ssh_key"] == str(project.directory / "keys" / "web")
    silent = ssh_words(project, "db", "-i", source)

    generate(str(project.directory / "keys" / "web"), "of the test")
    with_options = ["-o", "ServerAliveInterval=5", *offered(f"{project.directory}/keys/web", *defaults)]
    assert ssh_words(project, "web", "-i", source)[: len(with_options)] == with_options
    # A machine without a key is reached as before.
    assert ssh_words(project, "db", "-i", source) == silent
    # And so is a host that only shares the group.
    (project.directory / "more.ini").write_text("[deployment_example]\nextra\n")
    assert ssh_words(project, "extra", "-i", source, "-i", "more.ini") == silent

    generate(str(project.directory / "keys" / "db"), "of the test")
    key = offered(f"{project.directory}/keys/db", *defaults)
    assert ssh_words(project, "db", "-i", source) == [*key, *silent]


@pytest.mark.parametrize("set_by", ["ansible.cfg", "environment", "command line"])
def test_key_does_not_hide_the_ssh_arguments_that_the_user_has_set(
    project: Project, defaults: list[str], set_by: str
) -> None:
    source = project.source(EXAMPLE + "ssh_keys: keys\n")
    arguments = "-J 'a bastion' -o SetEnv=X={{1}}"
    settings: dict[str, Any] = {"arguments": (), "env": {}}
    if set_by == "ansible.cfg":
        (project.directory / "ansible.cfg").write_text(f"[ssh_connection]\nssh_common_args = {arguments}\n")
    elif set_by == "environment":
        settings["env"] = {"ANSIBLE_SSH_COMMON_ARGS": arguments}
    else:
        settings["arguments"] = (f"--ssh-common-args={arguments}",)

    def words(host: str) -> list[str]:
        return ssh_words(project, host, "-i", source, *settings["arguments"], **settings["env"])

    silent = words("db")
    assert silent[:4] == ["-J", "a bastion", "-o", "SetEnv=X={{1}}"]
    generate(str(project.directory / "keys" / "web"), "of the test")
    assert words("db") == silent
    generate(str(project.directory / "keys" / "db"), "of the test")
    assert words("db") == [*silent[:4], *offered(f"{project.directory}/keys/db", *defaults), *silent[4:]]


@pytest.mark.parametrize("place", ["group_vars/all.yml", "group_vars/nixos.yml", "host_vars/db.yml"])
def test_variable_of_the_user_wins_over_the_key_and_can_add_it(
    project: Project, defaults: list[str], place: str
) -> None:
    source = project.source(EXAMPLE + "ssh_keys: keys\n")
    generate(str(project.directory / "keys" / "db"), "of the test")
    variables = project.directory / place
    variables.parent.mkdir()
    variables.write_text("ansible_ssh_common_args: -J bastion\n")
    words = ssh_words(project, "db", "-i", source)
    assert words[:2] == ["-J", "bastion"]
    assert "IdentityFile" not in " ".join(words)
    variables.write_text("ansible_ssh_common_args: \"-J bastion {{ nix_ssh_options | default('') }}\"\n")
    key = offered(f"{project.directory}/keys/db", *defaults)
    assert ssh_words(project, "db", "-i", source) == [*words[:2], *key, *words[2:]]


def test_path_of_a_key_may_have_any_characters_that_ssh_can_be_given(project: Project) -> None:
    directory = 'it\'s "50%" {{ 1 + 1 }} #\\ ~ ü $x %h'
    source = project.source(EXAMPLE + "ssh_keys: " + json.dumps(directory) + "\n")
    key = project.directory / directory / "db"
    generate(str(key), "of the test")
    word = ssh_words(project, "db", "-i", source)[1]
    assert word.startswith("IdentityFile=")
    # As ssh itself reads it, and as it names the file that it opens.
    tried = subprocess.run(
        ["ssh", "-v", "-F", "none", "-o", word, "-o", "ProxyCommand=false", "db"],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert f"identity file {key} type " in tried.replace("\\\\", "\\").replace("\\303\\274", "ü")


HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/SRUF+KGih1r9Eqkp5VAQU9+Zv/IWKrBVBXhmt6JKX"
OFF = "StrictHostKeyChecking=no"


def all_words(project: Project, *arguments: str, **env: str) -> list[str]:
    """All words that ssh is given for the machine db."""
    return given_to_ssh(project, "db", *arguments, **env)


def test_host_keys_are_checked_unless_a_variable_says_otherwise(project: Project) -> None:
    source = project.source(EXAMPLE)
    assert OFF not in all_words(project, "-i", source, ANSIBLE_HOST_KEY_CHECKING="False")
    (project.directory / "ansible.cfg").write_text("[defaults]\nhost_key_checking = false\n")
    assert OFF not in all_words(project, "-i", source)
    assert OFF in all_words(project, "-i", source, "-e", "ansible_host_key_checking=false")
    for place in ("group_vars/all.yml", "group_vars/nixos.yml", "host_vars/db.yml"):
        file = project.directory / place
        file.parent.mkdir(exist_ok=True)
        file.write_text("ansible_host_key_checking: false\n")
        assert OFF in all_words(project, "-i", source), place
        file.unlink()
    # A host that is not of a network.
    (project.directory / "more.ini").write_text("db\n")
    assert OFF in all_words(project, "-i", "more.ini")


def test_ssh_knows_the_host_keys_of_the_network_after_the_options_of_the_user(project: Project) -> None:
    write(project.directory, more=f'{{ db.deployment.sshHostKeys = [ "{HOST_KEY} root@db\\n" ]; }}')
    source = project.source("files: [target.nix, config.nix, more.nix]\n")
    (project.directory / "group_vars").mkdir()
    (project.directory / "group_vars/nixos.yml").write_text("ansible_ssh_common_args: -J bastion\n")
    words = ssh_words(project, "db", "-i", source, "--ssh-extra-args=-4")
    [known] = [word for word in words if word.startswith("KnownHostsCommand=")]
    assert HOST_KEY in known
    assert words.index("-J") < words.index("-4") < words.index(known)
    assert not any("KnownHostsCommand" in word for word in ssh_words(project, "web", "-i", source))
    lines = f"other,[10.0.0.1]:2222 {HOST_KEY}\nweb2 ssh-ed25519 AAAA\n"
    told = ssh_words(project, "web", "-i", source, "-e", json.dumps({"deploy_known_hosts": lines}))
    assert any("KnownHostsCommand" in word and HOST_KEY in word for word in told)


def test_host_key_that_is_not_a_public_key_is_refused_unseen(project: Project) -> None:
    write(project.directory, more='{ db.deployment.sshHostKeys = [ "PRIVATE" ]; }')
    source = project.source("files: [target.nix, config.nix, more.nix]\n")
    done = project.run("ansible-inventory", "--list", "-i", source)
    assert "deployment.sshHostKeys is not a list of public keys, each in one line" in done.stderr
    assert "PRIVATE" not in done.stdout + done.stderr


def test_machine_that_shall_have_no_key_has_none(project: Project) -> None:
    write(project.directory, more="{ own.deployment.provisionSSHKey = false; }")
    source = project.source("files: [target.nix, config.nix, more.nix]\nssh_keys: keys\n")
    generate(str(project.directory / "keys" / "own"), "of the test")
    hosts = project.hosts(source)
    assert {"nix_ssh_key", "nix_ssh_options", "ansible_ssh_common_args"}.isdisjoint(hosts["own"])
    assert "nix_ssh_key" in hosts["db"]


def test_export_without_keys_has_nothing_of_them_but_their_paths(project: Project) -> None:
    source = project.source(EXAMPLE)
    export = ("ansible-inventory", "--list", "--export", "-i", source)
    exported = json.loads(project.run(*export, ANSIBLE_SSH_COMMON_ARGS="-J bastion").stdout)
    assert exported["deployment_example"]["vars"] == {
        **CHECKING,
        "ansible_group_priority": 0,
    }
    assert [name for name in exported["_meta"]["hostvars"]["db"] if "ssh" in name] == ["nix_ssh_key"]

    # Kept elsewhere, as in a database, an inventory with keys works as well.
    generate(exported["_meta"]["hostvars"]["db"]["nix_ssh_key"], "of the test")
    (project.directory / "kept.json").write_text(project.run(*export).stdout)
    script = project.directory / "kept"
    script.write_text("#!/bin/sh\ncat kept.json\n")
    script.chmod(0o755)
    assert ssh_words(project, "db", "-i", "kept") == ssh_words(project, "db", "-i", source)


def test_inputs_of_the_last_build_are_a_guess_that_spares_an_evaluation(project: Project) -> None:
    source = project.source(EXAMPLE)
    runs = counted(project)
    inputs = {"web": {"state_version": "22.11"}, "db": {"ssh_public_key": "ssh-ed25519 " + "A" * 68 + " of db"}}
    task = {"network": [source], "machines": ["db", "web"], "remembered": inputs, "dry_run": True}

    def play(task: dict[str, Any]) -> None:
        tasks = [{"nix.ops.nix_build": task}]
        plays = [{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]
        (project.directory / "build.yml").write_text(json.dumps(plays))

    play(task)

    def build(*arguments: str) -> int:
        wait_a_tick()
        before = runs()
        done = project.run("ansible-playbook", "-i", source, "build.yml", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return runs() - before

    def change(old: str, new: str) -> None:
        for name in ("target.nix", "config.nix"):
            file = project.directory / name
            file.write_text(file.read_text().replace(old, new))

    # The inventory has never heard of the inputs.
    assert build() == 2
    # Now only the inventory asks Nix.
    assert build("--flush-cache") == 1
    change("10.0.0.1", "10.0.0.9")
    assert build() == 1
    assert build() == 0
    # A wrong guess costs one evaluation more, a machine that has left the network no other one later.
    change("web", "www")
    play({**task, "machines": ["db", "www"], "remembered": {"db": inputs["db"], "www": inputs["web"]}})
    assert build() == 2
    change("10.0.0.9", "10.0.0.1")
    assert build() == 1


def wait_a_tick() -> None:
    """Wait until what was just written is certain to be older than the next evaluation, which is not kept otherwise."""
    written = time.time()
    while time.time() < written + 2 * bounded._TICK:
        time.sleep(bounded._TICK)


def counted(project: Project) -> Callable[[], int]:
    """Count from now on how often Nix answers. Before an answer it may have to be allowed to read more."""
    nix = shutil.which("nix-instantiate")
    # Hidden, or the count would be a change of the network's directory.
    tools = project.directory / ".tools"
    tools.mkdir()
    counting = tools / "nix-instantiate"
    counting.write_text(f'#!/bin/sh\n{nix} "$@" && echo run >>"{tools}/runs"\n')
    counting.chmod(0o755)
    project.env["PATH"] = f"{tools}:{project.env['PATH']}"
    (tools / "runs").touch()
    return lambda: len((tools / "runs").read_text().splitlines())


def test_graph(project: Project) -> None:
    done = project.run("ansible-inventory", "--graph", "-i", project.source(EXAMPLE))
    assert done.stdout.splitlines() == [
        "@all:",
        "  |--@ungrouped:",
        "  |--@nixos:",
        "  |  |--db",
        "  |  |--web",
        "  |--@deployment_example:",
        "  |  |--db",
        "  |  |--web",
        "  |--@tag_front_end:",
        "  |  |--web",
    ]


def test_source_needs_no_settings(project: Project) -> None:
    del project.env["ANSIBLE_INVENTORY_ENABLED"]
    assert set(project.hosts(project.source(EXAMPLE))) == {"web", "db"}


def test_uuid_is_the_given_one_or_the_name_s(project: Project) -> None:
    given = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
    assert project.hosts(project.source(EXAMPLE + f"uuid: {given}\n"))["db"]["nix_deployment_uuid"] == given
    derived = project.hosts(project.source(EXAMPLE))["db"]["nix_deployment_uuid"]
    assert read_source(str(project.directory / "example.network.yml"), DataLoader().load_from_file).uuid == derived
    other = project.hosts(project.source(EXAMPLE + "name: other\n"))["db"]
    assert other["nix_deployment"] == "other"
    assert other["nix_deployment_uuid"] != derived


def test_source_is_the_same_network_to_the_inventory_and_to_a_build(project: Project) -> None:
    source = project.source("files: target.nix, config.nix\nnix_path: a=./b\n")
    assert set(project.hosts(source)) == {"web", "db"}
    network = read_source(str(project.directory / source), DataLoader().load_from_file)
    assert network.files == tuple(str(project.directory / name) for name in ("target.nix", "config.nix"))
    assert network.nix_path == (f"a={project.directory}/b",)


def test_single_file_is_a_network(project: Project) -> None:
    hosts = project.hosts("target.nix")
    assert set(hosts) == {"web", "db"}
    assert hosts["db"]["nix_deployment"] == "target"
    assert hosts["db"]["nix_network"] == str(project.directory / "target.nix")


def test_part_of_a_network_is_refused(project: Project) -> None:
    project.source(EXAMPLE + "arguments:\n  secret: !vault x\n")
    said = project.refused("target.nix")
    assert "example.network.yml names" in said
    assert "Next: Use -i" in said


def test_directory_counts_sources_alone(project: Project) -> None:
    project.source(EXAMPLE)
    (project.directory / "cache").mkdir()
    directory = project.directory / "sources"
    directory.mkdir()
    for name in ("example.network.yml", "target.nix", "config.nix"):
        (project.directory / name).rename(directory / name)
    assert set(project.hosts("sources")) == {"web", "db"}


def test_constructed_groups_and_host_names(project: Project) -> None:
    listing = project.listed(
        project.source(
            EXAMPLE
            + 'hostname: "{{ nix_machine }}.{{ nix_deployment }}"\n'
            + "strict: true\n"
            + 'compose: {next_port: "ansible_port + 1"}\n'
            + "groups: {deployers: \"ansible_user == 'deploy'\"}\n"
            + "keyed_groups: [{key: nix_tags, prefix: role}]\n"
        )
    )
    assert listing["_meta"]["hostvars"]["web.example"]["next_port"] == 2223
    assert listing["deployers"]["hosts"] == listing["role_front_end"]["hosts"] == ["web.example"]
    assert listing["nixos"]["hosts"] == ["db.example", "web.example"]


def test_arguments_and_paths_start_from_the_source(project: Project) -> None:
    shutil.copy(NETWORKS / "function.nix", project.directory)
    below = project.directory / "below"
    below.mkdir()
    (project.directory / "pkgs").symlink_to(NIXPKGS)
    project.env.pop("NIX_PATH")
    project.source(
        "files: [../function.nix]\nnix_path: [nixpkgs=../pkgs]\narguments: {tag: 'a b', port: 2022}\n"
        "options: {max-call-depth: 9999, show-trace: true}\n",
        "below/example.network.yml",
    )
    host = project.hosts("below/example.network.yml")["machine"]
    assert (host["ansible_port"], host["nix_tags"]) == (2022, ["a b"])


def test_vaulted_argument(project: Project) -> None:
    shutil.copy(NETWORKS / "function.nix", project.directory)
    (project.directory / "password").write_text("open sesame\n")
    vaulted = project.run(
        "ansible-vault", "encrypt_string", "--vault-password-file", "password", "--name", "  tag", "hidden"
    ).stdout
    source = project.source(f"files: [function.nix]\narguments:\n{vaulted}\n")
    done = project.run("ansible-inventory", "-i", source, "--host", "machine", "--vault-password-file", "password")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["nix_tags"] == ["hidden"]


def test_flake(project: Project) -> None:
    shutil.copytree(NETWORKS / "flake", project.directory / "flake")
    host = project.hosts(project.source("flake: ./flake\n"))["web"]
    assert (host["ansible_host"], host["ansible_port"], host["nix_deployment"]) == ("web", 2222, "example")


def test_values_from_nix_are_never_templated(project: Project) -> None:
    write(
        project.directory,
        config="""{ web.deployment = {
          tags = [ "{{ 1 + 1 }}" ];
          sshOptions = [ "-oProxyCommand=echo '{{ 1 + 1 }}' $(touch x) \\"q\\"" ];
        }; }""",
    )
    source = project.source(EXAMPLE)
    said = project.run(
        "ansible",
        "web",
        "-i",
        source,
        "-m",
        "ansible.builtin.debug",
        "-a",
        "msg={{ ansible_ssh_common_args }}{{ nix_tags }}",
    )
    assert said.returncode == 0, said.stderr
    message = json.loads(said.stdout.split("=>", 1)[1])["msg"]
    assert message.count("{{ 1 + 1 }}") == 2
    words = shlex.split(message.rsplit("[", 1)[0])
    assert "-oProxyCommand=echo '{{ 1 + 1 }}' $(touch x) \"q\"" in words


@pytest.mark.parametrize(
    "command",
    [
        ("ansible-inventory", "--list"),
        ("ansible-inventory", "--graph"),
        ("ansible", "all", "-m", "ansible.builtin.debug"),
        ("ansible-playbook", "play.yml"),
    ],
)
def test_error_is_shown_as_nix_shows_it_and_ends_every_command(project: Project, command: tuple[str, ...]) -> None:
    write(project.directory, config="{\n  web = {\n    oops;\n  };\n}\n")
    (project.directory / "play.yml").write_text("- hosts: localhost\n  gather_facts: false\n  tasks: []\n")
    for sources in ((project.source(EXAMPLE),), (project.source(EXAMPLE), "localhost,")):
        said = project.refused(*sources, command=command)
        assert f"{project.directory}/config.nix:3:" in said
        assert "\n            3|     oops;\n" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("files: [none.nix]\n", "none.nix"),
        ("", "needs either files or a flake"),
        (EXAMPLE + "flake: .\n", "needs either files or a flake"),
        (EXAMPLE + "uuid: x\n", "uuid is not a UUID"),
        (EXAMPLE + "name: 'a b'\n", "is not a valid name of a deployment"),
        (EXAMPLE + f"name: {'a' * 300}\n", "is not a valid name of a deployment"),
        (
            EXAMPLE + "argument: {}\n",
            "there is no option 'argument'\nState: nothing was evaluated\nNext: Write 'arguments'",
        ),
        (EXAMPLE + "Fiels: []\n", "Next: Write 'files' for 'Fiels'."),
        (EXAMPLE + "zzz: {}\n", "Next: Use one of these: arguments, compose,"),
        (EXAMPLE + "options: {max-job: 1}\n", "Next: Write 'max-jobs' for 'max-job'."),
        (EXAMPLE + "hostname: same\n", "'same' of machine 'web' is already taken"),
        (EXAMPLE + "hostname: 'a {{ nix_machine }}'\n", "is not a valid name of a host"),
        (
            EXAMPLE + "hostname: \"{{ 'nixos' if nix_machine == 'db' else 'x' }}\"\n",
            "'nixos' is the name of a host and of a group",
        ),
        (EXAMPLE + "hostname: '{{ nowhere }}'\n", "nowhere"),
        ("files: [directory]\n", "directory"),
        ("files: [binary.nix]\n", "binary.nix"),
        (EXAMPLE + "name: '$(touch pwned)'\n", "is not a valid name of a deployment"),
        (EXAMPLE + "options: {'-x': y}\n", "can't be set in a source"),
    ],
)
def test_bad_source_is_never_an_empty_inventory(project: Project, text: str, said: str) -> None:
    (project.directory / "directory").mkdir()
    (project.directory / "binary.nix").write_bytes(bytes(range(256)))
    source = project.source(text)
    told = project.refused(source)
    assert said in told
    assert str(project.directory / source) in told
    assert "Traceback" not in told


def test_bad_single_file_is_not_left_to_another_plugin(project: Project) -> None:
    (project.directory / "words.nix").write_text("one\ntwo\n")
    assert "words.nix" in project.refused("words.nix")


def test_host_of_another_source_is_not_taken_over(project: Project) -> None:
    first, second = project.source(EXAMPLE), project.source(EXAMPLE, "second.network.yml")
    said = project.refused(first, second)
    assert "the host name 'db' of machine 'db' is already taken, by" in said
    assert first in said
    assert len(project.hosts(first, project.source(EXAMPLE + "hostname: 's-{{ nix_machine }}'\n", second))) == 4


def test_remembered_network_asks_nix_no_more(project: Project) -> None:
    source = project.source(EXAMPLE)
    runs = counted(project)
    wait_a_tick()
    project.hosts(source)
    before = runs()
    assert project.hosts(source) == project.hosts(source)
    assert runs() == before
    config = project.directory / "target.nix"
    config.write_text(config.read_text().replace("10.0.0.1", "10.0.0.9"))
    assert project.hosts(source)["web"]["ansible_host"] == "10.0.0.9"
    assert runs() == before + 1
    project.run("ansible-inventory", "--list", "-i", source, "--flush-cache")
    project.source(EXAMPLE + "remember: false\n")
    project.hosts(source)
    assert runs() > before + 1


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        (["sudo", "-H", "--"], {"ansible_become_method": "sudo", "ansible_become_flags": "-H -S -n"}),
        (["sudo", "-n", "-E"], {"ansible_become_method": "sudo", "ansible_become_flags": "-n -E -S"}),
        (["sudo"], {"ansible_become_method": "sudo", "ansible_become_flags": "-S -n"}),
        (["sudo", "-u", "root"], None),
        (["/opt/sudo", "-H"], None),
        (["sudo", "$(x)"], None),
        (["doas", "-n", "--"], None),
    ],
)
def test_privilege_escalation_command(project: Project, command: list[str], variables: dict[str, str] | None) -> None:
    quoted = " ".join(json.dumps(word).replace("$", "\\$") for word in command)
    write(project.directory, config=f"{{ web.deployment.privilegeEscalationCommand = [ {quoted} ]; }}")
    host = project.hosts(project.source(EXAMPLE))["web"]
    own = {"ansible_become_method": "nix.ops.command", "nix_privilege_escalation_command": command}
    expected = variables or own
    assert host["ansible_become"] is True
    assert {name: host[name] for name in expected} == expected


def test_any_command_becomes_root_word_by_word(project: Project) -> None:
    script = project.directory / "be root.sh"
    script.write_text('#!/bin/sh\nprintf "<%s>" "$1" "$2" >"$0.seen"\nshift 2\nexec "$@"\n')
    script.chmod(0o755)
    words = [str(script), "it's $(touch x) {{ 1 + 1 }}", "--"]
    quoted = " ".join(json.dumps(word).replace("$", "\\$") for word in words)
    write(project.directory, config=f"{{ web.deployment.privilegeEscalationCommand = [ {quoted} ]; }}")
    # The tests' user may be root already.
    project.env["ANSIBLE_BECOME_ALLOW_SAME_USER"] = "1"
    source = project.source(EXAMPLE)
    said = project.run("ansible", "web", "-i", source, "-c", "local", "-m", "raw", "-a", "echo become")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "become" in said.stdout
    assert Path(f"{script}.seen").read_text() == "<it's $(touch x) {{ 1 + 1 }}><-->"
    refused = project.run(
        "ansible", "web", "-i", source, "-c", "local", "--become-user", "other", "-m", "raw", "-a", "id"
    )
    assert refused.returncode != 0
    assert "become_user is 'other'" in refused.stdout + refused.stderr


@pytest.mark.parametrize("name", ["x.yml", "none.network.yml", "none.nix"])
def test_what_is_no_network_is_not_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(OpsError):
        read_source(str(tmp_path / name), DataLoader().load_from_file)


def test_source_that_only_groups_hosts_may_come_first(project: Project) -> None:
    (project.directory / "inventory").mkdir()
    (project.directory / "inventory" / "01-groups.ini").write_text("[app]\nweb\ndb\n[app:vars]\nansible_user=me\n")
    project.source("files: [../target.nix, ../config.nix]\n", "inventory/02-example.network.yml")
    listed = project.listed("inventory")
    assert listed["app"]["hosts"] == ["web", "db"]
    hosts = listed["_meta"]["hostvars"]
    assert {name: host["ansible_user"] for name, host in hosts.items()} == {"web": "deploy", "db": "me"}
    assert (hosts["web"]["ansible_host"], hosts["db"]["nix_machine"]) == ("10.0.0.1", "db")


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ({"prod-eu": "a", "prod.eu": "b"}, "the deployments 'prod-eu' and 'prod.eu' would be the same group"),
        ({"one": "tagged"}, "the tags 'a b' and 'a-b' would be the same group, tag_a_b"),
        ({"one": "b", "two": "other"}, "the tags 'x-y' and 'x.y' would be the same group, tag_x_y"),
    ],
)
def test_names_that_would_share_a_group_are_refused(project: Project, sources: dict[str, str], said: str) -> None:
    write(
        project.directory,
        a="{ a = { }; }",
        b='{ b.deployment.tags = [ "x-y" ]; }',
        other='{ o.deployment.tags = [ "x.y" ]; }',
        tagged='{ t.deployment.tags = [ "a b" "a-b" ]; }',
    )
    given = [project.source(f"files: [{file}.nix]\n", f"{name}.network.yml") for name, file in sources.items()]
    assert said in project.refused(*given)


def test_port_and_user_that_the_network_leaves_open_are_those_of_ssh(project: Project) -> None:
    write(
        project.directory,
        n="""{
          a.deployment.targetHost = "edge";
          b.deployment = { targetHost = "edge"; targetUser = "root"; targetPort = 22; };
          c.deployment.targetHost = "elsewhere";
          d.deployment = { targetHost = "rooted"; };
          e.deployment = { targetHost = "edge"; sshOptions = [ "-F" (toString ./of-the-network) ]; };
        }""",
    )
    # Who lists a network runs no program of it.
    mark = project.directory / "ran"
    (project.directory / "of-the-network").write_text(f'Match exec "touch {mark}"\n  User stranger\n')
    (project.directory / "more").write_text("Host edge\n  User deploy\n  Port 2299\nMatch host rooted\n  user=root\n")
    (project.directory / "config").write_text(f"Include {project.directory}/more\n")
    env = {"ANSIBLE_SSH_ARGS": f"-F {project.directory}/config"}
    done = project.run("ansible-inventory", "--list", f"-i{project.source('files: [n.nix]' + chr(10))}", **env)
    hosts = json.loads(done.stdout)["_meta"]["hostvars"]
    names = ("nix_ssh_user", "ansible_port", "ansible_become")
    assert {name: tuple(host.get(one) for one in names) for name, host in hosts.items()} == {
        "a": ("deploy", None, True),
        "b": (None, 22, None),
        "c": (None, None, None),
        "d": ("root", None, None),
        "e": ("deploy", None, True),
    }
    assert not mark.exists()
    expected = {"a": "deploy", "b": "root", "c": "root", "d": "root", "e": "deploy"}
    ssh = {"ANSIBLE_SSH_ARGS": f"-o ControlMaster=no {env['ANSIBLE_SSH_ARGS']}"}
    assert {name: user(project, name, "-iexample.network.yml", **ssh) for name in expected} == expected
    # The user's own variables win.
    (project.directory / "group_vars").mkdir()
    (project.directory / "group_vars" / "all.yml").write_text("ansible_user: me\n")
    done = project.run("ansible-inventory", "--host", "a", "-iexample.network.yml", **env)
    assert json.loads(done.stdout)["ansible_user"] == "me"


@pytest.mark.parametrize("by", ["extra variables", "group_vars"])
def test_connection_variables_of_all_hosts_do_not_reach_the_build_on_the_controller(project: Project, by: str) -> None:
    write(project.directory, n="{ a = { }; }")
    source = project.source("files: [n.nix]\n")
    plays = [{"hosts": "a", "gather_facts": False, "tasks": [{"import_role": {"name": "nix.ops.build"}}]}]
    (project.directory / "build.yml").write_text(json.dumps(plays))
    variables = {"ansible_connection": "ssh", "ansible_become": True, "ansible_user": "me", "ansible_port": 1}
    if by == "group_vars":
        (project.directory / "group_vars").mkdir()
        (project.directory / "group_vars" / "all.yml").write_text(json.dumps(variables))
    given = ("-e", json.dumps(variables)) if by == "extra variables" else ()
    env = {"ANSIBLE_SSH_EXECUTABLE": "/bin/false", "NIX_CONFIG": os.environ["NIX_CONFIG"]}
    done = project.run("ansible-playbook", "-i", source, "build.yml", *given, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    (link,) = (project.directory / "state" / "nix.ops" / "toplevels").glob("*/a")
    assert os.readlink(link).startswith("/nix/store/")


RAW = ("ansible", "web,other", "-m", "debug", "-a", "msg={{ ansible_host }}")


def test_network_that_no_longer_evaluates_stops_no_report(project: Project) -> None:
    write(project.directory, other='{ other.deployment.targetHost = "192.0.2.9"; }')
    broken, other = project.source(EXAMPLE), project.source("files: [other.nix]\n", "other.network.yml")
    sources = ("-i", broken, "-i", other)
    project.hosts(broken)
    (project.directory / "config.nix").write_text("{ web = ; }")
    env = {"ANSIBLE_CACHE_PLUGIN": "memory"}

    done = project.run(*RAW, *sources, **env)
    assert done.returncode == 0, done.stderr
    assert '"msg": "10.0.0.1"' in done.stdout and '"msg": "192.0.2.9"' in done.stdout
    assert "syntax error" in done.stderr
    assert "This run uses the definitions of example from 20" in done.stderr

    done = project.run("ansible-playbook", "nix.ops.list", *sources, **env)
    assert done.returncode == 0, done.stderr
    assert "| other " in done.stdout and "| example " in done.stdout
    assert "syntax error" in done.stderr
    info = ("ansible-playbook", "nix.ops.info", *sources, "-e", "info_ask=false")
    done = project.run(*info, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\| web +\| does not evaluate \| none \| 10\.0\.0\.1:2222", done.stdout, re.MULTILINE)
    assert re.search(r"^\| other +\| +New", done.stdout, re.MULTILINE)
    assert "The network does not evaluate. Its definitions are those of 20" in done.stdout
    done = project.run(*info, "-e", "info_fail_on=unevaluated", **env)
    assert done.returncode == 2
    assert "example: web is unevaluated." in done.stdout + done.stderr

    for deploy in (("ansible-playbook", "nix.ops.deploy"), ("ansible-playbook", "nix.ops.list", "nix.ops.deploy")):
        done = project.run(*deploy, *sources, **env)
        assert (done.returncode, "syntax error" in done.stderr) == (4, True)
        assert "This run uses" not in done.stderr
    assert "syntax error" in project.refused(broken, other)


def test_another_network_of_the_same_name_is_never_the_last_good_one(project: Project) -> None:
    write(project.directory, foreign='{ web.deployment.targetHost = "192.0.2.66"; }', config="{ web = ; }")
    same = "name: example\nuuid: 9e8652aa-e64a-11f1-b7ab-02fc00000001\n"
    project.hosts(project.source(f"{same}files: [foreign.nix]\n", "foreign.network.yml"))
    done = project.run(*RAW, "-i", project.source(f"{same}files: [config.nix]\n"))
    assert "192.0.2.66" not in done.stdout
    assert (done.returncode, "This run uses" in done.stderr) == (4, False)


@pytest.mark.parametrize("wrong", ["files: [config.nix]\n", "files: [\n"])
def test_network_that_never_evaluated_stops_no_report_of_the_others(project: Project, wrong: str) -> None:
    write(project.directory, other='{ other.deployment.targetHost = "192.0.2.9"; }', config="{ web = ; }")
    sources = ("-i", project.source(wrong), "-i", project.source("files: [other.nix]\n", "other.network.yml"))
    done = project.run(*RAW, *sources)
    assert (done.returncode, '"msg": "192.0.2.9"' in done.stdout) == (0, True), done.stderr
    assert "The machines of this network are missing in this run." in done.stderr
    done = project.run("ansible-playbook", "nix.ops.list", *sources, ANSIBLE_CACHE_PLUGIN="memory")
    assert (done.returncode, "| other " in done.stdout, "| example " in done.stdout) == (0, True, True)
    assert project.run(*RAW, "-i", "example.network.yml").returncode == 4
    # Without its machines there is nothing to check.
    assert project.run("ansible-playbook", "nix.ops.check", "-i", "example.network.yml").returncode == 4
