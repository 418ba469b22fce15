# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private keys that ansible-vault has encrypted, decrypted with the secrets of this run and for this run alone."""

from __future__ import annotations

import os
from functools import cache

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import ssh_keys


def identity(path: str, loader: DataLoader) -> str | None:
    """Give the path at which ssh can read a private key; None where there is none that it could read.

    :param path: of the private key.
    :param loader: has the secrets of ansible-vault.
    """
    if ssh_keys.vault_id(path) is None:
        return path if os.path.isfile(path) else None
    key = _decrypted(path, loader)
    # Only Linux has such a file.
    return _in_memory(key) if key and hasattr(os, "memfd_create") else None


def what_is_missing(path: str, loader: DataLoader) -> str | None:
    """Tell in a sentence which secret this run lacks for a private key; None where it lacks none."""
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
    """Keep a private key in this process' memory alone.

    The kernel forgets it with the process, and shows the path to no other user: memfd_create(2), proc_pid_fd(5).

    :returns: a path that this process' children can read.
    """
    descriptor = os.memfd_create("nix-ops-key")
    # ssh refuses a key that others may read, and such a file begins with 0777.
    os.fchmod(descriptor, 0o600)
    with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
        file.write(key if key.endswith("\n") else f"{key}\n")
    return f"/proc/{os.getpid()}/fd/{descriptor}"
