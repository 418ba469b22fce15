# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSH key pairs with which a deployment logs in to its machines.

A private key never stands where Nix could copy it into its store, which all users can read.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils import process
from ansible_collections.nix.ops.plugins.plugin_utils.awx import job
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import places
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed

_STORE = "/nix/store/"
_PUBLIC_KEY = re.compile(r"(?P<key>[a-z0-9@.-]+ [A-Za-z0-9+/=]{40,2000})(?P<comment> [ -~]*)?")
_VAULT = b"$ANSIBLE_VAULT;"

# Maximum size of a key file.
_LARGEST = 2**20

# Variables of a job of AWX, whose files are gone at its end.
_JOB = ("awx_job_id", "tower_job_id")

# The identities that ssh offers if none is named.
_DEFAULT_IDENTITIES = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")


def path_of(uuid: str, machine: str, directory: str | None = None) -> str:
    """Return the path of a machine's private key, which need not exist.

    :param uuid: the deployment's UUID.
    :param directory: an absolute path to keep the deployment's keys in; None for the default.
    :raises OpsError: if a private key must not be there.
    """
    place = Path(directory) if directory else places.keys(uuid)
    path = os.path.normpath(place.absolute() / machine)
    # ssh expands ${…} in a path, and has no way to escape it.
    if not path.isprintable() or "${" in path:
        raise OpsError(
            f"ssh can't be given the path {path!r} of a private key",
            next_step="Name another directory by the option 'ssh_keys'.",
        )
    if f"{os.path.realpath(path)}/".startswith(_STORE):
        raise OpsError(
            f"the private key {path} would be in the Nix store, where all users can read it",
            next_step="Name a directory outside of it by the option 'ssh_keys'.",
        )
    return path


def comment(machine: str, deployment: str) -> str:
    """Return the comment of a machine's key."""
    return f"nix.ops key of {machine} in {deployment}"


def generate(path: str, comment: str) -> str:
    """Make a key pair if it is missing, and return its public key.

    Several runs at once make one pair, and all return the same key.

    :param path: the path of the private key; the public key gets the same name with ``.pub``.
    :raises OpsError: if it can't be written, or there is something that is not a private key.
    """
    path = os.path.abspath(path)
    beside = f"{path}.pub"
    if "PRIVATE KEY" in _text(beside):
        raise OpsError(
            f"{beside} is a private key, where the public half of another one belongs",
            next_step="Rename one of the two machines.",
        )
    try:
        places.make_private(Path(path).parent)
        with tempfile.TemporaryDirectory(dir=os.path.dirname(path), prefix=".new-") as private:
            if not os.path.lexists(path):
                _make(private, comment)
                with suppress(FileExistsError):
                    os.link(os.path.join(private, "key"), path)
            public = public_key(path)
            if public is None:
                raise OpsError(f"{path} is a link to nowhere", next_step="Remove it.")
            if _text(beside) != f"{public}\n":
                new = Path(private, "public")
                new.write_text(f"{public}\n", encoding="utf-8")
                new.replace(beside)
    except OSError as error:
        raise OpsError(
            f"the SSH key pair {path} can't be written",
            output=str(error),
            state="the machine has no key of this deployment",
            next_step="Make its directory writable, or name another one by the option 'ssh_keys'.",
        ) from error
    return public


def public_key(path: str) -> str | None:
    """Return the public half of a private key in one line; None if there is no private key.

    Reads it from the ``.pub`` file if a passphrase or a vault protects the key.

    :raises OpsError: if it can't be read, or ssh would refuse the key.
    """
    path = os.path.abspath(path)
    begin = _begin(path)
    if begin is None:
        return None
    if begin.startswith(_VAULT):
        return _public_beside_protected(path)
    # -P keeps ssh-keygen from asking for a passphrase.
    told = _ssh_keygen(os.path.dirname(path), "-y", "-P", "", "-f", f"./{os.path.basename(path)}")
    if told.exit_code != 0:
        if "incorrect passphrase" in told.stderr:
            return _public_beside_protected(path)
        raise OpsError(
            f"{path} is not a private key that ssh can read",
            output=told.stderr,
            next_step="Move it away: the next deployment makes a new one.",
        )
    beside = _parse(_text(f"{path}.pub"))
    own = _parse(told.stdout)
    if own is None:
        raise OpsError(f"ssh-keygen gave no public key of {path}", output=told.stdout)
    # Some versions of ssh-keygen leave out the comment.
    return "".join(beside if beside and beside[0] == own[0] else own)


