# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The links to the toplevels that the controller has built for a deployment, which are GC roots.

Version 0.1.0 kept them beside the source. An old link is removed once the new one exists, so that a toplevel always has
a root.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import places
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import DEPLOY
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network

_STORE = "/nix/store/"

# How many deploys the controller keeps.
_KEPT = 20


@dataclass(frozen=True)
class Links:
    """The links of some machines of a deployment.

    :param directory: where the links are.
    :param old: where version 0.1.0 kept them; None if the links are still there, or elsewhere by the user's choice.
    :param machines: the names of the machines.
    """

    directory: Path
    old: Path | None
    machines: Sequence[str]

    def paths(self) -> list[str]:
        """Return the path of each machine's link."""
        return [str(self.directory / machine) for machine in self.machines]

    def targets(self) -> list[str]:
        """Return where each machine's link leads, or its old link if there is no new one yet."""
        return [os.path.realpath(self._current(machine)) for machine in self.machines]

    def make_directory(self) -> None:
        """Make the directory of the links.

        :raises OpsError: if it can't be made.
        """
        if self.old is None:
            # The user's directory, or a job's: Nix makes it.
            return
        try:
            places.make_private(self.directory)
        except OSError as error:
            raise OpsError(
                f"the directory for links to toplevels, {self.directory}, can't be made",
                output=str(error),
                state="nothing was built",
                next_step="Set XDG_STATE_HOME to a directory that you may write, or name another one by 'out_link'.",
            ) from error

    def remove_old(self) -> None:
        """Remove the old links of machines that have a new one, and directories that are empty then."""
        if self.old is None:
            return
        # The user may not be allowed to write there. Two roots do no harm.
        with suppress(OSError):
            for machine in self.machines:
                if (self.directory / machine).is_symlink() and _is_root(self.old / machine):
                    (self.old / machine).unlink()
            for directory in (self.old, self.old.parent):
                directory.rmdir()

    def _current(self, machine: str) -> Path:
        new = self.directory / machine
        if self.old is not None and not new.is_symlink() and _is_root(self.old / machine):
            return self.old / machine
        return new


def links(network: Network, source: str, machines: Sequence[str]) -> Links:
    """Return the links of machines at the place of their deployment.

    :param source: the path of the deployment's source.
    :raises OpsError: if the user has no home directory.
    """
    directory, old = places.toplevels(network.uuid, network.name, source), places.old_toplevels(network.name, source)
    return Links(directory, None if directory == old else old, machines)


def keep(uuid: str, deploy: str, machines: Mapping[str, str], env: Mapping[str, str]) -> None:
    """Keep the toplevels of a deploy on the controller, and forget all but the latest deploys.

    :param machines: the toplevel of each machine.
    :raises OpsError: if a link can't be made.
    """
    try:
        directory = places.make_private(places.deploys(uuid) / deploy)
    except OSError as error:
        raise OpsError(
            f"the directory for links to the systems of {deploy} can't be made", output=str(error)
        ) from error
    for machine, toplevel in machines.items():
        link = str(directory / machine)
        argv = ["nix-store", "--indirect", "--add-root", link, "--realise", toplevel]
        nix.lines(argv, f"the link {link} could not be made", env=env)
    # What can't be removed does no harm.
    with suppress(OSError):
        for old in sorted(one for one in directory.parent.iterdir() if DEPLOY.fullmatch(one.name))[:-_KEPT]:
            for link_of_old in old.iterdir():
                link_of_old.unlink()
            old.rmdir()


def kept(uuid: str, machine: str) -> frozenset[str]:
    """Return the toplevels of earlier deploys that the controller keeps of a machine."""
    try:
        links = list(places.deploys(uuid).glob(f"*/{escape(machine)}"))
    except OpsError:
        # A user without a home directory keeps nothing.
        return frozenset()
    return frozenset(os.path.realpath(link) for link in links if link.exists() and _is_root(link))


def _is_root(path: Path) -> bool:
    return path.is_symlink() and os.readlink(path).startswith(_STORE)
