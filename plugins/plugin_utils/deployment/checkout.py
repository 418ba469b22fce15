# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells which Git revision of its network a deploy is of, who runs it, and whether a machine runs a later one."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils import process
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import LONGEST_ORIGIN, REVISION, Activated
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

# Variables that would lead Git to another repository than the one around the directory, as in a hook of Git.
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR")

# A repository's own configuration must not run programs (git-config(1)).
_NO_PROGRAMS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")

# In a partial clone, Git would fetch a commit that it lacks. The machine names it, and a server may never answer.
_OFFLINE = "GIT_ALLOW_PROTOCOL=none"

# Characters of a revision in messages.
_SHORT = 8


@dataclass(frozen=True)
class Checkout:
    """The Git work tree that a network is in.

    :param directory: the network's directory.
    :param revision: the commit that is checked out.
    :param modified: whether files that Git tracks have changes that are not committed.
    """

    directory: str
    revision: str
    modified: bool

    @property
    def short(self) -> str:
        """The first characters of the revision, for people."""
        return self.revision[:_SHORT]


class Relation(Enum):
    """How the revision that a machine runs relates to the one that is checked out."""

    NOT_LATER = auto()
    LATER = auto()
    UNKNOWN = auto()


def find(directory: str) -> Checkout | None:
    """Return the work tree around a directory; None without one, without Git, or before the first commit."""
    revision = _git(directory, "rev-parse", "--verify", "--quiet", "HEAD")
    if revision is None or not REVISION.fullmatch(revision):
        return None
    # As Nix counts it for a flake: files that Git does not track are no change.
    changes = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return Checkout(directory, revision, changes != "")


def relation(checkout: Checkout, revision: str) -> Relation:
    """Compare a revision with the one that is checked out.

    :param revision: the commit that a machine was deployed from.
    """
    if revision == checkout.revision:
        return Relation.NOT_LATER
    if _git(checkout.directory, "cat-file", "-e", f"{revision}^{{commit}}") is None:
        # A shallow clone has only the latest commits.
        is_shallow = _git(checkout.directory, "rev-parse", "--is-shallow-repository") == "true"
        return Relation.NOT_LATER if is_shallow else Relation.UNKNOWN
    is_older = _git(checkout.directory, "merge-base", "--is-ancestor", checkout.revision, revision) is not None
    return Relation.LATER if is_older else Relation.NOT_LATER


def check(checkout: Checkout | None, deployed: Activated | None, machine: str) -> None:
    """Refuse to deploy an older revision than the machine was last deployed from.

    :param deployed: the machine's last activation.
    :param machine: the machine's name, for messages.
    :raises OpsError: if the machine's revision is later than the one that is checked out, or not in the repository.
    """
    if checkout is None or deployed is None or deployed.revision is None:
        return
    match relation(checkout, deployed.revision):
        case Relation.NOT_LATER:
            return
        case Relation.LATER:
            what, step = "a later revision", "Update the repository (git pull)"
        case Relation.UNKNOWN:
            what, step = "a revision that is not in this repository", "Get it (git fetch), and merge it"
    deployed_from = describe(deployed.revision, deployed.modified, deployed.origin)
    raise OpsError(
        f"the machine was deployed from {what}, {deployed_from}; {checkout.short} is checked out here",
        machine=machine,
        state="nothing was touched",
        next_step=f"{step}. To replace what it runs all the same, give -e deploy_older=true.",
    )


def describe(revision: str | None, modified: bool, origin: str | None) -> str:
    """Return from which revision and by whom a machine was deployed, for people; empty if neither is known."""
    what = (revision or "")[:_SHORT]
    if what and modified:
        what += " with changes"
    return f"{what} by {origin}".strip() if origin else what


def origin(variables: Mapping[str, Any]) -> str:
    """Return who runs this, and where: ``USER@HOST``, or the user and the job of AWX.

    :param variables: the variables of the task. AWX sets its own in each job.
    """
    for product in ("awx", "tower"):
        if f"{product}_job_id" in variables:
            user = variables.get(f"{product}_user_name", "a schedule")
            return _plain(f"{user} in job {variables[f'{product}_job_id']}")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # The user of a container may have no entry in passwd(5).
        user = str(os.getuid())
    return _plain(f"{user}@{socket.gethostname()}")


def _plain(text: str) -> str:
    return re.sub("[^ -~]", "?", text)[:LONGEST_ORIGIN]


def _git(directory: str, *words: str) -> str | None:
    """Run Git in a directory; return what it printed, or None if it failed or is not installed."""
    unset = [word for name in _ELSEWHERE for word in ("-u", name)]
    done = process.run(["env", *unset, _OFFLINE, "git", "--no-optional-locks", *_NO_PROGRAMS, "-C", directory, *words])
    return done.stdout.strip() if done.exit_code == 0 else None
