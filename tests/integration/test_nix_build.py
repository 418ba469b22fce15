# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nix.ops.nix_build alone, in a user's own playbook and ad hoc."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from integration.networks import Counter
from integration.tasks import (
    PACKAGES,
    build_package,
    has_path,
    new_salt,
    nix,
    read_until,
    run_tasks,
    wait_for,
    write_play,
)

NETWORK = """
{ hello ? "nothing" }:
{
  network.description = "Two machines";
  defaults = { config, ... }: {
    environment.etc."state".text = config.system.stateVersion;
    environment.etc."hello".text = hello;
  };
  web.deployment.targetHost = "192.0.2.1";
  db.deployment.targetHost = "192.0.2.2";
}
"""


@pytest.fixture
def packages(project):
    """A file with packages that no store has seen; the fixture is their salt."""
    project.write("packages.nix", PACKAGES)
    return new_salt()


def build(project, options, *words, hosts="localhost", keywords=""):
    """Run one task, called Build, with these options."""
    lines = "\n".join(f"    {line}" for line in options.strip().splitlines())
    return run_tasks(project, f"- name: Build\n  nix.ops.nix_build:\n{lines}\n{keywords}", *words, hosts=hosts)


@pytest.mark.both_pairs
def test_network_of_several_files(project):
    project.write("network.nix", NETWORK)
    project.write("more.nix", "{ web.services.openssh = { enable = true; ports = [ 2222 ]; }; }")
    outcome = build(
        project,
        """
network: [network.nix, more.nix]
deployment: example
machines: [web]
arguments: {hello: "it's $(me) \\"here\\""}
remembered:
  web: {ssh_public_key: "ssh-ed25519 AAAAC3Nz web", state_version: "20.09"}
out_link: links
""",
    )
    assert outcome.exit_code == 0, outcome.output
    result = outcome.of("Build")
    assert list(result["machines"]) == ["web"]
    toplevel = result["machines"]["web"]["out_path"]
    assert result["outputs"] == [toplevel]
    assert result["derivations"] == [result["machines"]["web"]]
    assert os.path.realpath(project.directory / "links" / "web") == toplevel
    etc = Path(toplevel, "etc")
    assert (etc / "ssh/authorized_keys.d/root").read_text().strip() == "ssh-ed25519 AAAAC3Nz web"
    assert (etc / "state").read_text() == "20.09"
    assert (etc / "hello").read_text() == 'it\'s $(me) "here"'
    assert "Port 2222" in (etc / "ssh/sshd_config").read_text()


def test_network_of_one_source_or_file(project):
    project.write("network.nix", NETWORK)
    project.write("example.network.yml", "plugin: nix.ops.network\nname: example\nfiles: [network.nix]\n")
    outcome = run_tasks(
        project,
        """
        - name: By its source
          nix.ops.nix_build:
            network: [example.network.yml]
            dry_run: true
        - name: By its file
          nix.ops.nix_build:
            network: [network.nix]
            dry_run: true
        - name: With options that the source has to say
          nix.ops.nix_build:
            network: [example.network.yml]
            arguments: {hello: you}
          ignore_errors: true
        - name: A machine that there is not
          nix.ops.nix_build:
            network: [network.nix]
            machines: [mail]
        """,
        hosts="localhost",
    )
    assert set(outcome.of("By its source")["machines"]) == {"web", "db"}
    assert set(outcome.of("By its file")["machines"]) == {"web", "db"}
    assert "can't be one network" in outcome.of("With options that the source has to say")["msg"]
    assert "mail" in outcome.of("A machine that there is not")["msg"]


@pytest.mark.both_pairs
def test_file_attribute_and_out_link(project, packages):
    task = f"""
file: packages.nix
attribute: [tool]
arguments: {{salt: {packages}}}
out_link: deep/er/tool
"""
    first = build(project, task)
    assert first.exit_code == 0, first.output
    result = first.of("Build")
    link = project.directory / "deep/er/tool"
    assert os.path.realpath(link) == result["outputs"][0]
    assert packages in link.read_text()
    assert [Path(path).name.partition("-")[2] for path in result["built"]] == ["base.drv", "tool.drv"]
    assert result["fetched"] == []
    assert str(link) in nix("nix-store", "--query", "--roots", result["outputs"][0])
    assert os.listdir(link.parent) == ["tool"]
    assert "localhost> this is the tool" in first.output

    assert build(project, task).statuses("Build") == {"localhost": "ok"}
    link.unlink()
    assert build(project, task).statuses("Build") == {"localhost": "changed"}


