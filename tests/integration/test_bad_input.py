# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users get wrong, and strings that a shell, Nix or Ansible could take for code."""

from __future__ import annotations

import json

import pytest

from integration.networks import ACTIVATE, BUILD, CHECK, Network
from integration.outside import COPIED, untouched
from integration.project import NIXPKGS, Project

# To whatever reads it as code, this makes a file called pwned.
NASTY = 'it\'s "a" $(touch pwned) `touch pwned` \\ ${HOME} {{ 7 * 7 }} * ; touch pwned & | < > ~ % # é'

PARSER_ERROR = 4


@pytest.fixture(scope="module")
def target(machine):
    """One machine, that nothing here may touch but a deployment that is right."""
    return machine("target")


def in_nix(text):
    """A string as Nix writes it."""
    return json.dumps(text, ensure_ascii=False).replace("${", "\\${")


# A network that is wrong


@pytest.mark.both_pairs
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("environment.etc.x.text = ;", "syntax error"),
        ("services.opnssh.enable = true;", "The option `services.opnssh' does not exist"),
        ("systemd.services.x.wantedBy = 7;", "is not of type"),
    ],
    ids=["syntax error", "unknown option", "wrong type"],
)
def test_a_configuration_that_does_not_evaluate(project, target, wrong, says):
    network = Network(project, target)
    network.define(f"\n{wrong}")
    config = project.directory / "example-config.nix"
    with untouched(target):
        run = network.deploy()
    assert run.exit_code != 0
    assert says in run.output
    assert str(config) in run.output
    if says == "syntax error":
        line = next(number for number, text in enumerate(config.read_text().splitlines(), 1) if wrong in text)
        assert f"{config}:{line}:" in run.output
        assert run.exit_code == PARSER_ERROR
    assert run.results == () or run.statuses(BUILD).popitem()[1] == "failed"


@pytest.mark.both_pairs
def test_a_failed_assertion_of_one_machine_of_two(project, machine, target):
    other = machine("other")
    network = Network(project, target, other)
    network.define(target='assertions = [ { assertion = false; message = "the target is not ready"; } ];')
    with untouched(target, other):
        run = network.deploy()
    assert run.exit_code == 2, run.output
    message = json.dumps(run.of(BUILD))
    assert "Failed assertions:" in message
    assert "the target is not ready" in message
    assert "State: " in message
    assert "Next: " in message
    listed = project.run("ansible-inventory", "-i", "example.network.yml", "--graph")
    assert listed.exit_code == 0, listed.output
    assert "--target" in listed.output
    assert "--other" in listed.output

    with untouched(target):
        rest = network.deploy("--limit", "other")
    assert rest.exit_code == 0, rest.output
    assert rest.statuses(ACTIVATE) == {"other": "changed"}


@pytest.mark.both_pairs
def test_a_build_that_fails(project, target):
    network = Network(project, target)
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i; done; echo out of flour >&2; exit 3"
    network.define(f"environment.etc.bread.source = pkgs.runCommand \"bread\" {{ }} ''{script}'';")
    with untouched(target):
        run = network.deploy()
    assert run.exit_code == 2, run.output
    result = run.of(BUILD)["results"][0]
    assert "the build failed" in result["msg"]
    assert "out of flour" in result["msg"]
    assert "bread.drv" in result["msg"]
    assert "State: no machine was touched" in result["msg"]
    assert "Next: " in result["msg"]
    assert "target> line 12" in run.output


# Names and addresses


def test_a_machine_name_that_could_be_misread(project):
    name = "a{{b}}"
    project.write("net.nix", f'{{ "{name}" = {{ services.openssh.enable = true; }}; }}')
    project.write("example.network.yml", "plugin: nix.ops.network\nfiles: [net.nix]\n")
    run = project.play("-i", "example.network.yml", "nix.ops.deploy")
    assert run.exit_code == PARSER_ERROR, run.output
    assert f"{name!r} is not a valid name of a machine" in run.output
    assert "Next: Use letters" in run.output
    assert run.results == ()


