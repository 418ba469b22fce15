# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that is not well goes back: units, commands, ports and URLs, from the network and from a task."""

from __future__ import annotations

from typing import Any

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.faults import Tell
from integration.networks import ACTIVATE, Network, standing
from integration.outside import COPIED, stands
from integration.project import Project
from integration.tasks import build_system, put, run_tasks

pytestmark = pytest.mark.one_pair

WEB = """
  services.nginx = {
    enable = true;
    virtualHosts.default = { default = true; root = pkgs.writeTextDir "index.html" "it works"; };
  };
"""

# A service that is started, and is gone a moment later, again and again; the switch succeeds.
CRASHES = """
  systemd.services.crashes = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig.Restart = "always";
    serviceConfig.RestartSec = "100ms";
    unitConfig.StartLimitIntervalSec = 0;
    script = "sleep 0.4; exit 1";
  };
"""


@pytest.fixture(scope="module")
def target(machine: MachineFactory) -> Machine:
    """One machine for all checks: each test compares with what it found."""
    return machine("target")


@pytest.fixture
def network(target: Machine, project: Project) -> Network:
    """A network whose machine has been deployed."""
    network = Network(project, target)
    network.deployed()
    return network


def ill(target: Machine, network: Network, checks: str, config: str = "", *words: str) -> tuple[str, Any, Any]:
    """Deploy what is not well; :returns: the message, and what was seen before and after."""
    before = target.inspect()
    network.define(f"deployment.healthChecks = {{ {checks} }}; {config}", one="ill")
    run = network.deploy(*words)
    assert run.exit_code == 2, run.output
    answer = run.of(ACTIVATE)
    assert answer["rolled_back"] and answer["unhealthy"]
    assert answer["exit_code"] == 0
    assert "its health checks failed, so the machine has gone back to what ran before: " in answer["msg"]
    after = target.inspect()
    assert stands(after) == stands(before)
    assert (after["generation"], after["failed_units"]) == (before["generation"], [])
    assert (after["leftovers"], after["sshd_pid"]) == ([COPIED], before["sshd_pid"])
    return answer["msg"], before, after


def test_a_machine_that_is_well(target: Machine, network: Network) -> None:
    url = f"http://{target.address}/"
    network.define(
        f"""
          {WEB}
          deployment.healthChecks = {{
            units = [ "one" "nginx.service" ];
            commands = [ "test -e /etc/hostname" "${{pkgs.hello}}/bin/hello" ];
            tcp = [ 22 80 ];
            http = [ "{url}" {{ url = "{url}index.html"; contains = "it works"; }} ];
            stable = 1;
          }};
        """
    )
    run = network.deployed()
    answer = run.of(ACTIVATE)
    assert (answer["unhealthy"], answer["step"]) == ([], "boot")
    said = run.lines("target")
    assert (
        said.index("waiting to be reached over a new connection...")
        < said.index("checking its health...")
        < said.index("it is healthy")
        < said.index("updating systemd-boot menu...")
    )
    assert not network.deployed().changed


# What is checked and defined, and what is said of it.
AMISS = {
    "a unit crashes again and again": (
        'units = [ "crashes" ]; stable = 2; deadline = 4;',
        CRASHES,
        "crashes.service ",
    ),
    "a unit does not exist": ('units = [ "nowhere" ]; stable = 0; deadline = 1;', "", "nowhere.service does not exist"),
    "a command fails": (
        'commands = [ "echo it is not here; exit 3" ]; deadline = 1;',
        "",
        "command 'echo it is not here; exit 3': exit code 3: it is not here",
    ),
    "a command hangs": (
        'commands = [ "sleep 1000000" ]; deadline = 2;',
        "",
        "command 'sleep 1000000' did not end in time",
    ),
    "a port is closed": ("tcp = [ 22 81 ]; deadline = 1;", "", "port 81 of "),
    "a URL answers otherwise": (
        'http = [ { url = "http://ADDRESS/nowhere"; } ]; deadline = 1;',
        WEB,
        "/nowhere: status 404",
    ),
    "a URL has another text": (
        'http = [ { url = "http://ADDRESS/"; contains = "no, it does not"; } ]; deadline = 1;',
        WEB,
        "the answer does not contain 'no, it does not'",
    ),
    "a check flaps": (
        'commands = [ "test -e /run/flap && rm /run/flap || { touch /run/flap; false; }" ];'
        " successes = 2; deadline = 3;",
        "",
        "command 'test -e /run/flap",
    ),
}


@pytest.mark.parametrize("what", AMISS)
def test_a_machine_that_is_not_well_goes_back(target: Machine, network: Network, tell: Tell, what: str) -> None:
    checks, config, says = AMISS[what]
    message, before, after = ill(target, network, checks.replace("ADDRESS", target.address), config)
    assert says in message or (what == "a check flaps" and "only, not 2" in message)
    target.run("rm -f /run/flap")
    tell(f"health: {what}", before, after, says=f"target: {message.partition(': ')[2].partition(':')[0]}")


def test_a_check_that_flaps_is_good_enough_where_one_success_is(target: Machine, network: Network) -> None:
    network.define(
        'deployment.healthChecks.commands = [ "test -e /run/flap && rm /run/flap || { touch /run/flap; false; }" ];',
        one="flaps",
    )
    run = network.deployed()
    assert "not healthy yet: command 'test -e /run/flap" in run.output
    assert run.of(ACTIVATE)["unhealthy"] == []


def test_checks_of_the_deploy_replace_those_of_the_network(target: Machine, network: Network) -> None:
    network.define('deployment.healthChecks = { commands = [ "false" ]; deadline = 1; };')
    skipped = network.deployed("-e", '{"deploy_health_checks": {}}')
    assert "checking its health..." not in skipped.output
    network.define('deployment.healthChecks = { commands = [ "false" ]; deadline = 1; };', one="uno")
    other = network.deployed("-e", '{"deploy_health_checks": {"tcp": [22]}}')
    assert "it is healthy" in other.output


def test_without_rollback_the_deploy_fails_and_the_system_stays(target: Machine, network: Network) -> None:
    network.define('deployment.healthChecks = { commands = [ "false" ]; deadline = 1; };', one="stays")
    run = network.deploy("-e", "deploy_rollback=never")
    assert run.exit_code == 2
    answer = run.of(ACTIVATE)
    assert "it is not healthy, and rollback is never: command 'false': exit code 1" in answer["msg"]
    assert standing(target) == (answer["toplevel"],) * 3


def test_a_task_of_ones_own(target: Machine, project: Project) -> None:
    system = build_system(project, '{ environment.etc.note.text = "checked"; }')
    put(target, system)
    before = standing(target)
    task = f"""
      - name: Activate
        nix.ops.nixos_activate:
          toplevel: {system}
          health_checks:
            units: [sshd]
            commands: ["COMMAND"]
            stable: 0
            deadline: 1
    """
    bad = run_tasks(project, task.replace("COMMAND", "false"))
    assert bad.exit_code == 2
    assert bad.of("Activate")["unhealthy"] == ["command 'false': exit code 1: "]
    assert standing(target) == before
    good = run_tasks(project, task.replace("COMMAND", "true"))
    assert good.exit_code == 0, good.output
    assert standing(target) == (system,) * 3
    refused = run_tasks(project, task.replace("deadline: 1", "deadline: 0"))
    assert "deadline is 0, and has to be at least 1" in refused.of("Activate")["msg"]
    assert "State: nothing was touched" in refused.of("Activate")["msg"]