def test_several_derivations_have_numbered_links(project, packages):
    project.write("both.nix", "{ salt }: let p = import ./packages.nix { inherit salt; }; in [ p.base p.tool ]")
    task = f"file: both.nix\narguments: {{salt: {packages}}}\nout_link: it"
    first = build(project, task)
    outputs = first.of("Build")["outputs"]
    assert [os.path.realpath(project.directory / link) for link in ("it", "it-2")] == outputs
    assert [Path(path).name.partition("-")[2] for path in outputs] == ["base", "tool"]
    link = project.directory / "it-2"
    [registered] = [root for root in Path("/nix/var/nix/gcroots/auto").iterdir() if os.readlink(root) == str(link)]
    registered.unlink()
    assert not build(project, task).changed
    assert str(link) in nix("nix-store", "--query", "--roots", outputs[1])


@pytest.mark.both_pairs
def test_expression_with_nix_path_and_options(project):
    salt = new_salt()
    project.write("elsewhere/default.nix", PACKAGES)
    outcome = run_tasks(
        project,
        f"""
        - name: From a path of its own
          nix.ops.nix_build:
            expression: (import <mine> {{ salt = "{salt}"; }}).base
            nix_path: ["mine={project.directory}/elsewhere"]
        - name: From the user's path
          nix.ops.nix_build:
            expression: (import <nixpkgs> {{ }}).hello
        - name: With a setting
          nix.ops.nix_build:
            expression: (import ./elsewhere {{ salt = "other-{salt}"; }}).base
            options: {{max-jobs: "0"}}
          ignore_errors: true
        - name: With what is no setting
          nix.ops.nix_build:
            expression: (import ./elsewhere {{ salt = "other-{salt}"; }}).base
            options: {{"--help": "0"}}
          ignore_errors: true
        - name: Two things at once
          nix.ops.nix_build:
            expression: "1"
            file: elsewhere
          ignore_errors: true
        - name: What is no derivation
          nix.ops.nix_build:
            expression: "1"
        """,
        hosts="localhost",
    )
    assert salt in Path(outcome.of("From a path of its own")["outputs"][0]).read_text()
    assert outcome.of("From the user's path")["outputs"][0].endswith("-hello-2.12.1")
    assert "max-jobs" in outcome.of("With a setting")["msg"]
    assert "--help" in outcome.of("With what is no setting")["msg"]
    assert "mutually exclusive" in outcome.of("Two things at once")["msg"]
    assert "not a derivation" in outcome.of("What is no derivation")["msg"]


@pytest.mark.both_pairs
def test_flake(project, packages):
    project.write(
        "flake/flake.nix",
        """
        {
          outputs = _: {
            packages.x86_64-linux = with import ./packages.nix { salt = "SALT"; }; { default = tool; inherit base; };
          };
        }
        """.replace("SALT", packages),
    )
    project.write("flake/packages.nix", PACKAGES.replace("builtins.currentSystem", '"x86_64-linux"'))
    outcome = run_tasks(
        project,
        f"""
        - name: A package by its name
          nix.ops.nix_build:
            flake: path:{project.directory}/flake
            attribute: [base]
        - name: The default
          nix.ops.nix_build:
            flake: path:{project.directory}/flake
            out_link: flakes-default
        """,
        hosts="localhost",
    )
    assert outcome.exit_code == 0, outcome.output
    assert outcome.of("A package by its name")["outputs"][0].endswith("-base")
    assert packages in (project.directory / "flakes-default").read_text()


