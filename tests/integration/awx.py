# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWX, as far as a playbook sees of it.

What jobs get is what AWX gives them (awx/main/tasks/jobs.py, receptor.py), and goes to ansible-runner and back as it
does there: ``transmit``, ``worker`` in a container of the execution environment, ``process``.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner.interface
import yaml
from ansible_runner.utils import args2cmdline

from integration.awx_facts import Delivery, collect, deliver
from integration.containerfile import Image
from integration.execution_environment import COLLECTION, THERE
from integration.project import NIXPKGS, TESTS, Outcome, Project, Result

PLAYBOOKS = TESTS.parent / "playbooks"
LISTS = (
    *("controller_execution_environments", "controller_credentials", "controller_projects", "controller_inventories"),
    *("controller_inventory_sources", "controller_templates", "controller_workflows", "controller_schedules"),
    *("controller_notifications", "controller_roles"),
)
# Some user that no image knows, as OpenShift chooses one; the group is root's.
UID = 12345
_SHOW = """
- hosts: localhost
  gather_facts: false
  vars_files: [%s]
  tasks:
    - name: Show
      ansible.builtin.debug:
        msg: {%s}
"""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_STATUSES = {
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
    "runner_on_skipped": "skipped",
}


def definitions(project: Project, *words: str) -> dict[str, Any]:
    """What AWX is given (``playbooks/vars/awx.yml``) with the variables of these words."""
    values = ", ".join(f"{name}: '{{{{ {name} }}}}'" for name in LISTS)
    project.write("show.yml", _SHOW % (PLAYBOOKS / "vars/awx.yml", values))
    outcome = project.play("-i", "localhost,", "show.yml", *words)
    assert outcome.exit_code == 0, outcome.output
    return dict(outcome.of("Show")["msg"])


@dataclass(frozen=True)
class Credentials:
    """Those of a template.

    :param vault_passwords: by vault id, which is empty for a credential without one.
    """

    ssh_key: Path
    user: str = "root"
    become_password: str | None = None
    vault_passwords: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Job:
    """A job, or a slice of one, that runs.

    :param directory: the private data directory, which AWX removes at its end.
    :param facts: those of its hosts; None where they are not stored.
    :param container: all of whose processes end with it.
    """

    ident: int
    directory: Path
    facts: Delivery | None
    container: subprocess.Popen[str]


