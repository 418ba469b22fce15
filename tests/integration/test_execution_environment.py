# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The execution environment: ansible-builder makes it, and what it takes is in it."""

from __future__ import annotations

from pathlib import Path

import yaml

from integration.execution_environment import INSTALLED, THERE, ansible_builder, context

__all__ = ["context"]


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