@pytest.mark.both_pairs
def test_dry_run_and_check_mode(project, packages):
    task = f"file: packages.nix\nattribute: [tool]\narguments: {{salt: {packages}}}\nout_link: tool"
    dry = build(project, task + "\ndry_run: true").of("Build")
    assert [Path(path).name.partition("-")[2] for path in dry["built"]] == ["base.drv", "tool.drv"]
    assert dry["changed"]
    assert not Path(dry["outputs"][0]).exists()
    # A preview needs the result, and no link.
    assert build(project, task, "--check").of("Build")["built"] == dry["built"]
    assert Path(dry["outputs"][0]).exists()
    assert not (project.directory / "tool").is_symlink()
    assert build(project, task + "\ndry_run: true").of("Build")["built"] == []


@pytest.mark.both_pairs
@pytest.mark.parametrize(
    "what",
    [
        "network: [network.nix]\narguments: {hello: SALT}",
        "file: packages.nix\nattribute: base\narguments: {salt: SALT}",
    ],
)
def test_derivations_that_are_collected_before_the_build(project, packages, what):
    project.write("network.nix", NETWORK)
    program = project.write("bin/nix-store", (Path(__file__).with_name("collected.sh")).read_text())
    program.chmod(0o755)
    project.environment["PATH"] = f"{program.parent}:{project.variables()['PATH']}"
    outcome = build(project, what.replace("SALT", packages))
    assert outcome.exit_code == 0, outcome.output
    assert "a garbage collection has removed derivations before they were built" in outcome.output
    assert all(Path(path).exists() for path in outcome.of("Build")["outputs"])


def test_fetched_from_a_binary_cache(project, packages):
    tool = build_package(project, "tool", packages)
    base = build_package(project, "base", packages)
    cache = f"file://{project.directory}/cache-of-mine"
    nix("nix", "--extra-experimental-features", "nix-command", "copy", "--to", cache, tool)
    nix("nix-store", "--delete", tool, base)
    task = f"""
file: packages.nix
attribute: [tool]
arguments: {{salt: {packages}}}
options: {{substituters: "{cache}", require-sigs: "false"}}
"""
    would = build(project, task + "dry_run: true").of("Build")
    assert sorted(would["fetched"]) == sorted([base, tool])
    assert would["built"] == []
    assert not Path(tool).exists()
    result = build(project, task).of("Build")
    assert sorted(result["fetched"]) == sorted([base, tool])
    assert result["built"] == []
    assert result["changed"]


@pytest.mark.both_pairs
def test_failed_build_shows_the_end_of_its_log(project, packages):
    outcome = build(
        project, f"file: packages.nix\nattribute: [broken]\narguments: {{salt: {packages}}}\nout_link: broken"
    )
    message = outcome.of("Build")["msg"]
    assert "the build failed" in message
    assert "line 60" in message
    assert "it is broken" in message
    assert "builder for '/nix/store/" in message
    assert "exit code 3" in message
    assert "nix-store --read-log" in message
    assert "localhost> line 1\n" in outcome.output
    assert [name for name in os.listdir(project.directory) if name.startswith("broken")] == []


@pytest.mark.both_pairs
def test_evaluation_error_is_shown_whole(project):
    project.write("wrong.nix", "let\n  a = 1;\nin a.b.c + unknown\n")
    message = build(project, "file: wrong.nix").of("Build")["msg"]
    assert "undefined variable 'unknown'" in message
    assert "wrong.nix:3:" in message


def test_values_of_arguments_are_in_no_process_list(project, packages):
    counters = [Counter(project, program) for program in ("nix-instantiate", "nix-store")]
    project.write(
        "secret.nix", "{ password, salt }: builtins.seq password (import ./packages.nix { inherit salt; }).base"
    )
    outcome = build(
        project,
        f"file: secret.nix\narguments: {{salt: {packages}, password: correct-horse}}",
        "-vvv",
        keywords="  no_log: true",
    )
    assert outcome.exit_code == 0, outcome.output
    assert "correct-horse" not in outcome.output
    for counter in counters:
        runs = counter.runs()
        assert runs
        assert "correct-horse" not in "\n".join(runs)


