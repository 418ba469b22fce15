# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs as AWX runs them: ansible-runner in a private data directory, with the inventory as a script."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from integration.project import Outcome, Project


def synchronized(project: Project, source: str) -> dict[str, Any]:
    """The inventory that a synchronization of a source keeps."""
    found = project.run("ansible-inventory", "-i", source, "--list", "--export", "--output", "inventory.json")
    assert found.exit_code == 0, found.output
    return dict(json.loads((project.directory / "inventory.json").read_text()))


def run_job(
    project: Project,
    playbook: str,
    inventory: Mapping[str, Any],
    *,
    job: int = 1,
    answers: Mapping[str, Any] | None = None,
    arguments: str = "",
    ssh_key: Path,
) -> Outcome:
    """Run a template's playbook with answers of its survey, in a directory that is gone afterwards.

    :param project: what the repository holds; the job works on a copy of it.
    :param inventory: what the synchronization kept, or a slice of it.
    :param arguments: what AWX adds to the command line, such as ``--check --diff``.
    :param ssh_key: the private key of the credential, which an agent gets.
    """
    directory = project.directory / f"job-{job}"
    keep = shutil.ignore_patterns("job-*", ".nix-ops", "cache", "state", "ansible-home", "cp")
    shutil.copytree(project.directory, directory / "project", ignore=keep)
    for name in ("inventory", "env", "cp"):
        (directory / name).mkdir(mode=0o700)
    script = directory / "inventory/hosts"
    script.write_text(f"#!/bin/sh\nprintf '%s' {shlex.quote(json.dumps(inventory))}\n")
    script.chmod(0o700)
    environment = {
        "AWX_PRIVATE_DATA_DIR": str(directory),
        "JOB_ID": str(job),
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_FORCE_COLOR": "True",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "ANSIBLE_PARAMIKO_RECORD_HOST_KEYS": "False",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(directory / "cp"),
        "HOME": str(directory),
        **{name: value for name, value in project.variables().items() if name not in os.environ or name == "PATH"},
    }
    values = {"awx_job_id": job, "tower_job_id": job, **(answers or {})}
    for name, text in {
        "envvars": json.dumps(environment),
        "extravars": json.dumps(values),
        "cmdline": arguments,
        "ssh_key": ssh_key.read_text(),
        "settings": json.dumps({"suppress_ansible_output": False, "fact_cache_type": ""}),
    }.items():
        file = directory / "env" / name
        file.touch(mode=0o600)
        file.write_text(text)
    try:
        return project.run("ansible-runner", "run", str(directory), "--playbook", playbook, "--ident", str(job))
    finally:
        shutil.rmtree(directory)
