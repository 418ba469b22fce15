# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The execution environment, as ansible-builder makes it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from integration.containerfile import Image, built
from integration.project import BIN, TESTS

INSTALLED = Path(os.environ["ANSIBLE_COLLECTIONS_PATH"].split(":")[0])
COLLECTION = INSTALLED / "ansible_collections/nix/ops"
# Where it is in the image.
THERE = "/usr/share/ansible/collections/ansible_collections/nix/ops"


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