def test_ad_hoc(project, packages):
    options = {"file": "packages.nix", "attribute": ["base"], "arguments": {"salt": packages}}
    outcome = project.ad_hoc("localhost", "-i", "target,", "-m", "nix.ops.nix_build", "-a", json.dumps(options))
    assert outcome.exit_code == 0, outcome.output
    assert "localhost | CHANGED" in outcome.output
    assert "-base.drv" in outcome.output


@pytest.mark.both_pairs
def test_build_host(machine, project, packages):
    builder = machine("target")
    builder.run("mkfifo /tmp/gate")
    play = write_play(
        project,
        f"""
        - name: Build
          nix.ops.nix_build:
            file: packages.nix
            attribute: [waiting]
            arguments: {{salt: {packages}, gate: /tmp/gate}}
            out_link: /srv/it's "there"/waiting
        """,
        "target",
    )
    process = project.start("ansible-playbook", "-i", "target,", play)
    seen = read_until(process, "target> before the gate")
    builder.run("echo opened > /tmp/gate")
    first = project.finish(process, seen)
    assert first.exit_code == 0, first.output
    assert "target> opened" in first.output
    result = first.of("Build")
    output = result["outputs"][0]
    assert result["built"] == [result["derivations"][0]["drv_path"]]
    assert not Path(output).exists()
    assert builder.run(["readlink", '/srv/it\'s "there"/waiting']).stdout.strip() == output
    builder.run("rm /tmp/gate")
    builder.run("nix-store --gc")
    assert has_path(builder, output)
    assert not project.play("-i", "target,", play).changed
    leftovers = [path for path in builder.inspect()["leftovers"] if not path.startswith("/nix/")]
    assert leftovers == []


def test_build_host_in_check_mode(machine, project, packages):
    builder = machine("target")
    task = f"file: packages.nix\nattribute: [base]\narguments: {{salt: {packages}}}\nout_link: /root/base"
    before = builder.run("find /nix/store /root /tmp | sort").stdout
    would = build(project, task, "--check", hosts="target").of("Build")
    assert would["changed"]
    assert would["built"] == [would["derivations"][0]["drv_path"]]
    assert builder.run("find /nix/store /root /tmp | sort").stdout == before


def test_build_host_of_another_user(machine, project, packages):
    builder = machine("user", user="deploy")
    keywords = "  become: true"
    options = f"file: packages.nix\nattribute: [%s]\narguments: {{salt: {packages}}}\nout_link: /root/it"
    outcome = build(project, options % "tool", hosts="user", keywords=keywords)
    assert outcome.exit_code == 0, outcome.output
    assert has_path(builder, outcome.of("Build")["outputs"][0])
    assert builder.run("readlink /root/it").stdout.strip() == outcome.of("Build")["outputs"][0]
    failed = build(project, options % "broken", hosts="user", keywords=keywords).of("Build")["msg"]
    assert failed.startswith("user: the build failed")
    assert "it is broken" in failed
    # Without root: derivations speak for themselves, and so does what is built from them.
    plain = build(project, (options % "base").replace("/root/it", "/home/deploy/it"), hosts="user")
    assert plain.exit_code == 0, plain.output


def test_delegated_build(machine, project, packages):
    builder = machine("target")
    outcome = build(
        project,
        f"file: packages.nix\nattribute: [base]\narguments: {{salt: {packages}}}",
        hosts="localhost",
        keywords="  delegate_to: target",
    )
    assert outcome.exit_code == 0, outcome.output
    output = outcome.of("Build")["outputs"][0]
    assert has_path(builder, output)
    assert not Path(output).exists()


def test_build_host_without_nix(machine, project, packages):
    machine("bare", nix=False)
    outcome = build(project, f"file: packages.nix\nattribute: [base]\narguments: {{salt: {packages}}}", hosts="bare")
    assert outcome.exit_code != 0
    assert "nix-store is not on the PATH" in outcome.of("Build")["msg"]


