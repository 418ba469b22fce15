# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that tests deploy, and what tests ask about a deployment."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fleet import Machine
from integration.project import Outcome, Project

CHECK = "Check the variables of the deploy"
PLAN = "Plan the rollout"
OUTCOME = "Report the outcome"
INFO = "Ask what the machine runs"
BUILD = "Build the machines' systems"
COPY = "Copy the closure"
ACTIVATE = "Activate the system"

# What a machine shall be: it can be reached, and runs two units that have nothing to do with each other.
MACHINE = """
  { pkgs, ... }: {
    services.openssh.enable = true;
    system.stateVersion = "24.05";
    environment.systemPackages = [ pkgs.hello ];
    systemd.services.one = {
      wantedBy = [ "multi-user.target" ];
      script = "while true; do echo ONE; sleep 60; done";
    };
    systemd.services.two = {
      wantedBy = [ "multi-user.target" ];
      script = "while true; do echo two; sleep 60; done";
    };
    imports = [ ({ pkgs, ... }: { EVERYWHERE }) ];
  }
"""


class Network:
    """A network in a project: where its machines are, and what they shall be.

    It has the files of a user: ``NAME-target.nix``, ``NAME-config.nix`` and ``NAME.network.yml``.

    :param where: for a machine's name more about how it is reached, as lines of Nix.
    :param name: the deployment's name, below a directory of the project if it has one.
    :param source: more lines of the source.
    """

    def __init__(
        self,
        project: Project,
        *machines: Machine,
        where: Mapping[str, str] | None = None,
        name: str = "example",
        source: str = "",
    ) -> None:
        self.project, self.machines, self.name = project, machines, name
        where = where or {}
        physical = [
            f'  {one.name} = {{ deployment.targetHost = "{one.address}"; {where.get(one.name, "")} }};'
            for one in machines
        ]
        project.write(f"{name}-target.nix", "\n".join(["{", *physical, "}"]))
        deployment = Path(name).name
        files = f"files: [{deployment}-target.nix, {deployment}-config.nix]"
        project.write(f"{name}.network.yml", f"plugin: nix.ops.network\n{files}\n{source}")
        self.define()

    def define(self, everywhere: str = "", *, one: str = "one", **machines: str) -> None:
        """Say what the machines shall be.

        :param everywhere: lines of Nix that hold for all.
        :param one: what the unit ``one`` says.
        :param machines: lines of Nix for one machine.
        """
        common = MACHINE.replace("ONE", one).replace("EVERYWHERE", everywhere)
        own = [f"  {name} = {{ pkgs, ... }}: {{ {lines} }};" for name, lines in machines.items()]
        self.project.write(f"{self.name}-config.nix", "\n".join(["{", f"  defaults = {common};", *own, "}"]))

    def deploy(self, *words: str, playbook: str = "nix.ops.deploy", timeout: float = 120) -> Outcome:
        """Deploy it as a user would."""
        return self.project.play("-i", f"{self.name}.network.yml", playbook, *words, timeout=timeout)

    def deployed(self, *words: str, playbook: str = "nix.ops.deploy") -> Outcome:
        """Deploy it; the deployment has to succeed."""
        outcome = self.deploy(*words, playbook=playbook)
        assert outcome.exit_code == 0, outcome.output
        return outcome

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin to deploy it, with the output in a pipe and no results of an earlier run."""
        (self.project.directory / ".results.jsonl").unlink(missing_ok=True)
        return self.project.start("ansible-playbook", "-i", f"{self.name}.network.yml", "nix.ops.deploy", *words)


def import_deploy(project: Project, **variables: object) -> str:
    """Write a user's own playbook that imports the deployment with variables; :returns: its name."""
    project.write("deploy.yml", json.dumps([{"import_playbook": "nix.ops.deploy", "vars": variables}]))
    return "deploy.yml"


def toplevels(outcome: Outcome) -> dict[str, str]:
    """For each machine the toplevel that a deployment built."""
    built = outcome.of(BUILD)["results"]
    return {name: one["out_path"] for result in built for name, one in result["machines"].items()}


def standing(machine: Machine) -> tuple[str, str, str]:
    """What a machine runs, its profile and what it boots."""
    seen = machine.inspect()
    return seen["running"], seen["profile"], seen["boot_default"]


def main_pids(machine: Machine, *units: str) -> dict[str, str]:
    """For each unit the process it runs as; 0 where it runs none."""
    asked = machine.run(["systemctl", "show", "--property=MainPID", "--value", *units]).stdout
    return dict(zip(units, asked.split(), strict=True))


class Counter:
    """Counts how often a program is run, standing before it on the PATH of a project's runs."""

    def __init__(self, project: Project, program: str) -> None:
        real = shutil.which(program)
        assert real is not None
        # Hidden, or a count would be a change of the network's directory.
        directory = project.directory / ".counted"
        (directory / "real").mkdir(parents=True, exist_ok=True)
        (directory / "real" / program).symlink_to(real)
        shutil.copy(Path(__file__).with_name("counted.sh"), directory / program)
        self._log = directory / f"{program}.log"
        path = project.variables()["PATH"]
        project.environment["PATH"] = path if str(directory) in path.split(":") else f"{directory}:{path}"

    def runs(self) -> list[str]:
        """The words of each run since this was asked last, without runs that only read the configuration of ssh."""
        log = self._log.read_text() if self._log.exists() else ""
        seen = [words for words in log.splitlines() if not words.startswith("-G ")]
        self._log.unlink(missing_ok=True)
        return seen
