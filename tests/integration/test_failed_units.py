# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which failed units count: those of the system itself, and not what users of the machine start and end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.engine import SETTLED, Controller, controlled, other, provide, settle
from integration.faults import Tell
from integration.networks import ACTIVATE, Network
from integration.outside import left_over, stands
from integration.project import Project

# A template of the system, whose instances fail, and a unit that is reloaded where it changes.
TEMPLATE = 'systemd.services."visit@" = { serviceConfig.Type = "oneshot"; script = "echo no visit; false"; };'
RELOADED = """
  systemd.services.reloaded = {{
    wantedBy = [ "multi-user.target" ];
    reloadIfChanged = true;
    environment.WHICH = "{}";
    reload = "! test -e /run/no-reload";
    script = "while true; do sleep 60; done";
  }};
"""


def started_late(script: str) -> str:
    """Lines of Nix with which units are started in the switch, after the earlier failures were forgotten."""
    return f"""
      systemd.services.late = {{
        wantedBy = [ "multi-user.target" ];
        serviceConfig.Type = "oneshot";
        script = ''{script}'';
      }};
    """


# A user kills his service manager.
KILLED = """
  systemctl start user@1001.service || true
  systemctl kill --signal=KILL user@1001.service || true
  until systemctl is-failed --quiet user@1001.service; do sleep 0.1; done
"""
VISITED = "systemctl start visit@1001.service || true"
PASSER_BY = "systemd-run --unit=passer-by /bin/false; until systemctl is-failed --quiet passer-by; do sleep 0.1; done"

# As switch-to-configuration-ng ends if units of a user's own service manager fail.
USERS_UNITS = r"""
  system.systemBuilderCommands = ''
    sed -i 's/^exit "$result"$/echo "warning: user activation for visitor failed" >\&2; exit 4/' \
      $out/bin/switch-to-configuration
  '';
"""
# A unit is up again when the switch has ended, as one that restarts or that its user starts anew.
FORGIVEN = r"""
  system.systemBuilderCommands = ''
    sed -i 's/^exit "$result"$/systemctl reset-failed; exit "$result"/' $out/bin/switch-to-configuration
  '';
"""
CRASHES = 'systemd.services.crashes = { wantedBy = [ "multi-user.target" ]; script = "false"; };'
# The unit stops the journal for a second, so that its own line is late.
LATE = """
  systemctl kill --signal=STOP systemd-journald.service
  systemd-run --on-active=1 --timer-property=AccuracySec=10ms systemctl kill --signal=CONT systemd-journald.service
  echo why it failed
  false
"""

# What fails, and the systems with which it does.
FOREIGN = {
    "a user's service manager": ("user@1001.service", started_late(KILLED)),
    "an instance of a template": ("visit@1001.service", TEMPLATE + started_late(VISITED)),
    "a user's service manager that is up again": ("user@1001.service", started_late(KILLED) + FORGIVEN),
    "a transient unit": ("passer-by.service", started_late(PASSER_BY)),
}
OWN = {
    "an instance that a unit wants": (
        "visit@own.service",
        TEMPLATE + 'systemd.services.host = { wantedBy = [ "multi-user.target" ]; wants = [ "visit@own.service" ];'
        ' after = [ "visit@own.service" ]; script = "true"; };',
    ),
    "an instance with a link": (
        "visit@linked.service",
        TEMPLATE + 'systemd.services."visit@linked" = { wantedBy = [ "multi-user.target" ];'
        ' serviceConfig.Type = "oneshot"; script = "false"; };',
    ),
    "a unit that is up again, beside one that does not count": (
        "crashes.service",
        TEMPLATE + started_late(VISITED) + FORGIVEN + CRASHES,
    ),
}


@pytest.fixture(scope="module")
def target(machine: MachineFactory) -> Machine:
    """One machine for all tests: each compares with what it found."""
    target = machine("target")
    target.run("useradd --uid 1001 visitor")
    return target


