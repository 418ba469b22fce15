# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole examples of the guides do what the guides say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from fleet import Machine
from integration.conftest import MachineFactory
from integration.networks import standing, toplevels
from integration.project import NIXPKGS, Project

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def target(machine: MachineFactory) -> Machine:
    """A fresh machine."""
    return machine("target")


def guide(name: str) -> str:
    """The text of a guide."""
    return (CHECKOUT / "docs" / name).read_text(encoding="utf-8")


def files_of(name: str, replaced: Mapping[str, str]) -> dict[str, str]:
    """The files that a guide shows, by the names in their first lines, with other addresses and paths."""
    blocks = re.findall(r"^```\w+\n# ([\w./-]+)\n(.*?)^```$", guide(name), re.MULTILINE | re.DOTALL)
    pattern = re.compile("|".join(map(re.escape, replaced)))
    return {file: pattern.sub(lambda found: replaced[found[0]], text) for file, text in blocks}


@pytest.mark.both_pairs
def test_a_flake(target: Machine, project: Project) -> None:
    ours = project.directory / "ours"
    for name in ("flake.nix", "nixos-module.nix", "plugins/plugin_utils/network/options.nix"):
        (ours / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, ours / name)
    replaced = {
        "github:NixOS/nixpkgs/nixos-25.05": f"path:{NIXPKGS}",
        "github:nix-ops/nix.ops": f"path:{ours}",
        "web.example.org": target.address,
    }
    for name, text in files_of("flakes.md", replaced).items():
        project.write(f"machines/{name}", text)
    project.write("machines/hardware-configuration.nix", "{ }")
    there = Project(project.directory / "machines", {"ANSIBLE_CONFIG": str(project.directory / "ansible.cfg")})
    [commands] = re.findall(
        r"^\$ (git init\n.*?)\$ git add web.network.yml", guide("flakes.md"), re.DOTALL | re.MULTILINE
    )
    done = subprocess.run(
        ["sh", "-e", "-c", commands.replace("$ ", "")],
        cwd=there.directory,
        env=there.variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    locked = (there.directory / "flake.lock").read_text()

    first = there.play("-i", "web.network.yml", "nix.ops.deploy")
    assert first.exit_code == 0, first.output
    toplevel = toplevels(first)["web"]
    assert standing(target) == (toplevel, toplevel, toplevel)
    assert target.run(["cat", "/etc/motd"]).stdout == "Deployed from a flake.\n"
    # The user's flake is read, never written to.
    assert (there.directory / "flake.lock").read_text() == locked
    assert not there.play("-i", "web.network.yml", "nix.ops.deploy").changed


def test_a_play_of_nixos_and_other_hosts(target: Machine, project: Project) -> None:
    down = project.directory / "down"
    down.mkdir()
    local = f"ansible_connection: local\n      ansible_python_interpreter: {sys.executable}"
    files = files_of("mixed-plays.md", {"ansible_host: balancer.example.org": local, "/etc/balancer/down": str(down)})
    for name in ("inventory/machines.network.yml", "inventory/others.yml", "site.yml"):
        project.write(name, files[name])
    project.write(
        "machines.nix",
        f'{{ web = {{ deployment.targetHost = "{target.address}"; services.openssh.enable = true; }}; }}',
    )
    outcome = project.play("-i", "inventory", "site.yml")
    assert outcome.exit_code == 0, outcome.output
    told = {one.host: one.result["msg"] for one in outcome.results if one.task == "Tell it"}
    assert told.keys() == {"balancer", "web"}
    assert told["balancer"].startswith("Debian ") and told["web"].startswith("NixOS ")
    assert standing(target) == (toplevels(outcome)["web"],) * 3
    assert outcome.statuses("Take the machine out of the balancer") == {"web": "changed"}
    assert not [*down.iterdir()]


def test_a_secret_that_a_vault_has_encrypted(target: Machine, project: Project) -> None:
    files = files_of("secrets.md", {"chown postgres:": "chown root:"})
    script = project.write("secrets/web.sh", files["secrets/web.sh"])
    project.write("secrets.yml", files["secrets.yml"].partition("\n\n")[0])
    project.write("password", "secret")
    project.write("hosts.yml", f"all: {{hosts: {{web: {{ansible_host: {target.address}}}}}}}")
    vault = ("--vault-password-file", "password")
    assert project.run("ansible-vault", "encrypt", str(script), *vault).exit_code == 0
    assert "horse" not in script.read_text()
    outcome = project.play("-i", "hosts.yml", "secrets.yml", "-vvv", *vault)
    assert outcome.exit_code == 0, outcome.output
    assert "horse" not in outcome.output
    written = target.run(["sh", "-c", "cd /var/lib/secrets; ls; stat -c '%a %U' *; cat db-password"]).stdout
    assert written == "db-password\n600 root\ncorrect horse battery staple\n"
    left = target.run(["sh", "-c", "grep -rl horse /root /tmp /var/tmp; true"]).stdout
    assert left == ""