def why_not_kept(
    path: str, environment: Mapping[str, str], variables: Mapping[str, Any], what: str = "private key"
) -> str | None:
    """Return a sentence why a key that is written now would be lost; None if it would be kept.

    :param path: the path of the key.
    :param environment: the variables of the process.
    :param variables: the variables of the task.
    :param what: what the key is, for the sentence.
    """
    if job.job_directory(environment) is not None or any(name in variables for name in _JOB):
        return f"The files of an AWX job are gone at its end, and the {what} with them."
    existing = Path(os.path.abspath(path)).parent
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return f"The directory of the {what} can't be written: {existing}."
    return None


def ssh_options(path: str) -> list[str]:
    """Return the options with which ssh offers a private key beside all that it offers anyway.

    :returns: nothing if there is no private key that ssh can read by itself.
    """
    return offering(None if vault_id(path) or not os.path.isfile(path) else path)


def offering(identity: str | None) -> list[str]:
    """Return the options with which ssh offers the key at a path beside all that it offers anyway.

    :param identity: the path; None for no options.
    """
    if identity is None:
        return []
    # Once one identity is named, ssh no longer offers its own.
    return [word for one in (identity, *_default_identities()) for word in ("-o", f"IdentityFile={_quoted(one)}")]


def vault_id(path: str) -> str | None:
    """Return the vault id that a private key is encrypted with; None if it is not encrypted by ansible-vault.

    From version 1.2 of the format on, the first line ends with the vault id (Ansible's guide to vaults).
    """
    try:
        with open(path, "rb") as file:
            line = file.readline(_LARGEST)
    except OSError:
        return None
    if not line.startswith(_VAULT):
        return None
    label = line.decode("utf-8", "replace").strip().split(";")[3:4]
    return label[0] if label else "default"


def _default_identities() -> list[str]:
    # ssh looks in the home directory of the password database, not in $HOME, and complains of missing files.
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return []
    return [f"~/.ssh/{name}" for name in _DEFAULT_IDENTITIES if os.path.isfile(os.path.join(home, ".ssh", name))]


def _quoted(path: str) -> str:
    """Quote a path for ssh's configuration."""
    escaped = path.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _make(private: str, comment: str) -> None:
    made = _ssh_keygen(private, "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", "./key")
    if made.exit_code != 0:
        raise OpsError("ssh-keygen made no key pair", output=made.stderr, exit_code=made.exit_code)
    with open(os.path.join(private, "key"), "rb") as file:
        # The machine may get the public key before the private key would reach the disk.
        os.fsync(file.fileno())


def _begin(path: str) -> bytes | None:
    """Return the first bytes of a private key; None if the file is missing.

    :raises OpsError: if ssh would refuse the key.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            raise OpsError(f"{path} is not a private key", next_step="Move it away.")
        with open(path, "rb") as file:
            begin = file.read(len(_VAULT))
        mode = stat.S_IMODE(status.st_mode)
        # Encrypted keys may be world-readable. Git does not keep their mode.
        if begin != _VAULT and status.st_uid == os.getuid() and mode & 0o077:
            raise OpsError(
                f"others may read or write the private key {path} (mode {mode:04o}), and ssh refuses such a one",
                next_step=f"If nobody has read it: chmod 600 {path}",
            )
        return begin
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OpsError(f"the private key {path} can't be read", output=str(error)) from error


def _public_beside_protected(path: str) -> str:
    beside = _parse(_text(f"{path}.pub"))
    if beside is None:
        raise OpsError(
            f"the private key {path} is protected, and its public half is not in {path}.pub",
            next_step=f"Write the public key into {path}.pub.",
        )
    return "".join(beside)


def _parse(text: str) -> tuple[str, str] | None:
    """Return a public key and its comment; None if the text is not a public key."""
    found = _PUBLIC_KEY.fullmatch(text.rstrip("\n"))
    return (found["key"], found["comment"] or "") if found else None


def _text(path: str) -> str:
    if not os.path.isfile(path):
        return ""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_LARGEST)
    except OSError:
        return ""


def _ssh_keygen(cwd: str, *words: str) -> Completed:
    try:
        return process.run(["ssh-keygen", *words], cwd=cwd)
    except FileNotFoundError:
        raise OpsError(
            "ssh-keygen is not on the controller's PATH",
            state="nothing was changed",
            next_step="Install OpenSSH's client on the controller (Debian: apt install openssh-client).",
        ) from None
