# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that exist: they are checked, rebooted, run commands, and plain ssh reaches them."""

from __future__ import annotations

import importlib
import json
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from integration.conftest import Deployed
from integration.networks import Network
from integration.outside import untouched
from integration.project import Outcome

CHECK = "Check the machine"
CHECKED = "Report which machines are well"
REBOOT = "Reboot the machine"
RUN = "Run the command"
RAN = "Report how the command has ended"
WRITE = "Write the configuration of ssh"

# The lock of activations, as another run would hold it.
LOCK = ["systemd-run", "--unit=nix-ops-activation.service", "--description=nix.ops switch by alice", "sleep", "60"]


def documented(module: str, result: Mapping[str, Any], returned: str = "") -> None:
    """A result has what its module's documentation says."""
    found = importlib.import_module(f"ansible_collections.nix.ops.plugins.modules.{module}")
    described = {name for name, one in yaml.safe_load(found.RETURN).items() if one["returned"] != returned}
    added = ("changed", "failed", "diff", "msg", "warnings", "unreachable", "exception")
    assert {name for name in result if name not in added and not name.startswith("_")} == described


def play(network: Network, name: str, *words: str) -> Outcome:
    return network.deploy(*words, playbook=f"nix.ops.{name}")


def plain_ssh(network: Network, config: Path, *words: str) -> str:
    """Run ssh as a user does; it has to get in with nothing but the configuration."""
    done = subprocess.run(
        ["ssh", "-F", str(config), "-o", "BatchMode=yes", *words],
        env={**network.project.variables(), "SSH_AUTH_SOCK": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_life_of_machines_that_exist(deployed: Deployed) -> None:
    network = deployed("beta", "target")
    beta, target = network.machines
    keeps_ssh_config(network)
    checks(network)
    runs_a_command(network)
    reboots(network)
    assert beta.run(["systemctl", "is-system-running"]).stdout.strip() == "running"
    assert target.ssh("true").returncode == 0


def keeps_ssh_config(network: Network) -> None:
    with untouched(*network.machines):
        preview = play(network, "ssh_config", "--check", "--diff")
        assert preview.changed and "+Host target" in preview.output
        wrote = play(network, "ssh_config").of(WRITE)
    documented("deployment_ssh_config", wrote)
    [file] = wrote["files"]
    config = Path(file["path"])
    assert not list(config.parent.glob(".*"))
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert file["machines"] == ["beta", "target"]
    assert plain_ssh(network, config, "target", "echo in") == "in\n"
    # A deploy keeps what is there up to date.
    config.write_text("Host nobody\n")
    network.deployed()
    assert plain_ssh(network, config, "beta", "echo in") == "in\n"


def checks(network: Network) -> None:
    beta, target = network.machines
    with untouched(*network.machines):
        well = play(network, "check", "-e", "check_fail_on=any", "-e", "check_disk_fill=100")
    assert well.exit_code == 0, well.output
    assert "| beta   |  Yes   | Yes |    Yes    |   Yes    |" in well.output
    documented("nixos_check", well.of(CHECK, "beta"))
    documented("deployment_check", well.of(CHECKED))
    assert [(one["problems"], one["status"]) for one in well.of(CHECKED)["machines"]] == [([], 0)] * 2
    target.run(["sh", "-c", "systemd-run --wait --unit=broken false || :"])
    beta.link_down()
    try:
        amiss = play(network, "check", "-T", "3", "-e", "check_fail_on=units,down", "-e", "check_file=check.json")
    finally:
        beta.link_up()
    assert amiss.exit_code == 2
    told = json.loads((network.project.directory / "check.json").read_text())
    found = {one["name"]: one for one in told["machines"]}
    assert (found["beta"]["status"], found["beta"]["problems"]) == (2, ["down", "unreachable"])
    assert found["target"]["failed_units"] == ["broken.service"]
    assert told["status"] & 18 == 18
    assert "beta: down" in amiss.output and "target: units" in amiss.output
    target.run(["systemctl", "reset-failed"])


def runs_a_command(network: Network) -> None:
    target = network.machines[1]
    target.run(["touch", "/run/ill"])
    refused = play(network, "ssh_for_each")
    assert refused.exit_code == 2 and "Give the command" in refused.output
    command = 'echo "it\'s $(id -un)"; test ! -e /run/ill || exit 3'
    with untouched(*network.machines):
        preview = play(network, "ssh_for_each", "--check", "-e", json.dumps({"command": command}))
        assert preview.exit_code == 0, preview.output
    outcome = play(network, "ssh_for_each", "-e", json.dumps({"command": command}))
    assert outcome.exit_code == 2
    assert outcome.lines("beta") == ["it's root"]
    assert outcome.lines("target")[0] == "it's root"
    documented("nixos_command", outcome.of(RUN, "target"))
    report = outcome.of(RAN)
    documented("deployment_commands", report)
    assert {one["name"]: one["exit_code"] for one in report["machines"]} == {"beta": 0, "target": 3}
    assert report["status"] == 3
    assert "the command has failed on 1 of 2 machines: target" in outcome.output
    assert not target.run(["sh", "-c", "ls -d /tmp/nix-ops-* || :"]).stdout


def reboots(network: Network) -> None:
    beta, target = network.machines
    before = {one.name: one.inspect() for one in network.machines}
    with untouched(*network.machines):
        preview = play(network, "reboot", "--check")
    assert preview.of(REBOOT, "beta")["boots"] == before["beta"]["running"]
    target.run(LOCK)
    outcome = play(network, "reboot", "-e", "reboot_serial=1")
    assert outcome.exit_code == 2
    assert outcome.statuses(REBOOT) == {"beta": "changed", "target": "failed"}
    assert "an activation is at work on the machine" in outcome.output
    assert target.inspect()["boot_id"] == before["target"]["boot_id"]
    booted = outcome.of(REBOOT, "beta")
    documented("nixos_reboot", booted)
    documented("nixos_reboot", preview.of(REBOOT, "beta"), returned="not in check mode")
    assert booted["booted"] == before["beta"]["running"]
    assert booted["boot_id"] == beta.inspect()["boot_id"] != before["beta"]["boot_id"]
    target.run(["systemctl", "stop", "nix-ops-activation.service"])
    # No deploy has given it an id yet.
    target.run(["rm", "/nix/var/nix/nix-ops/identity"])
    hard = play(network, "reboot", "--limit", "target", "-e", "reboot_hard=true")
    assert hard.exit_code == 0, hard.output
    assert target.inspect()["boot_id"] != before["target"]["boot_id"]