def test_a_place_that_is_none(project):
    pwned = project.directory / "pwned"
    project.write("net.nix", f'{{ target.deployment.targetHost = "-oProxyCommand=touch {pwned}"; }}')
    project.write("example.network.yml", "plugin: nix.ops.network\nfiles: [net.nix]\n")
    run = project.play("-i", "example.network.yml", "nix.ops.deploy")
    assert run.exit_code == PARSER_ERROR, run.output
    assert "target: deployment.targetHost is " in run.output
    assert "Next: Set it to " in run.output
    assert not pwned.exists()


@pytest.mark.both_pairs
def test_an_address_of_a_users_own_that_is_an_option(project, target):
    pwned = project.directory / "pwned"
    with untouched(target):
        run = project.ad_hoc(
            *("-i", "target,", "-m", "nix.ops.nixos_info", "target"),
            *("-e", f"ansible_host='-oProxyCommand=touch {pwned}'"),
        )
    assert run.exit_code != 0, run.output
    assert not pwned.exists()


# Strings that reach a shell


@pytest.mark.both_pairs
def test_strings_that_a_shell_could_run(tmp_path, machine, fleet):
    deployed = machine("deployed", user="deploy")
    # Ansible itself replaces variables in a path.
    project = Project(tmp_path / NASTY.replace("${HOME}", "$"))
    project.directory.mkdir()
    project.write("ansible.cfg", "[defaults]\ninterpreter_python = /nowhere/python\n")
    project.environment["ANSIBLE_SSH_ARGS"] = f"-F {deployed.ssh_config} -o ControlMaster=auto -o ControlPersist=60s"
    project.environment["ANSIBLE_SSH_CONTROL_PATH_DIR"] = str(tmp_path / "cp")
    project.environment["ANSIBLE_CACHE_PLUGIN"] = "ansible.builtin.jsonfile"
    project.environment["ANSIBLE_CACHE_PLUGIN_CONNECTION"] = str(tmp_path / "facts")
    project.environment["ANSIBLE_CACHE_PLUGIN_TIMEOUT"] = "0"
    project.environment["NIX_PATH"] = ""
    (project.directory / "nix pkgs $(touch pwned)").symlink_to(NIXPKGS)
    escalation = " ".join(map(in_nix, ["env", f"NOTE={NASTY}", "sudo", "-n", "--"]))
    ssh_option = in_nix('SetEnv=NOTE="it\'s $(touch pwned) `touch pwned` ; touch pwned"')
    project.write(
        "target.nix",
        f"""
        {{ words, ... }}: {{
          network.description = {in_nix(NASTY)};
          deployed = {{ pkgs, ... }}: {{
            deployment = {{
              targetHost = "{deployed.address}";
              targetUser = "deploy";
              privilegeEscalationCommand = [ {escalation} ];
              sshOptions = [ "-o" {ssh_option} ];
              tags = [ {in_nix(NASTY)} ];
              owners = [ {in_nix(NASTY)} ];
            }};
            services.openssh.enable = true;
            environment.etc.words.text = words;
            system.activationScripts.note = "printf %s \\"$NOTE_OF_TASK$directory$name$profile\\" >/run/note";
            systemd.services."a\\\\x2db" = {{
              wantedBy = [ "multi-user.target" ];
              environment.WORDS = "$(touch pwned) `touch pwned`";
              script = "sleep infinity";
            }};
          }};
        }}""",
    )
    source = {
        "plugin": "nix.ops.network",
        "name": "example",
        "files": ["target.nix"],
        "arguments": {"words": NASTY},
        "nix_path": ["nixpkgs=nix pkgs $(touch pwned)"],
        "options": {"system-features": NASTY},
    }
    project.write("example.network.yml", json.dumps(source))
    project.write(
        "site.yml",
        json.dumps(
            [
                {"import_playbook": "nix.ops.deploy"},
                {
                    "hosts": "deployed",
                    "gather_facts": False,
                    "tasks": [
                        {
                            "nix.ops.nixos_activate": {"toplevel": "{{ deploy_toplevel }}", "force": True},
                            # The last three are names that a script of ours could use as well.
                            "environment": {
                                "NOTE_OF_TASK": f"{{% raw %}}{NASTY}{{% endraw %}}\n",
                                **{name: name for name in ("directory", "name", "profile")},
                            },
                            "vars": {"deploy_toplevel": "{{ build_result.results[0].machines.deployed.out_path }}"},
                        }
                    ],
                },
            ]
        ),
    )
    run = project.play("-i", "example.network.yml", "site.yml")
    assert run.exit_code == 0, run.output
    assert run.of(ACTIVATE)["units"]["started"] == ["a\\x2db.service"]
    assert deployed.run("cat /etc/words").stdout == NASTY
    assert deployed.run("cat /run/note").stdout == f"{NASTY}\ndirectorynameprofile"
    assert project.roots("deployed") == {deployed.inspect()["running"]}
    assert deployed.inspect()["leftovers"] == [COPIED]
    found = list(tmp_path.rglob("pwned")) + deployed.run("find / -xdev -name pwned -not -path '/proc/*'").stdout.split()
    assert found == []


