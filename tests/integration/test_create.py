# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nix.ops.create, in a directory in which a user begins."""

from __future__ import annotations

import json
import os
import pty
import select
import stat
import subprocess
import time
import uuid

import pytest
import yaml

from integration.project import BIN, NIXPKGS, TESTS, Project

CREATE = "Create the deployment"
TARGET = '{ network.description = "A first network"; target.deployment.targetHost = "%s"; }'
CONFIG = '{ target = { services.openssh.enable = true; system.stateVersion = "24.05"; }; }'
UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
NETWORKS = json.dumps({"networks": ["target.nix", "config.nix"]})


@pytest.fixture
def project(fleet, tmp_path):
    """A user's directory with a network and without any configuration of Ansible."""
    (tmp_path / "home").mkdir()
    project = Project(tmp_path / "work", {"HOME": str(tmp_path / "home")})
    project.environment["ANSIBLE_CONFIG"] = str(tmp_path / "nowhere.cfg")
    project.environment["ANSIBLE_SSH_ARGS"] = f"-F {fleet.directory}/ssh_config -o ControlMaster=no"
    project.write("target.nix", TARGET % "target.example.org")
    project.write("config.nix", CONFIG)
    return project


def files(project):
    """The names in the user's directory, but for what a run of Ansible itself leaves there."""
    return {path.name for path in project.directory.iterdir()} - {"cache", "ansible-home", ".results.jsonl", "state"}


BEFORE = {"target.nix", "config.nix"}


def create(project, *words, name="target", networks=NETWORKS):
    outcome = project.play("nix.ops.create", "-e", f"deployment={name}", "-e", networks, *words)
    assert outcome.exit_code == 0, outcome.output
    return outcome


def refused(project, *words):
    """A creation fails and leaves nothing behind; :returns: its message."""
    before = files(project)
    outcome = project.play("nix.ops.create", *words)
    assert outcome.exit_code == 2, outcome.output
    assert files(project) == before
    return outcome.of(CREATE)["msg"]


@pytest.mark.both_pairs
def test_create_and_deploy_without_options(machine, project):
    target = machine("target")
    project.write("target.nix", TARGET % target.address)
    created = create(project)
    told = created.of(CREATE)
    assert uuid.UUID(told["uuid"]).version == 4
    assert (told["name"], told["machines"], told["description"]) == ("target", ["target"], "A first network")
    assert told["path"] == str(project.directory / "target.network.yml")
    assert told["files"] == [str(project.directory / name) for name in ("target.nix", "config.nix")]
    assert f"created deployment \u2018{told['uuid']}\u2019" in created.lines("target")
    assert files(project) == BEFORE | {"target.network.yml", "ansible.cfg"}
    assert [os.path.basename(path) for path in told["written"]] == ["ansible.cfg", "target.network.yml"]
    assert yaml.safe_load((project.directory / "target.network.yml").read_text()) == {
        "plugin": "nix.ops.network",
        "name": "target",
        "uuid": told["uuid"],
        "files": ["target.nix", "config.nix"],
        "nix_path": [f"nixpkgs={NIXPKGS}"],
    }
    project.write("deploy.yml", "- ansible.builtin.import_playbook: nix.ops.deploy\n")
    deployed = project.play("deploy.yml")
    assert deployed.exit_code == 0, deployed.output
    assert target.inspect()["running"] != target.toplevel
    # The state is kept where the configuration says, and nothing beside the network.
    facts = project.directory / "state/nix.ops/facts" / told["uuid"]
    assert stat.S_IMODE(facts.stat().st_mode) == 0o700
    assert list(facts.iterdir())
    assert files(project) == BEFORE | {"target.network.yml", "ansible.cfg", "deploy.yml"}


def test_second_create_changes_nothing(project):
    told = create(project).of(CREATE)
    written = [project.directory / name for name in ("target.network.yml", "ansible.cfg")]
    before = [(path.stat().st_ino, path.read_text()) for path in written]
    again = create(project)
    assert not again.changed
    assert again.of(CREATE)["uuid"] == told["uuid"]
    [line] = again.lines("target")
    for text in ("\u2018target\u2019 exists already", told["uuid"], "files target.nix, config.nix", told["path"]):
        assert text in line
    other = create(project, "-e", f"uuid={UUID}", networks="networks=target.nix")
    assert other.of(CREATE)["differing"] == ["networks", "uuid"]
    assert "was left as it is" in other.lines("target")[1]
    assert [(path.stat().st_ino, path.read_text()) for path in written] == before


def test_several_deployments_side_by_side(project):
    first = create(project).of(CREATE)
    # Another host name, so that both can be in one inventory.
    project.write("second.nix", '{ other.deployment.targetHost = "other.example.org"; }')
    second = create(project, name="second", networks="networks=second.nix")
    assert second.of(CREATE)["uuid"] != first["uuid"]
    [hint] = second.of(CREATE)["hints"]
    assert "-i second.network.yml" in hint
    assert hint in second.lines("second")
    graph = project.run("ansible-inventory", "-i", "second.network.yml", "--graph")
    assert "other" in graph.output and "target" not in graph.output
    taken = refused(
        project, "-e", "deployment=third", "-e", "networks=second.nix", "-e", f"uuid={second.of(CREATE)['uuid']}"
    )
    assert "\u2018second\u2019" in taken


