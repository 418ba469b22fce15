# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests are worth something to a user only where they test what a user installs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils import errors

CHECKOUT = Path(__file__).parents[2]
INSTALLED = Path(os.environ["ANSIBLE_COLLECTIONS_PATH"]) / "ansible_collections" / "nix" / "ops"


def test_engines_come_from_the_installed_collection() -> None:
    assert Path(errors.__file__).resolve().is_relative_to(INSTALLED)
    assert (INSTALLED / "MANIFEST.json").is_file(), "installed from a tarball, not linked"
    assert INSTALLED.resolve() != CHECKOUT


def test_ansible_finds_the_installed_collection_alone() -> None:
    listed = subprocess.run(
        ["ansible-galaxy", "collection", "list", "nix.ops", "--format", "json"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert [Path(path) / "nix" / "ops" for path in json.loads(listed.stdout)] == [INSTALLED]


def test_tarball_holds_what_a_user_needs_and_nothing_of_the_tests() -> None:
    names = {path.name for path in INSTALLED.iterdir()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "meta", "plugins"} <= names
    assert not names & {"tests", "extensions", "Makefile", ".ci", ".git", ".venv", ".cache", "pyproject.toml"}
