# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of single modules share: tasks of a user's own playbook, things to build, programs that are watched."""

from __future__ import annotations

import subprocess
import textwrap
import threading
import time
import uuid
from collections.abc import Callable

import yaml

from fleet import Machine
from integration.project import NIXPKGS, TESTS, Outcome, Project

# Two packages, one of which refers to the other, one that fails, and one that waits at a gate, a named pipe.
PACKAGES = """
{ salt, gate ? "/nowhere" }:
let
  package = name: script: derivation {
    inherit name salt;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-e" "-c" script ];
  };
in
rec {
  base = package "base" "echo base $salt > $out";
  tool = package "tool" "echo this is the tool; echo ${base} $salt > $out";
  broken = package "broken" "for i in $(seq 60); do echo line $i; done; echo it is broken >&2; exit 3";
  waiting = package "waiting" "echo before the gate; read -r word < ${gate}; echo $word; echo $salt > $out";
}
"""


def run_tasks(project: Project, tasks: str, *words: str, hosts: str = "target", timeout: float = 120) -> Outcome:
    """Run tasks, written as in a playbook, on a host of the fleet."""
    return project.play("-i", inventory(hosts), write_play(project, tasks, hosts), *words, timeout=timeout)


def write_play(project: Project, tasks: str, hosts: str) -> str:
    """Write a playbook with these tasks; :returns: its file's name."""
    listed = textwrap.indent(textwrap.dedent(tasks).strip(), "    ")
    project.write(
        "site.yml", f"- name: A user's own play\n  hosts: {hosts}\n  gather_facts: false\n  tasks:\n{listed}\n"
    )
    return "site.yml"


def inventory(hosts: str) -> str:
    """The inventory of hosts that ssh's configuration knows; localhost is Ansible's own."""
    return "hosts.yml" if hosts == "all" else "target," if hosts == "localhost" else f"{hosts},"


def write_inventory(project: Project, hosts: dict[str, dict[str, object]]) -> None:
    """Write an inventory with hosts and their variables; it is that of the plays for ``all``."""
    project.write("hosts.yml", yaml.safe_dump({"all": {"hosts": hosts}}))


def new_salt() -> str:
    """A word that no store has seen."""
    return uuid.uuid4().hex


def nix(*words: str) -> str:
    """Run one of Nix's commands on the controller; :returns: what it printed."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def build_package(project: Project, attribute: str, salt: str) -> str:
    """Build one of the packages on the controller."""
    project.write("packages.nix", PACKAGES)
    return nix(
        *("nix-build", f"{project.directory}/packages.nix", "--no-out-link", "--attr", attribute),
        *("--argstr", "salt", salt),
    )


def build_system(project: Project, configuration: str = "{ }") -> str:
    """Build a toplevel on the controller: that of the fleet's machines with a NixOS module more."""
    module = project.write(
        f"system-{new_salt()}.nix", f"{{ imports = [ {TESTS}/fleet/configuration.nix ({configuration}) ]; }}"
    )
    return nix(
        *("nix-build", f"{NIXPKGS}/nixos", "--no-out-link", "--attr", "system"),
        *("-I", f"nixpkgs={NIXPKGS}", "-I", f"nixos-config={module}"),
    )


def put(machine: Machine, *paths: str) -> None:
    """Bring closures to a machine, past its network."""
    closure = nix("nix-store", "--query", "--requisites", *paths).split()
    exported = subprocess.run(["nix-store", "--export", *closure], check=True, capture_output=True).stdout
    machine.run("nix-store --import >/dev/null", stdin=exported)


def has_path(machine: Machine, path: str) -> bool:
    """Whether a machine's store has a path."""
    return machine.run(["nix-store", "--check-validity", path], check=False).returncode == 0


def service(name: str, says: str) -> str:
    """The definition of a service that goes on for ever."""
    return (
        f'systemd.services.{name} = {{ wantedBy = [ "multi-user.target" ]; '
        f'script = "while true; do echo {says}; sleep 60; done"; }};'
    )


def wait_for(reached: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait until something has come about.

    :raises AssertionError: where it has not in time.
    """
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"in {seconds} s: {what}"
        time.sleep(0.05)


def read_until(process: subprocess.Popen[str], text: str, seconds: float = 60) -> list[str]:
    """Read a run's lines up to the one with this text, while the run goes on.

    :raises AssertionError: where the run ends before, or the time is over.
    """
    assert process.stdout is not None
    seen = []
    overdue = threading.Timer(seconds, process.kill)
    overdue.start()
    try:
        for line in process.stdout:
            seen.append(line)
            if text in line:
                return seen
    finally:
        overdue.cancel()
    raise AssertionError(f"{text!r} is not in:\n{''.join(seen)}")


def enter(project: Project, machine: Machine) -> dict[str, object]:
    """Host variables with which a machine is reached by a connection that is not ssh."""
    project.environment["ANSIBLE_CONNECTION_PLUGINS"] = str(TESTS / "integration" / "connection_plugins")
    return {"ansible_connection": "enter", "enter_words": machine.enter()}


# A NixOS module whose activation waits, at a named pipe, until it is let through.
GATE = """{
  system.activationScripts.gate = ''
    echo before the gate
    [ ! -p /run/gate ] || cat /run/gate
    echo behind the gate
  '';
}"""


def close_gate(machine: Machine) -> None:
    """Let the next activation with a gate wait there."""
    machine.run("mkfifo /run/gate")


def open_gate(machine: Machine) -> None:
    """Let the activation that waits at the gate go on."""
    machine.run("echo opened >/run/gate; rm /run/gate")


def traces_of_jobs(machine: Machine) -> list[str]:
    """What there still is of jobs on a machine: units and files; GC roots are none of theirs."""
    return [trace for trace in machine.inspect()["leftovers"] if not trace.startswith("/nix/")]
