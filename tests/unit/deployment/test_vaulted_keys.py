# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where ssh reads a private key that ansible-vault has encrypted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.nix.ops.plugins.plugin_utils.deployment.vaulted_keys import identity

SECRETS = [("team", VaultSecret(b"a secret of the team"))]


@pytest.fixture
def encrypted(tmp_path: Path) -> Path:
    """A key of the team's."""
    path = tmp_path / "web"
    path.write_bytes(VaultLib(SECRETS).encrypt(b"the key", vault_id="team"))
    return path


@pytest.fixture
def loader() -> DataLoader:
    """What reads files with the team's secret."""
    loader = DataLoader()
    loader.set_vault_secrets(SECRETS)
    return loader


def test_an_encrypted_key_is_read_from_memory_by_its_owner_alone(encrypted: Path, loader: DataLoader) -> None:
    path = identity(str(encrypted), loader)
    assert path is not None
    assert Path(path).read_text() == "the key\n"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.readlink(path).startswith("/memfd:")


def test_an_encrypted_key_is_not_offered_without_its_secret(encrypted: Path) -> None:
    assert identity(str(encrypted), DataLoader()) is None


def test_an_encrypted_key_is_not_offered_where_memory_has_no_files(
    encrypted: Path, loader: DataLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    assert identity(str(encrypted), loader) is None
