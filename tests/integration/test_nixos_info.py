# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nix.ops.nixos_info alone, in a user's own playbook and ad hoc."""

from __future__ import annotations

import json
import time

import pytest

from integration.networks import Counter
from integration.tasks import build_system, enter, put, run_tasks, write_inventory

NOTHING = ("running", "booted", "profile", "generation", "boot_default", "nixos_version")


def info(project, *words, hosts="target", options="{}", keywords=""):
    """Ask by one task, called Info."""
    outcome = run_tasks(project, f"- name: Info\n  nix.ops.nixos_info: {options}\n{keywords}", *words, hosts=hosts)
    assert outcome.exit_code == 0, outcome.output
    assert not outcome.changed
    return outcome.of("Info")


@pytest.mark.both_pairs
def test_new_machine(machine, project):
    target = machine("target")
    ssh = Counter(project, "ssh")
    seen = target.inspect()
    told = info(project)
    assert len(ssh.runs()) == 1
    assert told["running"] == told["booted"] == told["profile"] == told["boot_default"] == target.toplevel
    assert (told["generation"], told["boot_id"], told["system_state"]) == (1, seen["boot_id"], "running")
    assert (told["failed_units"], told["has_nix"]) == ([], True)
    assert told["nixos_version"].startswith("24.05")
    [generation] = told["generations"]
    assert (generation["number"], generation["toplevel"]) == (1, target.toplevel)
    assert 0 < generation["created"] < time.time() + 60
    assert (told["reboot_needed"], told["reboot_parts"]) == (False, [])
    assert target.inspect() == seen
    # Check mode asks just the same.
    assert info(project, "--check") == told


def test_machine_that_needs_a_reboot(machine, project):
    target = machine("target")
    system = build_system(
        project,
        "{ pkgs, ... }: { boot.kernelPackages = pkgs.linuxPackages_latest;"
        ' systemd.services.bad = { wantedBy = [ "multi-user.target" ]; script = "exit 1"; }; }',
    )
    put(target, system)
    target.run(["nix-env", "--profile", "/nix/var/nix/profiles/system", "--set", system])
    target.run([f"{system}/bin/switch-to-configuration", "switch"], check=False)
    told = info(project)
    assert told["reboot_needed"]
    assert told["reboot_parts"] == ["kernel", "initrd", "kernel-modules"]
    assert told["failed_units"] == ["bad.service"]
    assert told["system_state"] == "degraded"
    assert (told["generation"], told["running"], told["booted"]) == (2, system, target.toplevel)
    assert [(one["number"], one["toplevel"]) for one in told["generations"]] == [(1, target.toplevel), (2, system)]
    target.reboot()
    told = info(project)
    assert (told["booted"], told["reboot_needed"], told["reboot_parts"]) == (system, False, [])


def test_another_profile(machine, project):
    target = machine("target")
    profile = "/nix/var/nix/profiles/mine"
    target.run(["nix-env", "--profile", profile, "--set", target.toplevel])
    told = info(project, options=f"{{profile: {profile}}}")
    assert (told["profile"], told["generation"], len(told["generations"])) == (target.toplevel, 1, 1)
    none = info(project, options="{profile: /nix/var/nix/profiles/of-no-one}")
    assert (none["profile"], none["generation"], none["generations"]) == (None, None, [])
    assert none["running"] == target.toplevel


def test_unprivileged_user(machine, project):
    target = machine("user", user="deploy")
    told = info(project, hosts="user")
    assert (told["running"], told["profile"], told["generation"]) == (target.toplevel, target.toplevel, 1)
    assert info(project, hosts="user", keywords="  become: true") == told


@pytest.mark.both_pairs
def test_host_that_is_no_nixos(project):
    told = info(project, hosts="localhost")
    assert {name: told[name] for name in NOTHING} == dict.fromkeys(NOTHING)
    assert (told["generations"], told["failed_units"], told["reboot_needed"]) == ([], [], False)
    assert told["boot_id"]
    assert told["has_nix"]


def test_machine_without_nix(machine, project):
    machine("bare", nix=False)
    told = info(project, hosts="bare")
    assert not told["has_nix"]
    assert told["running"]


def test_connection_that_is_not_ssh(machine, project):
    target = machine("target")
    write_inventory(project, {"target": enter(project, target)})
    assert info(project, hosts="all")["running"] == target.toplevel


@pytest.mark.both_pairs
def test_ad_hoc(machine, project):
    target = machine("target")
    outcome = project.ad_hoc("target", "-i", "target,", "-m", "nix.ops.nixos_info")
    assert outcome.exit_code == 0, outcome.output
    told = json.loads(outcome.output.partition("SUCCESS => ")[2])
    assert told["running"] == target.toplevel
