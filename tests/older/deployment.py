# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recording and the tests that use it share: the deployment, its machine, and the values of placeholders."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

from fleet import Fleet, Machine
from integration.project import Project

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000010"
# A second deployment of the same machine.
BESIDE = "9e8652aa-e64a-11f1-b7ab-02fc00000011"

STATE = "var/lib/nix-ops"
ATTEMPTS = "run/nix-ops-*"
PROFILE = "/nix/var/nix/profiles/system"
PARTS = ("kernel", "initrd", "kernel-modules", "systemd")
COLLECTION = Path(os.environ["ANSIBLE_COLLECTIONS_PATH"], "ansible_collections/nix/ops")
OUR_CACHE = COLLECTION / "plugins/cache"

FIRST = 'environment.etc.note.text = "first";'
# Waits where /run/gate is a named pipe, and notes when it is at work.
SECOND = """
  environment.etc.note.text = "second";
  system.activationScripts.gate = ''
    echo "begins $systemConfig" >>/run/order
    echo before the gate
    [ ! -p /run/gate ] || cat /run/gate
    echo "ends $systemConfig" >>/run/order
  '';
"""
OTHER_KERNEL = "boot.kernelPackages = pkgs.linuxPackages_latest;"
BROKEN = 'system.activationScripts.broken = "echo it is broken >&2; false";'


def configure(project: Project, fleet: Fleet) -> None:
    """Have a project reach the fleet without a line in its ansible.cfg, which is an older version's."""
    project.environment |= {
        "ANSIBLE_SSH_ARGS": f"-F {fleet.ssh_config} -o ControlMaster=auto -o ControlPersist=60s",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(project.directory / ".cp"),
    }


def define(project: Project, machine: Machine, lines: str, name: str = "example") -> None:
    """Write the files of a network with one machine.

    :param lines: lines of Nix that say what the machine shall be.
    :param name: the deployment's name; the machine of the deployment ``example`` is called ``target``.
    """
    host = machine.name if name == "example" else name
    project.write(f"{name}-target.nix", f'{{ {host}.deployment.targetHost = "{machine.address}"; }}\n')
    project.write(
        f"{name}-config.nix",
        f"""{{ {host} = {{ pkgs, ... }}: {{
          services.openssh.enable = true;
          system.stateVersion = "24.05";
          imports = [ ({{ config, lib, pkgs, ... }}@arguments: {{ {lines} }}) ];
        }}; }}\n""",
    )


def values(machine: Machine, project: Project, keys: Path, toplevels: Mapping[str, str]) -> dict[str, str]:
    """Return what the placeholders stand for now.

    :param keys: a directory with the SSH key pairs of the machines.
    :param toplevels: the toplevels by their names.
    """
    named = {f"TOPLEVEL:{name}": toplevel for name, toplevel in toplevels.items()}
    parts = {
        f"PATH:{name}/{part}": os.path.realpath(f"{toplevel}/{part}")
        for name, toplevel in toplevels.items()
        for part in PARTS
    }
    pairs = {}
    for public in sorted(keys.rglob("*.pub")):
        pairs[f"KEY:{public.stem}"] = public.read_text(encoding="utf-8").split()[1]
        pairs[f"PRIVATE:{public.stem}"] = public.with_suffix("").read_text(encoding="utf-8").strip("\n")
    return {
        **named,
        **{name: path for name, path in parts.items() if path not in named.values()},
        **pairs,
        f"ADDRESS:{machine.name}": machine.address,
        "PROJECT": str(project.directory),
        "COLLECTION": str(COLLECTION),
    }


def archive(machine: Machine, *paths: str) -> bytes:
    """Make a tar archive of files of a machine; paths that are missing are left out."""
    listed = " ".join(paths)
    told = machine.run(f"cd / && tar -cf - $(ls -d {listed} 2>/dev/null) | base64").stdout
    return base64.b64decode(told)


def place(machine: Machine, archived: bytes) -> None:
    """Put the files of an archive onto a machine."""
    machine.run("tar -C / -xpf -", stdin=archived)


def boot_id(machine: Machine) -> str:
    """Return what tells this boot of a machine from others."""
    return machine.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout.strip()
