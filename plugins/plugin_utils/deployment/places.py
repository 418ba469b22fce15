# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All places on the controller where deployments keep things.

They are outside of the network's directory, since a network may copy that directory into the Nix store, which all users
can read:

- ``STATE/keys/UUID/MACHINE``: private SSH keys
- ``STATE/known_hosts/UUID``: host keys that the user has accepted, by the names of the machines
- ``STATE/ssh_config/UUID``: a configuration of ssh for the machines, which ``nix.ops.ssh_config`` writes
- ``STATE/ssh_known_hosts/UUID``: the host keys for it, by the addresses of the machines
- ``STATE/facts/UUID``: the fact cache of a project, named by the ``ansible.cfg`` that ``nix.ops.create`` writes
- ``STATE/toplevels/UUID/MACHINE``: links to the toplevels that were built, which are GC roots
- ``STATE/deploys/UUID/DEPLOY/MACHINE``: links to the toplevels of earlier deploys, in the same way

STATE is ``$XDG_STATE_HOME/nix.ops``, by default ``~/.local/state/nix.ops``. Version 0.1.0 kept facts and links in
``.nix-ops`` beside the source.
"""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils.awx import job
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

# The directory of version 0.1.0, beside the source.
BESIDE = ".nix-ops"


def keys(uuid: str) -> Path:
    """Return the directory of a deployment's private SSH keys.

    :raises OpsError: if the user has no home directory.
    """
    return _expand(f"{_state()}/keys/{uuid}")


def known_hosts(uuid: str) -> Path:
    """Return the file of the host keys that the user has accepted for a deployment.

    :raises OpsError: if the user has no home directory.
    """
    return _expand(f"{_state()}/known_hosts/{uuid}")


def ssh_config(uuid: str) -> Path:
    """Return the file of a deployment's configuration of ssh. Its directory has nothing else.

    :raises OpsError: if the user has no home directory.
    """
    return _expand(f"{_state()}/ssh_config/{uuid}")


def ssh_known_hosts(uuid: str) -> Path:
    """Return the file of known hosts that a deployment's configuration of ssh names.

    :raises OpsError: if the user has no home directory.
    """
    return _expand(f"{_state()}/ssh_known_hosts/{uuid}")


def facts(uuid: str) -> str:
    """Return the directory of a project's fact cache as ``ansible.cfg`` names it, a tilde for the home directory.

    Each project has a cache of its own: two projects may have hosts of the same name.

    :param uuid: the UUID of the project's first deployment.
    """
    return f"{_state()}/facts/{uuid}"


def toplevels(uuid: str, name: str, source: str) -> Path:
    """Return the directory of the links to the toplevels of a deployment's machines.

    :param uuid: the deployment's UUID.
    :param name: the deployment's name.
    :param source: the path of the deployment's source.
    :raises OpsError: if the user has no home directory.
    """
    if job.job_directory() is not None:
        # Nothing persists in a job. The project's directory is certain to be writable there.
        return old_toplevels(name, source)
    return _expand(f"{_state()}/toplevels/{uuid}")


def deploys(uuid: str) -> Path:
    """Return the directory of the links to the toplevels of a deployment's earlier deploys.

    :raises OpsError: if the user has no home directory.
    """
    return _expand(f"{_state()}/deploys/{uuid}")


def old_toplevels(name: str, source: str) -> Path:
    """Return the directory where version 0.1.0 kept the links to toplevels."""
    return Path(os.path.dirname(source), BESIDE, "toplevels", name)


def is_old_facts(directory: str) -> bool:
    """Return whether a fact cache is where version 0.1.0 kept it."""
    return Path(directory).parts[-2:] == (BESIDE, "facts")


def is_facts(directory: str | Path) -> bool:
    """Return whether a fact cache is where an ``ansible.cfg`` of ``nix.ops.create`` has it, for whichever user."""
    return Path(directory).parts[-3:-1] == ("nix.ops", "facts")


def make_private(directory: str | Path) -> Path:
    """Make a directory and its missing parents for their owner alone.

    :param directory: a path, which may begin with a tilde.
    :raises OSError: if a directory can't be made.
    :raises OpsError: if the user has no home directory.
    """
    path = _expand(directory)
    if not path.is_dir():
        make_private(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    return path


def _state() -> str:
    given = os.environ.get("XDG_STATE_HOME")
    return f"{os.path.abspath(given) if given else '~/.local/state'}/nix.ops"


def _expand(path: str | Path) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise OpsError(
            "the user of this run has no home directory", next_step="Set XDG_STATE_HOME to a directory of the user."
        ) from error
