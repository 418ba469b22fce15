# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares a switch that can be undone with the bare commands, on the same live machine in one run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from statistics import median

from fleet import Machine
from integration.project import Project
from integration.tasks import build_system, put, service

BARE, SAFE, UNSAFE = (
    "nix-env --set, switch-to-configuration switch",
    "nixos_activate",
    "nixos_activate, rollback: never",
)

# So many switches are measured together, to and fro between two systems.
_SWITCHES = 4

_PLAY = """
- hosts: {host}
  gather_facts: false
  tasks:
    - nix.ops.nixos_activate:
        toplevel: "{{{{ item }}}}"
        rollback: {rollback}
      loop: {toplevels}
"""


def measure(project: Project, machine: Machine, repetitions: int) -> Iterator[str]:
    """Measure, and answer with the lines of a table in Markdown.

    :param project: has the collection, and reaches the machine.
    """
    # The collection's Nix settings hold for what is built here too.
    os.environ["NIX_CONFIG"] = project.variables()["NIX_CONFIG"]
    systems = [build_system(project, f"{{ {service('bench', word)} }}") for word in ("to", "fro")]
    put(machine, *systems)
    toplevels = (systems * _SWITCHES)[:_SWITCHES]
    bare = " && ".join(
        f"nix-env -p /nix/var/nix/profiles/system --set {one} && {one}/bin/switch-to-configuration switch"
        for one in toplevels
    )
    seconds: dict[str, list[float]] = {BARE: [], SAFE: [], UNSAFE: []}
    for repetition in range(repetitions + 1):
        print(f"run {repetition} of {repetitions}, switching", file=sys.stderr)
        empty = _time(project, machine, [], "auto")
        took = {
            BARE: _timed(machine.ssh_command(bare), project) - _timed(machine.ssh_command("true"), project),
            SAFE: _time(project, machine, toplevels, "auto") - empty,
            UNSAFE: _time(project, machine, toplevels, "never") - empty,
        }
        # The first one fills caches.
        for side, figure in took.items() if repetition else ():
            seconds[side].append(figure / _SWITCHES)
    yield "| one switch, without the start of ssh or Ansible | seconds | difference to bare |"
    yield "|---|---:|---:|"
    for side, figures in seconds.items():
        yield f"| {side} | {median(figures):.2f} s | {median(figures) - median(seconds[BARE]):+.2f} s |"


def _time(project: Project, machine: Machine, toplevels: list[str], rollback: str) -> float:
    play = _PLAY.format(host=machine.name, rollback=rollback, toplevels=toplevels)
    project.write("switching.yml", play)
    return _timed(["ansible-playbook", "-i", f"{machine.name},", "switching.yml"], project)


def _timed(command: list[str], project: Project) -> float:
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=project.directory, env=project.variables(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"bench: {command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return time.monotonic() - began
