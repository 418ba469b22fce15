# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The execution environment: ansible-builder makes it, and a job in it deploys, whatever user it is run as."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from fleet import Machine
from integration.conftest import MachineFactory
from integration.containerfile import Image, built
from integration.networks import Network
from integration.project import BIN, NIXPKGS, TESTS, Outcome, Project
from integration.tasks import new_salt

pytestmark = pytest.mark.one_pair

INSTALLED = Path(os.environ["ANSIBLE_COLLECTIONS_PATH"].split(":")[0])
COLLECTION = INSTALLED / "ansible_collections/nix/ops"
THERE = "/usr/share/ansible/collections/ansible_collections/nix/ops"
# Some user that no image knows.
UID = 12345
# Its system is the same with and without a run that asks the machine.
BY_ITSELF = "deployment.provisionSSHKey = false;"


def ansible_builder(*words: str | Path, directory: Path) -> str:
    """Run ansible-builder; :returns: what it printed."""
    done = subprocess.run([BIN / "ansible-builder", *words], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ansible-builder makes of the definition, beside the collection's archive as a user has built it."""
    directory = tmp_path_factory.mktemp("checkout")
    shutil.copy(TESTS.parent / "execution-environment.yml", directory)
    [archive] = INSTALLED.parent.glob("nix-ops-*.tar.gz")
    shutil.copy(archive, directory)
    ansible_builder("create", "--output-filename", "Containerfile", directory=directory)
    return directory / "context"


@pytest.fixture(scope="module")
def image(context: Path) -> Image:
    """The image of that context; what its steps depend on of the collection is in ``meta``."""
    return built(context, uses=(COLLECTION / "meta").rglob("*"))


@dataclass
class Jobs:
    """Jobs in containers of an image, each in a fresh one.

    :param project: what is checked out; all of it is the user's that jobs run as.
    """

    image: Image
    project: Project
    count: int = 0

    def run(self, *words: str, store: Path | None = None, uid: int = UID) -> Outcome:
        """Run a job as AWX starts it: by the image's entry point, in the project's directory.

        :param store: the volume at ``/nix``; None for a store that goes with the container.
        """
        directory = self.project.directory
        (directory / "results.jsonl").unlink(missing_ok=True)
        for path in (directory, *directory.rglob("*")):
            os.chown(path, uid, 0, follow_symlinks=False)
        self.count += 1
        process = subprocess.Popen(
            self.image.command(
                [*self.image.entrypoint, "env", "--chdir=/runner/project", *words],
                directory.with_name(f"{directory.name}-job-{self.count}"),
                self._binds(store),
                uid=uid,
                environment=self._environment(),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self.project.finish(process)

    def _binds(self, store: Path | None) -> Sequence[tuple[Path, str]]:
        return [
            *([(store, "/nix")] if store else []),
            (self.project.directory, "/runner/project"),
            (COLLECTION, THERE),
            # What the tests' miniature of nixpkgs is made of, and the callback that counts.
            (NIXPKGS, "/nixpkgs"),
            (Path("/bin/busybox"), "/usr/bin/busybox"),
            (TESTS / "integration/callback_plugins", "/callbacks"),
        ]

    def _environment(self) -> dict[str, str]:
        return {
            # What AWX sets of a job that keeps facts.
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": "/runner/project/facts",
            # No cache of the world's is asked.
            "NIX_CONFIG": "substituters =",
            "NIX_PATH": "nixpkgs=/nixpkgs",
            "ANSIBLE_CALLBACK_PLUGINS": "/callbacks",
            "ANSIBLE_CALLBACKS_ENABLED": "results",
            "NIX_OPS_RESULTS": "/runner/project/results.jsonl",
        }


@pytest.fixture
def jobs(image: Image, project: Project, machine: MachineFactory) -> Jobs:
    """Jobs that deploy a live machine by ``deploy.yml``."""
    target = machine("target")
    configure(project, target)
    network = Network(project, target)
    network.define(BY_ITSELF, one=new_salt())
    project.write("deploy.yml", "- import_playbook: nix.ops.deploy\n")
    return Jobs(image, project)


def configure(project: Project, target: Machine) -> None:
    """Give the jobs a key of their own, as a credential of AWX does."""
    key = project.write("id_ed25519", target.identity_file.read_text())
    key.chmod(0o600)
    project.configure(private_key_file="id_ed25519", host_key_checking="false", inventory="example.network.yml")


def empty_volume(directory: Path) -> Path:
    """A volume that was never used, as Kubernetes mounts it with ``fsGroup: 0``."""
    directory.mkdir()
    directory.chmod(0o2775)
    return directory


def builds(outcome: Outcome) -> list[str]:
    """What a job built."""
    assert outcome.exit_code == 0, outcome.output
    return [line for line in outcome.output.splitlines() if "building '/nix/store/" in line]


def test_what_the_collection_needs() -> None:
    needed = yaml.safe_load(ansible_builder("introspect", INSTALLED, directory=INSTALLED))
    assert [line.split()[0] for line in needed["system"]] == [
        *("ca-certificates", "git", "git-core", "nix-bin", "openssh-client", "openssh-clients")
    ]
    assert needed["python"] == []


def test_the_steps_of_the_image(context: Path) -> None:
    steps = (context / "Containerfile").read_text().splitlines()
    assert 'ARG EE_BASE_IMAGE="docker.io/library/debian:trixie-slim"' in steps
    assert f"RUN sh {THERE}/meta/ee/setup.sh" in steps
    assert f"ENV ANSIBLE_CACHE_PLUGINS={THERE}/plugins/cache" in steps
    assert "ENV NIX_REMOTE=local" in steps
    assert "USER 1000" in steps


def test_a_job_deploys_as_any_user_and_a_kept_store_is_used_again(jobs: Jobs, tmp_path: Path) -> None:
    kept = empty_volume(tmp_path / "nix")
    first = jobs.run("ansible-playbook", "deploy.yml", store=kept)
    assert any("-nixos-system-target-" in line for line in builds(first))
    assert "target> deployment finished successfully" in first.output
    again = jobs.run("ansible-playbook", "deploy.yml", store=kept)
    assert builds(again) == []
    assert not again.changed
    afresh = jobs.run("ansible-playbook", "deploy.yml")
    assert len(builds(afresh)) == len(builds(first))
    # It is the same system, so the machine is left alone.
    assert afresh.statuses("Activate the system") == {"target": "ok"}