@pytest.mark.both_pairs
@pytest.mark.parametrize("here", [True, False], ids=["controller", "build host"])
def test_interrupt_ends_the_build(machine, project, packages, here):
    builder = machine("target")
    gate = project.directory / "gate"
    os.mkfifo(gate)
    builder.run("mkfifo /tmp/gate")
    hosts = "localhost" if here else "target"
    play = write_play(
        project,
        f"""
        - name: Build
          nix.ops.nix_build:
            file: packages.nix
            attribute: [waiting]
            arguments: {{salt: {packages}, gate: {gate if here else "/tmp/gate"}}}
            out_link: {"waiting" if here else "/root/waiting"}
        """,
        hosts,
    )
    process = project.start("ansible-playbook", "-i", "target,", play)
    read_until(process, f"{hosts}> before the gate")
    os.killpg(process.pid, signal.SIGINT)
    assert project.finish(process).exit_code != 0

    def ended():
        # The salt is a variable of the builder's.
        search = f"cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c '^salt={packages}' || true"
        return (nix("sh", "-c", search) if here else builder.run(search).stdout.strip()) == "0"

    wait_for(ended, "the build has ended")
    wait_for(lambda: builder.run("pgrep nix-store", check=False).returncode == 1, "Nix has ended")
    builder.run("rm /tmp/gate")
    assert builder.inspect()["leftovers"] == []
    assert not list(project.directory.glob("waiting*"))


# Machine a is evaluated first. The builds and evaluations meet at named pipes, so each can only end beside the other.
MEETING = """
{ salt, gates, a, b }:
let
  script = name: text: derivation {
    inherit name salt;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-e" "-c" "cd ${gates}; ${text}; echo ${name} > $out" ];
  };
in
{
  a.environment.etc.it.source = script "built-a" a;
  b.environment.etc.it.text = builtins.readFile (script "evaluated-b" b);
}
"""
GOES_ON = "{keep-going: true}"


def test_a_machine_is_built_while_another_is_evaluated(project, packages):
    project.write("meeting.nix", MEETING)
    for gate in ("gates/one", "gates/two"):
        os.mkfifo(project.write(f"{gate}.directory", "").with_name(Path(gate).name))
    gates = project.directory / "gates"

    def task(name, a, b, more="{}"):
        given = json.dumps({"salt": f"{name} {packages}", "gates": str(gates), "a": a, "b": b})
        return f"""
- name: {name}
  nix.ops.nix_build:
    network: [meeting.nix]
    machines: [a, b]
    arguments: {given}
    out_link: links-{name}
    options: {more}
  ignore_errors: true
"""

    meets = ("echo from-a > one; read -r word < two", "read -r word < one; echo from-b > two")
    outcome = run_tasks(
        project,
        "".join(
            [
                task("both", *meets),
                task("wrong-build", "read -r word < one; exit 3", "echo go > one; read -r never < two"),
                # Nix tries again what has failed: without bounds, and with all machines.
                task(
                    "wrong-system",
                    "echo go > one; read -r never < two",
                    "[ -e begun ] || read -r word < one; : > begun; exit 4",
                ),
                task("goes-on", "[ -e gone ] || read -r word < one; exit 5", "echo go > one; : > gone", GOES_ON),
            ]
        ),
        hosts="localhost",
    )
    both = outcome.of("both")
    assert both["changed"], outcome.output
    assert {name: os.path.realpath(project.directory / "links-both" / name) for name in "ab"} == {
        name: one["out_path"] for name, one in both["machines"].items()
    }
    assert sorted(os.listdir(project.directory / "links-both")) == ["a", "b"]
    assert any(path.endswith("-built-a.drv") for path in both["built"])
    for name, failed, state in (
        ("wrong-build", "the build failed", "exit code 3"),
        ("wrong-system", "the evaluation of b's system failed", "exit code 4"),
        ("goes-on", "the build failed", "exit code 5"),
    ):
        message = outcome.of(name)["msg"]
        assert message.startswith(failed)
        assert state in message
        assert not any(Path(project.directory, f"links-{name}").glob("*"))
    # Nothing still waits at a gate.
    search = f"cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c '^salt=.* {packages}' || true"
    assert nix("sh", "-c", search) == "0"
