# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main job: from a network to a running machine."""

from __future__ import annotations

import pytest

TARGET = """
{ network.description = "A test"; target.deployment.targetHost = "%s"; }
"""
CONFIG = """
{
  target = { pkgs, ... }: {
    services.openssh.enable = true;
    environment.systemPackages = [ pkgs.hello ];
    systemd.services.one = {
      wantedBy = [ "multi-user.target" ];
      script = "while true; do echo one; sleep 60; done";
    };
    systemd.services.two = {
      wantedBy = [ "multi-user.target" ];
      script = "while true; do echo two; sleep 60; done";
    };
  };
}
"""
SOURCE = """
plugin: nix.ops.network
name: example
files: [target.nix, config.nix]
"""


@pytest.fixture
def target(machine, project):
    """A fresh machine, and the two files that tell where it is and what it shall be."""
    target = machine("target")
    project.write("target.nix", TARGET % target.address)
    project.write("config.nix", CONFIG)
    project.write("example.network.yml", SOURCE)
    return target


def deploy(project, *words):
    return project.play("-i", "example.network.yml", "nix.ops.deploy", *words)


def main_pid(machine, unit):
    return machine.run(f"systemctl show --property=MainPID --value {unit}").stdout.strip()


def test_the_main_job(target, project):
    first = deploy(project)
    assert first.exit_code == 0, first.output
    toplevel = first.of("Activate the system")["toplevel"]
    after = target.inspect()
    assert (after["running"], after["profile"], after["boot_default"]) == (toplevel, toplevel, toplevel)
    assert "deployment finished successfully" in first.output

    again = deploy(project)
    assert again.exit_code == 0
    assert not again.changed

    pids = {unit: main_pid(target, unit) for unit in ("one", "two", "sshd")}
    project.write("config.nix", CONFIG.replace("echo one", "echo uno"))
    preview = deploy(project, "--check", "--diff")
    assert "unit one.service: changed" in preview.output
    assert target.inspect() == {**after, "boot_id": after["boot_id"]}

    second = deploy(project)
    assert second.of("Activate the system")["units"]["restarted"] == ["one.service"]
    now = {unit: main_pid(target, unit) for unit in ("one", "two", "sshd")}
    assert now["one"] != pids["one"]
    assert (now["two"], now["sshd"]) == (pids["two"], pids["sshd"])
