# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that is not well goes back: units, commands, ports and URLs, from the network and from a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.engine import SETTLED, Controller, controlled, provide, settle
from integration.faults import Tell
from integration.networks import ACTIVATE, Network, standing
from integration.outside import left_over, stands
from integration.project import Project
from integration.tasks import build_system, put, run_tasks

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


@pytest.fixture(scope="module")
def systems(target: Machine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All systems by their names; a settled one runs."""
    described = {**dict.fromkeys(SETTLED, ""), "plain": "", "crashes": CRASHES, "web": WEB}
    return provide(target, tmp_path_factory.mktemp("systems"), described)


@pytest.fixture
def controller(target: Machine) -> Iterator[Controller]:
    """A controller of the machine."""
    with controlled(target) as controller:
        yield controller


@pytest.fixture
def before(controller: Controller, systems: dict[str, str]) -> dict[str, Any]:
    """What was seen on the machine, which runs a settled system."""
    return settle(controller, systems)


@pytest.fixture
def network(target: Machine, project: Project) -> Network:
    """A network of the machine."""
    return Network(project, target)


def is_as_before(target: Machine, before: dict[str, Any]) -> dict[str, Any]:
    """The machine is what it was, asked past its network; :returns: what it is."""
    after = target.inspect()
    assert stands(after) == stands(before)
    assert (after["generation"], after["failed_units"]) == (before["generation"], [])
    assert left_over(after) == []
    assert after["sshd_pid"] == before["sshd_pid"]
    return after


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
    finished = said.index("updating systemd-boot menu...")
    assert said.index("checking its health...") < said.index("it is healthy") < finished
    # The machine's own lines arrive later than the controller's on a busy computer.
    assert said.index("waiting to be reached over a new connection...") < finished
    assert not network.deployed().changed


FLAPS = "test -e /run/flap && rm /run/flap || { touch /run/flap; false; }"

# What is checked of which system, and what is said of it.
AMISS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a unit crashes again and again": (
        {"units": ["crashes"], "stable": 2, "deadline": 4},
        "crashes",
        "crashes.service ",
    ),
    "a unit does not exist": (
        {"units": ["nowhere"], "stable": 0, "deadline": 1},
        "plain",
        "nowhere.service does not exist",
    ),
    "a command fails": (
        {"commands": ["echo it is not here; exit 3"], "deadline": 1},
        "plain",
        "command 'echo it is not here; exit 3': exit code 3: it is not here",
    ),
    "a command hangs": (
        {"commands": ["sleep 1000000"], "deadline": 2},
        "plain",
        "command 'sleep 1000000' did not end in time",
    ),
    "a port is closed": ({"tcp": [22, 81], "deadline": 1}, "plain", "port 81 of "),
    "a URL answers otherwise": (
        {"http": [{"url": "http://ADDRESS/nowhere"}], "deadline": 1},
        "web",
        "/nowhere: status 404",
    ),
    "a URL has another text": (
        {"http": [{"url": "http://ADDRESS/", "contains": "no, it does not"}], "deadline": 1},
        "web",
        "the answer does not contain 'no, it does not'",
    ),
    "a check flaps": ({"commands": [FLAPS], "successes": 2, "deadline": 3}, "plain", "command 'test -e /run/flap"),
}
FAILED = "its health checks failed, so the machine has gone back to what ran before: "


@pytest.mark.parametrize("what", AMISS)
def test_a_machine_that_is_not_well_goes_back(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell, what: str
) -> None:
    checks, system, says = AMISS[what]
    pages = [{**page, "url": page["url"].replace("ADDRESS", target.address)} for page in checks.get("http", ())]
    ran = controller.activate(systems[system], health_checks={**checks, "http": pages})
    assert ran.activation is not None and ran.activation.unhealthy
    assert ran.activation.exit_code == 0
    assert FAILED in ran.undone
    assert says in ran.failed or (what == "a check flaps" and "in a row, not 2" in ran.failed)
    after = is_as_before(target, before)
    target.run("rm -f /run/flap")
    tell(f"health: {what}", before, after, says=f"target: {ran.failed.partition(': ')[2].partition(':')[0]}")


def test_a_deploy_to_a_machine_that_is_not_well_goes_back(
    target: Machine, before: dict[str, Any], network: Network
) -> None:
    network.define('deployment.healthChecks = { commands = [ "exit 3" ]; deadline = 1; };', one="ill")
    run = network.deploy()
    assert run.exit_code == 2, run.output
    answer = run.of(ACTIVATE)
    assert answer["rolled_back"]
    assert answer["unhealthy"] == ["command 'exit 3': exit code 3"]
    assert answer["exit_code"] == 0
    assert f"{FAILED}command 'exit 3': exit code 3" in answer["msg"]
    is_as_before(target, before)


def test_a_check_that_flaps_is_good_enough_where_one_success_is(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    ran = controller.activate(systems["plain"], health_checks={"commands": [FLAPS]})
    assert any(line.startswith("not healthy yet: command 'test -e /run/flap") for line in ran.lines)
    assert ran.done.unhealthy == ()
    assert standing(target) == (systems["plain"],) * 3


def test_checks_of_the_deploy_replace_those_of_the_network(target: Machine, network: Network) -> None:
    network.define('deployment.healthChecks = { commands = [ "false" ]; deadline = 1; };', one="due")
    skipped = network.deployed("-e", '{"deploy_health_checks": {}}')
    assert "checking its health..." not in skipped.output
    network.define('deployment.healthChecks = { commands = [ "false" ]; deadline = 1; };', one="uno")
    other = network.deployed("-e", '{"deploy_health_checks": {"tcp": [22]}}')
    assert "it is healthy" in other.output


def test_without_rollback_it_fails_and_the_system_stays(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    checks = {"commands": ["false"], "deadline": 1}
    message = controller.activate(systems["plain"], rollback="never", health_checks=checks).failed
    assert "it is not healthy, and rollback is never: command 'false': exit code 1" in message
    assert standing(target) == (systems["plain"],) * 3


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
    assert bad.of("Activate")["unhealthy"] == ["command 'false': exit code 1"]
    assert standing(target) == before
    good = run_tasks(project, task.replace("COMMAND", "true"))
    assert good.exit_code == 0, good.output
    assert standing(target) == (system,) * 3
    refused = run_tasks(project, task.replace("deadline: 1", "deadline: 0"))
    assert "deadline is 0, and has to be at least 1" in refused.of("Activate")["msg"]
    assert "State: nothing was touched" in refused.of("Activate")["msg"]
