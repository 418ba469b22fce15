# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin and its become plugin, through the commands that a user types."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network_source import read_source
from networks.support import ENVIRONMENT, NETWORKS, NIXPKGS, write

BIN = Path(sys.executable).parent


class Project:
    """A directory in which a user types commands."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env = {
            **os.environ,
            **ENVIRONMENT,
            "XDG_CACHE_HOME": str(directory / "cache"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_INVENTORY_ENABLED": "nix.ops.network,host_list,script,auto,yaml,ini",
        }
        self.env.pop("ANSIBLE_INVENTORY", None)

    def run(self, command: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
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


@pytest.fixture
def project(tmp_path: Path) -> Project:
    shutil.copytree(NETWORKS / "example", tmp_path, dirs_exist_ok=True)
    return Project(tmp_path)


EXAMPLE = "files: [target.nix, config.nix]\n"


def test_source_lists_groups_and_variables(project: Project) -> None:
    listing = project.listed(project.source(EXAMPLE))
    groups = {name: group["hosts"] for name, group in listing.items() if "hosts" in group and name != "_meta"}
    assert groups == {"nixos": ["db", "web"], "deployment_example": ["db", "web"], "tag_front_end": ["web"]}
    uuid = listing["_meta"]["hostvars"]["db"]["nix_deployment_uuid"]
    own = {
        "nix_deployment": "example",
        "nix_deployment_uuid": uuid,
        "nix_network": str(project.directory / "example.network.yml"),
    }
    assert listing["_meta"]["hostvars"] == {
        "db": {
            **own,
            "ansible_host": "db",
            "ansible_port": 2200,
            "ansible_user": "root",
            "nix_machine": "db",
            "nix_tags": [],
        },
        "web": {
            **own,
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


def test_user_that_the_network_leaves_open_is_root_unless_a_variable_names_another(project: Project) -> None:
    write(project.directory, more='{ own.deployment.targetUser = "root"; }')
    source = project.source("files: [target.nix, config.nix, more.nix]\n")

    def users(*more: str) -> dict[str, str]:
        return {name: host["ansible_user"] for name, host in project.hosts(source, *more).items()}

    assert users() == {"db": "root", "web": "deploy", "own": "root"}
    for variables in ("all", "nixos", "tag_none", "db"):
        directory = project.directory / ("host_vars" if variables == "db" else "group_vars")
        directory.mkdir(exist_ok=True)
        file = directory / f"{variables}.yml"
        file.write_text("ansible_user: me\n")
        assert users() == {"db": "root" if variables == "tag_none" else "me", "web": "deploy", "own": "root"}, file
        file.unlink()
    # A group of another source, whatever its name.
    (project.directory / "groups.ini").write_text("[app]\ndb\nweb\n[app:vars]\nansible_user=me\n")
    assert users("groups.ini") == {"db": "me", "web": "deploy", "own": "root"}

    done = project.run("ansible-inventory", "--list", "--export", "-i", source)
    exported = json.loads(done.stdout)
    assert exported["deployment_example"]["vars"]["ansible_user"] == "root"
    assert "ansible_user" not in exported["_meta"]["hostvars"]["db"]
    assert exported["_meta"]["hostvars"]["own"]["ansible_user"] == "root"
    grouped = project.source(EXAMPLE + "groups: {roots: \"ansible_user == 'root'\"}\n")
    assert project.listed(grouped)["roots"]["hosts"] == ["db"]


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
        (EXAMPLE + "uuid: x\n", "uuid is no UUID"),
        (EXAMPLE + "name: 'a b'\n", "can not be a deployment's name"),
        (EXAMPLE + "argument: {}\n", "there is no option 'argument'"),
        (EXAMPLE + "hostname: same\n", "'same' of machine 'web' is already taken"),
        (EXAMPLE + "hostname: 'a {{ nix_machine }}'\n", "can not be a host's name"),
        (
            EXAMPLE + "hostname: \"{{ 'nixos' if nix_machine == 'db' else 'x' }}\"\n",
            "'nixos' is a host's name and a group's",
        ),
        (EXAMPLE + "hostname: '{{ nowhere }}'\n", "nowhere"),
    ],
)
def test_bad_source_is_never_an_empty_inventory(project: Project, text: str, said: str) -> None:
    assert said in project.refused(project.source(text))


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
    nix = shutil.which("nix-instantiate")
    tools = project.directory / "tools"
    tools.mkdir()
    counting = tools / "nix-instantiate"
    counting.write_text(f'#!/bin/sh\necho run >>"{tools}/runs"\nexec {nix} "$@"\n')
    counting.chmod(0o755)
    project.env["PATH"] = f"{tools}:{project.env['PATH']}"

    def runs() -> int:
        return len((tools / "runs").read_text().splitlines())

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