def test_configuration_that_is_there_is_left_alone(project):
    # Where this variable is not set, Ansible takes the one of the directory.
    del project.environment["ANSIBLE_CONFIG"]
    project.configure(fact_caching_timeout="60")
    text = (project.directory / "ansible.cfg").read_text()
    told = create(project)
    assert (project.directory / "ansible.cfg").read_text() == text
    assert told.of(CREATE)["hints"][1:] == [
        "[defaults]",
        "inventory = target.network.yml",
        "fact_caching_timeout = 0",
        "[inventory]",
        "enable_plugins = nix.ops.network, host_list, script, auto, yaml, ini, toml",
        "any_unparsed_is_failed = true",
    ]
    assert told.lines("target")[-6:] == told.of(CREATE)["hints"][1:]


@pytest.mark.both_pairs
def test_configuration_that_ansible_would_ignore(project):
    project.directory.chmod(0o777)
    told = create(project).of(CREATE)
    assert "ansible.cfg" not in files(project)
    assert "Ansible would ignore an ansible.cfg there" in told["hints"][0]


def test_two_in_one_run(project):
    project.write("second.nix", '{ other.deployment.targetHost = "other.example.org"; }')
    tasks = [
        {"name": name, "nix.ops.deployment_create": {"deployment": name, "networks": files_}}
        for name, files_ in (("first", ["target.nix", "config.nix"]), ("second", ["second.nix"]))
    ]
    project.write("site.yml", json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    outcome = project.play("site.yml")
    assert outcome.exit_code == 0, outcome.output
    assert [os.path.basename(path) for path in outcome.of("first")["written"]] == ["ansible.cfg", "first.network.yml"]
    [hint] = outcome.of("second")["hints"]
    assert "-i second.network.yml" in hint


def test_configuration_of_another_place_is_not_hidden(project, tmp_path):
    (tmp_path / "home/.ansible.cfg").write_text("[defaults]\nfact_caching = ansible.builtin.jsonfile\n")
    told = create(project).of(CREATE)
    assert "ansible.cfg" not in files(project)
    assert told["hints"][0].startswith(str(tmp_path / "home/.ansible.cfg"))


def test_check_mode_writes_nothing(project):
    outcome = create(project, "--check", "--diff")
    assert outcome.changed
    assert files(project) == BEFORE
    assert "+  - target.nix" in outcome.output
    assert "+fact_caching_timeout = 0" in outcome.output


@pytest.mark.both_pairs
def test_values_survive_the_source_and_secrets_are_not_shown(project):
    values = {"text": "{{ 1 + 1 }} # a: b\n{% raw %} 'x' \"y\"", "flag": "on", "password": "hunter2"}
    project.write(
        "function.nix",
        """{ text, flag, password }: {
          web.deployment = { targetHost = "web.example.org"; tags = [ flag ]; };
          network.description = assert password == "hunter2"; text;
        }""",
    )
    # Only what stands in a file can be kept from being templated.
    text = json.dumps(values.pop("text"))
    rest = "".join(f"  {name}: {json.dumps(value)}\n" for name, value in values.items())
    project.write("vars.yml", f"deployment: web\nnetworks: [function.nix]\narguments:\n  text: !unsafe {text}\n{rest}")
    outcome = project.play("nix.ops.create", "-e", "@vars.yml", "--diff")
    assert outcome.exit_code == 0, outcome.output
    assert "hunter2" not in outcome.output
    assert outcome.of(CREATE)["description"] == json.loads(text)
    assert "encrypt what is secret" in outcome.of(CREATE)["hints"][0]
    assert stat.S_IMODE((project.directory / "web.network.yml").stat().st_mode) == 0o600
    listed = project.play("nix.ops.list").of("List the deployments")
    assert listed["deployments"][0]["description"] == json.loads(text)
    assert "tag_on" in project.run("ansible-inventory", "--graph").output


@pytest.mark.both_pairs
def test_flake(project):
    project.write("flake/flake.nix", (TESTS / "networks/flake/flake.nix").read_text())
    outcome = project.play("nix.ops.create", "-e", "deployment=fleet", "-e", "flake=./flake")
    assert outcome.exit_code == 0, outcome.output
    # No file is asked for.
    assert "Not prompting" not in outcome.output
    assert yaml.safe_load((project.directory / "fleet.network.yml").read_text())["flake"] == "./flake"
    assert outcome.of(CREATE)["machines"] == ["web"]


def test_another_directory(project):
    (project.directory / "deployments").mkdir()
    told = create(project, "-e", "directory=deployments").of(CREATE)
    source = yaml.safe_load((project.directory / "deployments/target.network.yml").read_text())
    assert source["files"] == ["../target.nix", "../config.nix"]
    assert told["files"] == [str(project.directory / name) for name in ("target.nix", "config.nix")]
    assert {path.name for path in (project.directory / "deployments").iterdir()} == {
        "target.network.yml",
        "ansible.cfg",
    }


def test_bad_input_is_refused_before_anything_is_written(project):
    name, target = ("-e", "deployment=target"), ("-e", "networks=target.nix")
    project.write("broken.nix", "{ target = { services.nope = 1; }; }")
    project.write("syntax.nix", "{ target = ")
    assert "is not a valid name of a deployment" in refused(project, *target, "-e", "deployment=../x")
    assert "Next: Run the same again, and name it: -e deployment=NAME." in refused(project, *target)
    assert "missing.nix does not exist" in refused(project, *name, "-e", "networks=missing.nix")
    assert "name them: -e 'networks=target.nix config.nix', or -e flake=." in refused(project, *name)
    assert "mutually exclusive" in refused(project, *name, *target, "-e", "flake=.")
    assert "uuid" in refused(project, *name, *target, "-e", "uuid=12")
    broken = refused(project, *name, "-e", "networks=target.nix broken.nix")
    assert "services.nope" in broken and "broken.nix" in broken
    assert "syntax.nix:1:" in refused(project, *name, "-e", "networks=syntax.nix")


class Terminal:
    """A run of nix.ops.create on a terminal, where a user answers its questions."""

    def __init__(self, project, *words):
        self._project, self._seen = project, ""
        (project.directory / ".results.jsonl").unlink(missing_ok=True)
        self._ours, theirs = pty.openpty()
        # Ansible asks only where it is in the foreground of its terminal.
        self._process = subprocess.Popen(
            ["setsid", "--ctty", BIN / "ansible-playbook", "nix.ops.create", *words],
            cwd=project.directory,
            env=project.variables(),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.close(theirs)

    def answer(self, question, text):
        """Answer a question once it is asked; a question discards what was typed before."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        while question not in self._seen:
            assert select.select([output], [], [], 60)[0], self._seen
            read = os.read(output, 4096).decode()
            assert read, self._seen
            self._seen += read
        # Ansible shows the question before it reads.
        time.sleep(0.3)
        os.write(self._ours, f"{text}\n".encode())

    def end(self):
        """Return the outcome."""
        return self._project.finish(self._process, [self._seen])


def write_pins(project):
    """Write a pin of npins for the nixpkgs of the tests."""
    project.write("npins/sources.json", '{"version": 6, "pins": {"nixpkgs": {}}}')
    project.write("npins/default.nix", f'{{ nixpkgs.outPath = "{NIXPKGS}"; }}')


@pytest.mark.both_pairs
def test_asks_for_what_is_not_given(project):
    write_pins(project)
    terminal = Terminal(project)
    terminal.answer("Name of the deployment", "target")
    terminal.answer("Its network files", "target.nix, config.nix")
    terminal.answer("  1. npins/sources.json#nixpkgs (npins)", "")
    outcome = terminal.end()
    assert outcome.exit_code == 0, outcome.output
    assert outcome.of(CREATE)["machines"] == ["target"]
    assert outcome.of(CREATE)["nixpkgs"] == "nixpkgs=npins/sources.json#nixpkgs"
    source = yaml.safe_load((project.directory / "target.network.yml").read_text())
    assert source["nix_path"] == ["nixpkgs=npins/sources.json#nixpkgs"]
    assert "target" in project.run("ansible-inventory", "--graph").output


def test_empty_answers(project):
    terminal = Terminal(project)
    terminal.answer("Name of the deployment", "target")
    terminal.answer("Its network files", "")
    outcome = terminal.end()
    assert outcome.exit_code == 2, outcome.output
    assert "name them: -e 'networks=target.nix config.nix'" in outcome.of(CREATE)["msg"]
    project.environment |= {"NIX_PATH": "", "NIX_CONF_DIR": str(project.directory)}
    terminal = Terminal(project, "-e", "deployment=target", "-e", NETWORKS)
    terminal.answer("No nixpkgs was found", "")
    assert "no nixpkgs was named" in terminal.end().of(CREATE)["msg"]
    assert files(project) == BEFORE


@pytest.mark.both_pairs
def test_controller_that_lacks_something(project):
    given = ("-e", "deployment=target", "-e", NETWORKS)
    project.environment |= {"NIX_PATH": "", "NIX_CONF_DIR": str(project.directory)}
    message = refused(project, *given)
    assert "there is no nixpkgs on this controller" in message
    assert "Next: ansible-playbook nix.ops.install -e install_nixpkgs=" in message
    project.environment["NIX_CONFIG"] = "build-users-group = no-such-group"
    assert "Next: ansible-playbook nix.ops.install" in refused(project, *given)
