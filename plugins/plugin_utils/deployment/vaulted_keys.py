# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decrypts private keys of ansible-vault, for the current run alone."""

from __future__ import annotations

import os
from functools import cache

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import ssh_keys


def identity(path: str, loader: DataLoader) -> str | None:
    """Return the path where ssh can read a private key; None if it can't.

    :param path: the path of the private key, encrypted or not.
    :param loader: Ansible's loader, which has the secrets of ansible-vault.
    """
    if ssh_keys.vault_id(path) is None:
        return path if os.path.isfile(path) else None
    key = _decrypted(path, loader)
    # Only Linux has memfd_create.
    return _in_memory(key) if key and hasattr(os, "memfd_create") else None


def what_is_missing(path: str, loader: DataLoader) -> str | None:
    """Return a sentence that names the secret this run lacks for a private key; None if it lacks none."""
    vault_id = ssh_keys.vault_id(path)
    if vault_id is None or _decrypted(path, loader):
        return None
    return (
        f"The private key {path} was not offered: it is encrypted with the vault id {vault_id!r}, and this run has no"
        f" secret that opens it (--vault-id {vault_id}@prompt, or a vault credential of AWX with that id)."
    )


def _decrypted(path: str, loader: DataLoader) -> str | None:
    try:
        return str(loader.get_text_file_contents(path))
    except AnsibleError:
        return None


@cache
def _in_memory(key: str) -> str:
    """Keep a private key in the memory of this process alone.

    The kernel frees it with the process, and hides the path from other users: memfd_create(2), proc_pid_fd(5).

    :returns: a path that child processes can read.
    """
    descriptor = os.memfd_create("nix-ops-key")
    # ssh refuses a key that others may read, and memfd_create makes files with mode 0777.
    os.fchmod(descriptor, 0o600)
    with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
        file.write(key if key.endswith("\n") else f"{key}\n")
    return f"/proc/{os.getpid()}/fd/{descriptor}"