class Awx:
    """One AWX with a project, whose repository the tests write, and its templates.

    :param store: the volume at ``/nix`` that containers have; None for a store that goes with its container.
    :param more: what is added to the image, and where.
    """

    def __init__(
        self,
        directory: Path,
        image: Image,
        credentials: Credentials,
        store: Path | None,
        more: Iterable[tuple[Path, str]] = (),
    ) -> None:
        self.image, self.credentials, self.store, self._more = image, credentials, store, tuple(more)
        self.repository = Project(directory / "repository")
        self.repository.directory.mkdir()
        self.repository.configure()
        self.facts = directory / "facts"
        self.inventory: dict[str, Any] = {}
        self._directory = directory / "awx"
        self._directory.mkdir()
        shown = definitions(Project(self._directory))
        self.templates = {one["name"].removeprefix("nix.ops Default "): one for one in shown["controller_templates"]}
        self._jobs = 0

    def write_playbooks(self) -> None:
        """Have the repository's playbooks be those of the example."""
        for name in {template["playbook"] for template in self.templates.values()}:
            self.repository.write(name, (TESTS.parent / "examples/awx" / name).read_text())

    def synchronize(self, source: str) -> None:
        """Have the inventory be that of a source in the repository."""
        self._jobs += 1
        kept = self._directory / f"inventory-{self._jobs}"
        kept.mkdir()
        kept.chmod(0o2775)
        words = ["ansible-inventory", "--list", "--export", "-i", f"/runner/project/{source}"]
        words += ["--output", "/runner/artifacts/output.json", "--playbook-dir", "/runner/project"]
        project = self._checked_out(self._directory / f"project-{self._jobs}")
        binds = [(project, "/runner/project"), (kept, "/runner/artifacts")]
        container = self._container(words, binds, stdin=subprocess.DEVNULL)
        container.communicate(timeout=120)
        assert container.returncode == 0, self._said(self._jobs)
        self.inventory = json.loads((kept / "output.json").read_text())

    def run(self, template: str, answers: Mapping[str, Any] | None = None, **launch: Any) -> Outcome:
        """Run a template's job to its end; the parameters are those of :meth:`start`."""
        return self.finish(self.start(template, answers, **launch))

    def start(
        self,
        template: str,
        answers: Mapping[str, Any] | None = None,
        *,
        limit: str | None = None,
        slices: tuple[int, int] = (1, 1),
        previewed: Outcome | None = None,
        launch: Mapping[str, Any] | None = None,
    ) -> Job:
        """Begin a template's job.

        :param template: its name, without the prefix.
        :param answers: to questions of the survey, in place of their defaults.
        :param slices: which slice it is, of how many.
        :param previewed: the job before it in a workflow, whose artifacts it gets as variables.
        :param launch: variables that the launch of the workflow was given, if the workflow asks for them.
        """
        wanted = self.templates[template]
        self._jobs += 1
        directory = self._directory / f"job-{self._jobs}"
        number, count = slices
        hosts = sorted(self.inventory["_meta"]["hostvars"])[number - 1 :: count]
        extra = self._extra_variables(wanted, answers or {}, previewed) | dict(launch or {})
        extra["awx_job_template_name"] = wanted["name"]
        if previewed or launch or count > 1:
            # The slices of a job are a workflow of their own.
            workflow = wanted["name"] if count > 1 else "nix.ops Default preview, approve, deploy"
            extra |= {"awx_workflow_job_id": 1, "awx_workflow_job_name": workflow}
        parameters = self._prepare(directory, wanted, hosts, extra, limit)
        facts = None
        if wanted["use_fact_cache"]:
            facts = deliver(self.facts, directory / "artifacts" / str(self._jobs) / "fact_cache", hosts)
        with tempfile.TemporaryFile() as transmitted:
            ansible_runner.interface.run(streamer="transmit", _output=transmitted, **parameters)
            transmitted.seek(0)
            words = ["ansible-runner", "worker", "--private-data-dir=/runner"]
            container = self._container(words, [], stdin=transmitted)
        # What the job sends back takes its place.
        shutil.rmtree(directory / "artifacts")
        return Job(self._jobs, directory, facts, container)

    def cancel(self, job: Job) -> None:
        """Cancel a job, which kills its container; what it would have sent at its end is lost."""
        parent = job.container.pid
        [first] = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        # With the first process of a container the kernel kills all the others.
        os.kill(int(first), signal.SIGKILL)

    def finish(self, job: Job, seen: Iterable[str] = (), timeout: float = 180) -> Outcome:
        """Take in what a job sends, after its first lines were read, and keep the facts of its hosts."""
        rest, _none = job.container.communicate(timeout=timeout)
        events: list[dict[str, Any]] = []
        done = ansible_runner.interface.run(
            streamer="process",
            _input=io.BytesIO("".join([*seen, rest]).encode()),
            private_data_dir=str(job.directory),
            ident=str(job.ident),
            quiet=True,
            # What it returns says whether ansible-runner keeps the event.
            event_handler=events.append,
        )
        # A job that was canceled sends none.
        if job.facts and job.facts.directory.parent.joinpath("rc").exists():
            collect(self.facts, job.facts)
        shutil.rmtree(job.directory)
        output = "\n".join(event["stdout"] for event in events if event.get("stdout"))
        if done.status == "error":
            output += f"\n{self._said(job.ident)}"
        code = {"successful": 0, "failed": 2}.get(done.status, 254)
        return Outcome(code, _COLOURS.sub("", output).replace("\r\n", "\n"), tuple(_results(events)))

    def _prepare(
        self,
        directory: Path,
        template: Mapping[str, Any],
        hosts: Sequence[str],
        extra: Mapping[str, Any],
        limit: str | None,
    ) -> dict[str, Any]:
        """Lay out the private data directory of a job; :returns: what ansible-runner is told beside it."""
        for name in ("inventory", "env", "cp", "artifacts"):
            (directory / name).mkdir(mode=0o700, parents=True)
        self._checked_out(directory / "project")
        inventory = json.dumps(_part(self.inventory, hosts))
        _write(directory / "inventory/hosts", f"#! /usr/bin/env python3\nprint({inventory!r})\n", 0o700)
        _write(directory / "env/extravars", yaml.safe_dump(dict(extra)))
        _write(directory / "env/cmdline", args2cmdline(*self._arguments(template, limit)))
        settings = {"job_timeout": template["timeout"], "suppress_ansible_output": True, "suppress_output_file": True}
        _write(directory / "env/settings", json.dumps(settings))
        return {
            "ident": self._jobs,
            "private_data_dir": str(directory),
            "playbook": template["playbook"],
            "inventory": str(directory / "inventory/hosts"),
            "passwords": self._passwords(),
            "suppress_env_files": True,
            "envvars": self._variables(directory),
            "ssh_key": self.credentials.ssh_key.read_text(),
            "fact_cache_type": "jsonfile" if template["use_fact_cache"] else "",
        }

    def _extra_variables(
        self, template: Mapping[str, Any], answers: Mapping[str, Any], previewed: Outcome | None
    ) -> dict[str, Any]:
        """What a template, a survey and an earlier job set; variables of the launch win over them."""
        questions = template.get("survey_spec", {}).get("spec", [])
        assert set(answers) <= {question["variable"] for question in questions}, "the survey asks no such thing"
        extra = {question["variable"]: question["default"] for question in questions}
        extra |= {**template.get("extra_vars", {}), **answers, "awx_job_id": self._jobs, "tower_job_id": self._jobs}
        if previewed is not None:
            extra |= previewed.of("Pass on what was previewed")["ansible_stats"]["data"]
        return extra

    def _arguments(self, template: Mapping[str, Any], limit: str | None) -> list[str]:
        words = ["--check"] if template["job_type"] == "check" else []
        words += ["-u", self.credentials.user]
        words += ["--become"] if template["become_enabled"] else []
        words += ["--diff"] if template.get("diff_mode") else []
        if self.credentials.become_password is not None:
            words += ["--become-method", "sudo", "--ask-become-pass"]
        for vault in self.credentials.vault_passwords:
            words += ["--vault-id", f"{vault}@prompt"] if vault else ["--ask-vault-pass"]
        words += [f"--forks={template['forks']}"]
        words += ["-l", limit] if limit else []
        words += ["-t", template["job_tags"]] if template.get("job_tags") else []
        words += [f"-{'v' * template['verbosity']}"] if template["verbosity"] else []
        return words

    def _passwords(self) -> dict[str, str]:
        become = self.credentials.become_password or ""
        vaults = self.credentials.vault_passwords
        answers = {
            "Enter passphrase for .*": "",
            "Bad passphrase, try again for .*": "",
            "sudo password.*": become,
            "SUDO password.*": become,
            "BECOME password.*": become,
            "SSH password": "",
            "Password": "",
            "Vault password": vaults.get("", ""),
            **{rf"Vault password \({vault}\)": password for vault, password in vaults.items() if vault},
        }
        return {rf"{prompt}:\s*?$": answer for prompt, answer in answers.items()}

    def _variables(self, directory: Path) -> dict[str, str]:
        paths = "/runner/requirements_collections:~/.ansible/collections:/usr/share/ansible/collections"
        return {
            "ANSIBLE_FORCE_COLOR": "True",
            "ANSIBLE_HOST_KEY_CHECKING": "False",
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
            "ANSIBLE_PARAMIKO_RECORD_HOST_KEYS": "False",
            "ANSIBLE_RETRY_FILES_ENABLED": "False",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": "/runner/cp",
            "ANSIBLE_COLLECTIONS_PATH": paths,
            "AWX_PRIVATE_DATA_DIR": str(directory),
            "AWX_HOST": "https://awx.example.org",
            "INVENTORY_ID": "1",
            "JOB_ID": str(self._jobs),
            "PROJECT_REVISION": "0" * 40,
            "MAX_EVENT_RES": "700000",
        }

    def _said(self, job: int) -> str:
        """What a container said beside what it sent."""
        return (self._directory / f"container-{job}.log").read_text()

    def _checked_out(self, directory: Path) -> Path:
        """A copy of the repository, as a job gets one."""
        ignore = shutil.ignore_patterns("cache", "state", "ansible-home", ".results.jsonl")
        return Path(shutil.copytree(self.repository.directory, directory, ignore=ignore))

    def _container(
        self, words: Sequence[str], binds: Iterable[tuple[Path, str]], *, stdin: Any
    ) -> subprocess.Popen[str]:
        """Start a container of the execution environment, whose user is none that it knows."""
        container = self._directory / f"container-{self._jobs}"
        command = self.image.command(
            [*self.image.entrypoint, *words],
            container,
            [
                *([(self.store, "/nix")] if self.store else []),
                *binds,
                *self._more,
                (COLLECTION, THERE),
                # What the tests' miniature of nixpkgs is made of.
                (NIXPKGS, "/nixpkgs"),
                (Path("/bin/busybox"), "/usr/bin/busybox"),
                (TESTS / "tools/startup", "/startup"),
            ],
            uid=UID,
            # No cache of the world's is asked.
            environment={"NIX_CONFIG": "substituters =", "NIX_PATH": "nixpkgs=/nixpkgs", "PYTHONPATH": "/startup"},
        )
        with container.with_suffix(".log").open("w") as log:
            return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=log, text=True)


def _part(inventory: Mapping[str, Any], hosts: Iterable[str]) -> dict[str, Any]:
    """An inventory with these hosts alone."""
    kept = set(hosts)
    parts = {
        name: {**group, "hosts": [host for host in group.get("hosts", []) if host in kept]}
        for name, group in inventory.items()
        if name != "_meta"
    }
    variables = inventory["_meta"]["hostvars"]
    return {**parts, "_meta": {"hostvars": {host: variables[host] for host in kept}}}


def _write(file: Path, text: str, mode: int = 0o600) -> None:
    file.touch(mode=mode)
    file.write_text(text, encoding="utf-8")


def _results(events: Iterable[Mapping[str, Any]]) -> Iterable[Result]:
    for event in events:
        data = event.get("event_data", {})
        if event["event"] == "runner_on_ok" or event["event"] in _STATUSES:
            result = data.get("res", {})
            status = _STATUSES.get(event["event"], "changed" if result.get("changed") else "ok")
            yield Result(data["host"], data["task"], status, result)
