# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets up AWX: objects as definitions say, then the inventory as the repository says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.awx import updates as updating
from ansible_collections.nix.ops.plugins.plugin_utils.awx.api import Api
from ansible_collections.nix.ops.plugins.plugin_utils.awx.manifest import Store
from ansible_collections.nix.ops.plugins.plugin_utils.awx.objects import Definitions, Objects
from ansible_collections.nix.ops.plugins.plugin_utils.awx.updates import Updates
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

# A source that Ansible's own plugins would read makes hosts of what is not meant as such.
_SUFFIX = ".network.yml"


@dataclass(frozen=True)
class Wish:
    """What to set up.

    :param name: what all names begin with.
    :param organization: the name of the organization.
    :param definitions: the lists of definitions.
    :param removes_all: whether to remove what was set up, instead of what the definitions say.
    :param new_secrets: whether to write secrets that AWX already has.
    :param within: seconds until an update of a project or an inventory is given up.
    """

    name: str
    organization: str
    definitions: Definitions
    removes_all: bool = False
    new_secrets: bool = False
    within: float = 600.0

    def check(self) -> None:
        """Refuse definitions that AWX would take and that do not work.

        :raises OpsError: naming what is missing.
        """
        if not self.removes_all and not any(self.definitions.values()):
            raise OpsError(
                "there is no definition, so all that was set up would be removed",
                state="nothing in AWX was touched",
                next_step="Give the definitions, or say state=absent.",
            )
        for project in self.definitions.get("controller_projects") or []:
            if not project.get("scm_url"):
                raise _missing("the address of the repository is missing", "awx_setup_scm_url")
        for environment in self.definitions.get("controller_execution_environments") or []:
            if not environment.get("image"):
                raise _missing("the image of the execution environment is missing", "awx_setup_image")
        for source in self.definitions.get("controller_inventory_sources") or []:
            if not str(source.get("source_path") or "").endswith(_SUFFIX):
                raise OpsError(
                    f"{source.get('source_path')!r} is not a source of a deployment, whose name ends in {_SUFFIX}",
                    state="nothing in AWX was touched",
                    next_step="Correct awx_setup_sources. A directory would be read file by file, and its other files"
                    " would become hosts.",
                )


@dataclass(frozen=True)
class Done:
    """What was set up.

    :param changes: a line for each change.
    :param hosts: the hosts of the inventory; None if it was not asked.
    """

    changes: list[str]
    hosts: list[str] | None


def set_up(api: Api, wish: Wish, *, check: bool, say: LineSink) -> Done:
    """Bring AWX to what is wished.

    :param check: whether to change nothing and only say what would change.
    :raises OpsError: if AWX refuses something, or an update fails.
    """
    wish.check()
    organization = _organization(api, wish.organization)
    store = Store(api, f"{wish.name} setup", int(organization["id"]))

    def objects(updates: Updates | None, say: LineSink) -> Objects:
        return Objects(api, organization, store.manifest, updates=updates, say=say, new_secrets=wish.new_secrets)

    # What will be made is noted down before it is, so that nothing is forgotten if the run is killed.
    trial = objects(None, say if check else lambda _line: None)
    try:
        trial.bring(wish.definitions)
    except OpsError as error:
        error.state = error.state or "nothing in AWX was touched"
        raise
    if check:
        return Done(trial.changes, None)
    if not wish.removes_all:
        store.save(store.manifest | trial.manifest)
    updates = Updates(api, wish.within, say)
    real = objects(updates, say)
    try:
        real.bring(wish.definitions)
        if wish.removes_all:
            store.remove()
            return Done(real.changes, None)
        store.save(real.manifest)
        return Done(real.changes, _synchronize(api, wish, real, updates))
    except OpsError as error:
        made = f"{len(real.changes)} changes were made" if real.changes else "nothing was changed"
        error.state = error.state or f"{made} in AWX; the same again continues"
        raise


def _organization(api: Api, name: str) -> dict[str, Any]:
    found = api.all("organizations/", name=name)
    if not found:
        raise OpsError(
            f"AWX has no organization {name!r}, or does not show it to this user",
            state="nothing in AWX was touched",
            next_step="Create it in AWX, or correct awx_setup_organization.",
        )
    return found[0]


def _synchronize(api: Api, wish: Wish, objects: Objects, updates: Updates) -> list[str]:
    inventories = set()
    for source in wish.definitions.get("controller_inventory_sources") or []:
        ident = objects.id_of("inventory_sources", str(source["name"]))
        updates.source(ident, str(source["name"]), changed=bool(objects.changes))
        inventories.add(objects.id_of("inventories", str(source["inventory"])))
    found = [host for inventory in sorted(inventories) for host in updating.hosts(api, inventory)]
    if inventories and not found:
        raise OpsError(
            "the inventory in AWX has no host after its synchronization",
            next_step="Look at the output of the synchronization in AWX, and at the network in the repository.",
        )
    return found


def _missing(what: str, variable: str) -> OpsError:
    return OpsError(what, state="nothing in AWX was touched", next_step=f"Set it: -e {variable}=…")
