# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user sees, and when."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable

import pytest

from integration.conftest import MachineFactory
from integration.networks import ACTIVATE, BUILD, Network, standing, toplevels
from integration.project import BIN, Project
from integration.tasks import close_gate, new_salt, open_gate, read_until

# Waits for whoever opens the other end of a named pipe.
GATED_BUILD = """
  environment.etc.gated.source = pkgs.runCommand "gated" { } ''
    echo the build waits
    cat GATE
    echo the build goes on
    touch $out
  '';
"""
GATED_ACTIVATION = """
  system.activationScripts.gate = "if [ -p /run/gate ]; then echo the activation waits; cat /run/gate; fi";
"""


def assert_in_order(lines: Iterable[str], *wanted: str) -> None:
    """Each of the texts is in one of the lines, in this order."""
    lines = list(lines)
    rest = iter(lines)
    for text in wanted:
        assert any(text in line for line in rest), f"{text!r} is missing or out of order in:\n" + "\n".join(lines)


def unbuilt() -> str:
    """Lines of Nix for a system that no store has."""
    return f'environment.etc.salt.text = "{new_salt()}";'


@pytest.fixture
def network(machine: MachineFactory, project: Project) -> Network:
    """A network with one fresh machine."""
    return Network(project, machine("target"))


@pytest.mark.both_pairs
def test_a_builds_lines_are_shown_while_it_runs(network: Network) -> None:
    gate = network.project.directory / "gate"
    os.mkfifo(gate)
    network.define(unbuilt() + GATED_BUILD.replace("GATE", str(gate)))
    before = network.machines[0].inspect()
    run = network.start("--tags", "build")
    early = read_until(run, "the build waits")
    assert_in_order(
        early,
        "example> building all machine configurations...",
        "target> these ",
        "-gated.drv",
        "target> building '/nix/store/",
    )
    assert run.poll() is None
    gate.write_text("opened\n")
    done = network.project.finish(run, early)
    assert done.exit_code == 0, done.output
    assert_in_order(done.lines("target"), "the build waits", "opened", "the build goes on")
    assert network.machines[0].inspect() == before


def test_an_activations_lines_are_shown_while_it_runs(network: Network) -> None:
    target = network.machines[0]
    close_gate(target)
    network.define(unbuilt() + GATED_ACTIVATION + 'systemd.tmpfiles.rules = [ "d /var/lib/made 0755 root root -" ];')
    run = network.start()
    early = read_until(run, "the activation waits")
    assert run.poll() is None
    assert_in_order(
        [line.rstrip("\n") for line in early], "closures copied successfully", "activating the configuration"
    )
    assert standing(target)[1] == target.toplevel
    open_gate(target)
    done = network.project.finish(run, early)
    assert done.exit_code == 0, done.output
    toplevel = toplevels(done)["target"]
    (built,) = done.of(BUILD)["results"]
    derivation = built["machines"]["target"]["drv_path"]

    # All that a deployment says, in the words of Nix and of NixOS and in their order.
    assert_in_order(
        done.output.splitlines(),
        "example> building all machine configurations...",
        "target> these ",
        f"target>   {derivation}",
        "target> building '/nix/store/",
        "target> copying ",
        f"target> copying path '{toplevel}' to 'ssh://target'...",
        "target> closures copied successfully",
        "target> activating the configuration...",
        "target> setting up /etc...",
        "target> the activation waits",
        "target> opened",
        "target> reloading user units for root...",
        "target> setting up tmpfiles",
        "target> the following new units were started: one.service, two.service",
        "target> activation finished successfully",
        "target> deployment finished successfully",
    )
    assert target.run(["test", "-d", "/var/lib/made"]).returncode == 0

    # Whom a change stops is said before the activation.
    network.define(one="uno")
    assert_in_order(
        network.deployed().lines("target"),
        "stopping the following units: one.service",
        "activating the configuration...",
        "starting the following units: one.service",
        "activation finished successfully",
    )


def test_several_machines_have_their_names_before_their_lines(machine: MachineFactory, project: Project) -> None:
    network = Network(project, machine("target"), machine("beta"))
    network.define(unbuilt())
    done = network.deployed()
    for name in ("target", "beta"):
        assert_in_order(
            done.lines(name),
            "copying path ",
            "closures copied successfully",
            "activating the configuration...",
            "activation finished successfully",
        )
        assert f"{name}> deployment finished successfully" in done.output
    # What is built for all of them carries the deployment's name.
    assert any(line.startswith("building '/nix/store/") for line in done.lines("example"))


@pytest.mark.both_pairs
def test_a_callback_that_writes_json_keeps_standard_output(network: Network) -> None:
    project = network.project
    project.environment["ANSIBLE_STDOUT_CALLBACK"] = "json_document"
    ran = subprocess.run(
        [BIN / "ansible-playbook", "-i", "example.network.yml", "nix.ops.deploy"],
        cwd=project.directory,
        env=project.variables(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(ran.stdout)["target"][ACTIVATE] is True
    assert "target> activating the configuration..." in ran.stderr


@pytest.mark.both_pairs
def test_no_log_silences_the_live_lines(network: Network) -> None:
    network.project.environment["ANSIBLE_NO_LOG"] = "1"
    done = network.deployed()
    assert done.statuses(ACTIVATE) == {"target": "changed"}
    assert done.lines("target") == done.lines("example") == []
    assert standing(network.machines[0])[0] != network.machines[0].toplevel