# A source that is none


def test_a_source_that_is_none(project):
    project.write("net.nix", "{ target.services.openssh.enable = true; }")
    project.write("example.network.yml", "plugin: nix.ops.network\nfiels: [net.nix]\n")
    run = project.play("-i", "example.network.yml", "nix.ops.deploy")
    assert run.exit_code == PARSER_ERROR, run.output
    assert str(project.directory / "example.network.yml") in run.output
    assert "there is no option 'fiels'" in run.output
    assert "Traceback" not in run.output
    assert run.results == ()


@pytest.mark.both_pairs
def test_an_inventory_without_machines_is_no_success(project):
    project.write("empty.nix", '{ network.description = "None yet"; }')
    sources = {
        "list": "- plugin: nix.ops.network\n",
        "no-yaml": "plugin: nix.ops.network\nfiles: net.nix: [\n",
        "empty-file": "",
        "no-machines": "plugin: nix.ops.network\nfiles: [empty.nix]\n",
    }
    words = []
    for name, text in sources.items():
        words += ["-i", project.write(f"{name}.network.yml", text).name]
    run = project.play(*words, "nix.ops.deploy")
    assert run.exit_code == 2, run.output
    assert "the inventory has no machine of a network" in run.output
    assert "Next: Name a network with -i, and read the warnings above." in run.output
    assert run.statuses(CHECK) == {"localhost": "failed"}


@pytest.mark.both_pairs
def test_a_host_that_is_no_machine_of_a_network(project, target):
    network = Network(project, target)
    project.write("more.ini", "[nixos]\nstray\nother ansible_host=198.51.100.7\n")
    both = ("-i", "more.ini")
    with untouched(target):
        run = network.deploy(*both)
    assert run.exit_code == 2, run.output
    assert "not machines of a network: stray, other" in run.of(CHECK)["msg"]
    assert "for example --limit 'nixos:!stray:!other'." in run.of(CHECK)["msg"]
    assert {one.task for one in run.results} == {CHECK}
    assert network.deployed(*both, "--limit", "nixos:!stray:!other", "--tags", "build").exit_code == 0


@pytest.mark.parametrize("limit", [(), ("--limit", "target")])
def test_machines_that_are_none_of_the_inventory(project, target, limit):
    network = Network(project, target)
    with untouched(target):
        run = network.deploy("-e", "deploy_machines=deployment_exmaple", *limit)
    assert run.exit_code == 2, run.output
    assert run.of(CHECK)["msg"] == (
        "deployment_exmaple: not a machine and not a group of the inventory (deploy_machines)\n"
        "State: nothing was touched\n"
        "Next: Name machines or groups. Groups are: deployment_example, nixos."
    )


@pytest.mark.both_pairs
def test_a_limit_that_matches_nothing(project, target):
    network = Network(project, target)
    with untouched(target):
        run = network.deploy("--limit", "tagret")
    assert run.exit_code == 1, run.output
    assert "tagret" in run.output
    assert "no hosts to target" in run.output
