# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a controller needs before its first deployment."""

from __future__ import annotations

import grp
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import prerequisites
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

INSTALL = "ansible-playbook nix.ops.install"


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for programs, and an environment without settings of Nix."""
    for name in ("NIX_REMOTE", "NIX_CONFIG", "SSH_AUTH_SOCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NIX_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def program(directory: Path, name: str, says: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (directory / name).chmod(0o755)


@pytest.mark.parametrize("version", ["2.8.0", "2.26.3", "2.91.1", "3.0"])
def test_controller_that_can_build(bare: Path, version: str) -> None:
    program(bare, "nix-store", f"nix-store (Nix) {version}")
    (bare / "nix.conf").write_text("cores = 1\nbuild-users-group =\n# build-users-group = other\n")
    prerequisites.check({})


def test_controller_with_build_users(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare, "nix-store", "nix-store (Nix) 2.8.0")
    members = ["nixbld1"]
    monkeypatch.setattr(grp, "getgrnam", lambda name: SimpleNamespace(gr_mem=members if name == "nixbld" else []))
    prerequisites.check({})
    members.clear()
    with pytest.raises(OpsError, match="the group 'nixbld' of Nix's build users is missing or has no users"):
        prerequisites.check({})


def test_nix_is_missing() -> None:
    with pytest.raises(OpsError, match=f"nix-store is not on the controller's PATH(?s:.*)Next: {INSTALL}"):
        prerequisites.check({})


@pytest.mark.parametrize("says", ["nix-store (Nix) 2.3.7", "nix-store (Nix) 1.11", "hello", ""])
def test_nix_is_too_old(bare: Path, says: str) -> None:
    program(bare, "nix-store", says)
    with pytest.raises(OpsError, match="Nix 2.8 or later is needed, and nix-store is: " + says.replace("(", "\\(")[:9]):
        prerequisites.check({})


def test_build_users_are_missing(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare, "nix-store", "nix-store (Nix) 2.8.0")
    refusal = f"the group 'no-such-group' of Nix's build users is missing(?s:.*)Next: {INSTALL}"
    settings = {"NIX_CONFIG": "build-users-group = no-such-group"}
    with pytest.raises(OpsError, match=refusal):
        prerequisites.check(settings)
    prerequisites.check({"NIX_CONFIG": settings["NIX_CONFIG"] + "\nauto-allocate-uids = true"})
    prerequisites.check({**settings, "NIX_REMOTE": "ssh://elsewhere"})
    # The daemon builds for other users.
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    prerequisites.check(settings)


def test_what_a_login_needs(bare: Path) -> None:
    environment = {"HOME": str(bare), "PATH": str(bare)}
    [hint] = prerequisites.hints(environment)
    assert INSTALL in hint
    program(bare, "ssh", "")
    [hint] = prerequisites.hints(environment)
    assert "ssh-keygen -t ed25519" in hint
    assert prerequisites.hints({**environment, "SSH_AUTH_SOCK": "/agent"}) == []
    (bare / ".ssh").mkdir()
    (bare / ".ssh/config").write_text("Host *\n  IdentityFile ~/key\n")
    assert prerequisites.hints(environment) == []
    (bare / ".ssh/config").unlink()
    (bare / ".ssh/id_ed25519").write_text("")
    assert prerequisites.hints(environment) == []