@pytest.fixture(scope="module")
def systems(target: Machine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All systems by their names; a settled one runs."""
    described: dict[str, str | tuple[str, str]] = {
        **{name: RELOADED.format("old") for name in SETTLED},
        **{what: (RELOADED.format("old") + config, "one") for what, (_unit, config) in {**FOREIGN, **OWN}.items()},
        "ng": RELOADED.format("new") + "system.switch.enableNg = true;",
        "users' units": (RELOADED.format("old") + USERS_UNITS, "one"),
        "a late journal": (RELOADED.format("old") + started_late(LATE), "one"),
        "a reload": RELOADED.format("new") + TEMPLATE + started_late(VISITED),
    }
    return provide(target, tmp_path_factory.mktemp("systems"), described)


@pytest.fixture
def controller(target: Machine) -> Iterator[Controller]:
    """A controller of the machine."""
    with controlled(target) as controller:
        yield controller


@pytest.fixture
def before(target: Machine, controller: Controller, systems: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What was seen on the machine, which runs a settled system."""
    target.run("systemctl reset-failed")
    yield settle(controller, systems)


@pytest.mark.parametrize("what", FOREIGN)
def test_a_unit_that_the_system_does_not_name_is_only_told(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], tell: Tell, what: str
) -> None:
    unit, new = FOREIGN[what][0], systems[what]
    ran = controller.activate(new)
    done = ran.done
    assert done.exit_code == 0
    # It did fail.
    assert done.units.failed == done.foreign_units == (unit,)
    assert f"warning: not units of this system, so their failure does not count: {unit}" in ran.lines
    after = target.inspect()
    assert stands(after) == (new, new, new)
    assert left_over(after) == []
    assert controller.activate(other(systems, before["running"])).done.changed
    if what == "a user's service manager":
        tell("a user kills his service manager during the switch", before, after, says=ran.says, then="succeeds")


def test_units_of_a_users_own_service_manager_do_not_count(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    new = systems["users' units"]
    ran = controller.activate(new)
    assert ran.done.exit_code == 0
    assert "warning: user activation for visitor failed" in ran.lines
    assert stands(target.inspect()) == (new, new, new)


@pytest.mark.parametrize("what", OWN)
def test_an_instance_that_the_system_names_counts(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any], what: str
) -> None:
    ran = controller.activate(systems[what])
    assert f"units failed (exit code 4 of switch-to-configuration switch): {OWN[what][0]}, so" in ran.undone
    assert stands(target.inspect()) == stands(before)


def test_a_reload_that_fails_beside_a_unit_that_does_not_count(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    target.run("touch /run/no-reload")
    try:
        ran = controller.activate(systems["a reload"])
    finally:
        target.run("rm /run/no-reload")
    assert "units failed (exit code 4 of switch-to-configuration switch): reloaded.service, so" in ran.undone
    assert ran.activation is not None
    assert "Reload failed for reloaded.service." in ran.activation.journal["reloaded.service"]
    assert ran.activation.foreign_units == ("visit@1001.service",)
    assert stands(target.inspect()) == stands(before)


def test_a_journal_that_is_late(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    ran = controller.activate(systems["a late journal"])
    assert "units failed (exit code 4 of switch-to-configuration switch): late.service, so" in ran.undone
    assert ran.activation is not None
    assert "why it failed" in ran.activation.journal["late.service"]
    assert stands(target.inspect()) == stands(before)


def test_a_job_that_fails_as_switch_to_configuration_ng_says_it(
    target: Machine, systems: dict[str, str], controller: Controller, before: dict[str, Any]
) -> None:
    target.run("touch /run/no-reload")
    try:
        ran = controller.activate(systems["ng"])
    finally:
        target.run("rm /run/no-reload")
    assert "units failed (exit code 4 of switch-to-configuration switch): reloaded.service, so" in ran.undone
    assert "Failed to reload reloaded.service" in ran.lines
    # No unit is failed afterwards.
    assert not any(line.startswith("warning: the following units failed") for line in ran.lines)
    assert ran.activation is not None and ran.activation.units.failed == ("reloaded.service",)
    assert stands(target.inspect()) == stands(before)


def test_a_deploy_warns_of_a_unit_that_does_not_count(target: Machine, project: Project) -> None:
    network = Network(project, target)
    network.define(TEMPLATE + started_late(VISITED))
    run = network.deploy()
    assert run.exit_code == 0, run.output
    answer = run.of(ACTIVATE)
    assert (answer["exit_code"], answer["foreign_units"]) == (0, ["visit@1001.service"])
    assert "target: units failed that are not of this system: visit@1001.service" in run.output
