# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user's directory with a network in it, from which tests run Ansible as the user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
NIXPKGS = TESTS / "nixpkgs"
BIN = Path(sys.executable).parent
# Collections of others, for the environment of a project that needs them: awx.awx, community.general.
OTHERS = BIN.parent / "collections"

# The directory of the fact cache, in a project's directory.
FACTS = "state/nix.ops/facts/tests"

# A fact cache in which the deployment state is not lost.
KEEPING = {
    "fact_caching": "ansible.builtin.jsonfile",
    "fact_caching_connection": FACTS,
    "fact_caching_timeout": "0",
}


@dataclass(frozen=True)
class Result:
    """What one task answered for one host."""

    host: str
    task: str
    status: str
    result: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """A run that ended.

    :param output: standard output and standard error as they came.
    :param results: all tasks' results in their order.
    """

    exit_code: int
    output: str
    results: tuple[Result, ...]

    def of(self, task: str, host: str | None = None) -> Mapping[str, Any]:
        """The result of the only task of this name (for this host); says the output where there is none."""
        found = [one for one in self.results if one.task == task and host in (None, one.host)]
        assert len(found) == 1, f"{len(found)} results of {task!r}:\n{self.output}"
        return found[0].result

    def statuses(self, task: str) -> dict[str, str]:
        """For each host the status of a task: ok, changed, failed, unreachable or skipped."""
        return {one.host: one.status for one in self.results if one.task == task}

    @property
    def changed(self) -> bool:
        """Whether any task changed anything."""
        return any(one.status == "changed" for one in self.results)

    def lines(self, name: str) -> list[str]:
        """The live lines with this prefix."""
        prefix = f"{name}> "
        return [line.removeprefix(prefix) for line in self.output.splitlines() if line.startswith(prefix)]


@dataclass
class Project:
    """A directory with files; Ansible is run in it.

    :param environment: variables for the runs, beside those of the tests' own.
    :param within: the words of a command that runs Ansible, for example in a network namespace.
    """

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    within: tuple[str, ...] = ()

    def write(self, name: str, text: str) -> Path:
        """Write a file of the directory."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def configure(self, ssh_config: Path | None = None, **defaults: str) -> None:
        """Write ansible.cfg: the fleet's ssh configuration, a fact cache that keeps, and settings of [defaults]."""
        settings = {"interpreter_python": "/nowhere/python", "retry_files_enabled": "false", **KEEPING, **defaults}
        lines = ["[defaults]", *(f"{name} = {value}" for name, value in settings.items())]
        if ssh_config:
            lines += ["[ssh_connection]", f"ssh_args = -F {ssh_config} -o ControlMaster=auto -o ControlPersist=60s"]
            lines += [f"control_path_dir = {self.directory}/.cp"]
        self.write("ansible.cfg", "\n".join(lines) + "\n")

    def variables(self) -> dict[str, str]:
        """The environment of a run."""
        return {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "NIX_PATH": f"nixpkgs={NIXPKGS}",
            "NIX_CONFIG": "substituters =\nbuild-users-group =\nsandbox = false",
            "XDG_CACHE_HOME": str(self.directory / "cache"),
            "XDG_STATE_HOME": str(self.directory / "state"),
            "ANSIBLE_HOME": str(self.directory / "ansible-home"),
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "results",
            "ANSIBLE_NOCOLOR": "1",
            "NIX_OPS_RESULTS": str(self.directory / ".results.jsonl"),
            **self.environment,
        }

    @property
    def facts(self) -> Path:
        """The directory of the fact cache."""
        return self.directory / FACTS

    def roots(self, machine: str) -> set[str]:
        """The toplevels that links keep which a build has made for machines of this name."""
        links = (self.directory / "state/nix.ops/toplevels").glob(f"*/{machine}")
        return {str(link.resolve(strict=True)) for link in links}

    def start(self, program: str, *words: str) -> subprocess.Popen[str]:
        """Start one of Ansible's programs, its output in a pipe."""
        return subprocess.Popen(
            [*self.within, str(BIN / program), *words],
            cwd=self.directory,
            env=self.variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, program: str, *words: str, timeout: float = 120) -> Outcome:
        """Run one of Ansible's programs to its end."""
        (self.directory / ".results.jsonl").unlink(missing_ok=True)
        process = self.start(program, *words)
        output, _error = process.communicate(timeout=timeout)
        return Outcome(process.returncode, output, tuple(self._results()))

    def play(self, *words: str, timeout: float = 120) -> Outcome:
        """Run ansible-playbook."""
        return self.run("ansible-playbook", *words, timeout=timeout)

    def ad_hoc(self, *words: str, timeout: float = 120) -> Outcome:
        """Run ansible."""
        return self.run("ansible", *words, timeout=timeout)

    def finish(self, process: subprocess.Popen[str], seen: Iterable[str] = (), timeout: float = 120) -> Outcome:
        """Wait for a run that was started, after its first lines were read."""
        output, _error = process.communicate(timeout=timeout)
        return Outcome(process.returncode, "".join([*seen, output]), tuple(self._results()))

    def _results(self) -> list[Result]:
        file = self.directory / ".results.jsonl"
        return [Result(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
