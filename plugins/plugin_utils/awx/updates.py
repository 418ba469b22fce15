# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates projects and synchronizes inventories in AWX, and waits for them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.awx.api import Api
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

_RUNNING = ("new", "pending", "waiting", "running")
# Lines of a job's output that a message shows.
_LINES = 40
# Seconds between two questions: at first, and at most.
_SOON, _LATER = 0.2, 3.0


class Updates:
    """The updates of one setup.

    :param within: seconds until an update is given up.
    :param say: called with lines that say what is waited for.
    """

    def __init__(self, api: Api, within: float, say: LineSink) -> None:
        self._api = api
        self._within = within
        self._say = say
        self._updated: set[int] = set()

    def project(self, project: Mapping[str, Any], *, changed: bool) -> None:
        """Update a project that was changed or whose last update failed, so that AWX knows its playbooks.

        :raises OpsError: if the update fails, or does not end in time.
        """
        ident = int(project["id"])
        now = self._api.get(f"projects/{ident}/")
        if not changed and now["status"] == "successful":
            return
        self._update("projects", ident, str(project["name"]), "update", now)
        self._updated.add(ident)

    def playbook(self, project: int, name: str, playbook: str) -> None:
        """Update a project once if AWX does not know one of its playbooks."""
        if project not in self._updated and playbook not in self._api.get(f"projects/{project}/playbooks/"):
            self._update("projects", project, name, "update", {})
            self._updated.add(project)

    def source(self, ident: int, name: str, *, changed: bool) -> None:
        """Synchronize an inventory source, if anything was changed or the last time failed.

        :raises OpsError: with Nix's own message if it fails, or if it does not end in time.
        """
        now = self._api.get(f"inventory_sources/{ident}/")
        if changed or now["status"] != "successful":
            self._update("inventory_sources", ident, name, "synchronization", now)

    def _update(self, path: str, ident: int, name: str, word: str, now: Mapping[str, Any]) -> None:
        self._say(f"waiting for the {word} of {name}...")
        job = (now.get("summary_fields") or {}).get("current_job") or {}
        # AWX updates a project by itself whose repository is new.
        if now.get("status") not in _RUNNING or not job:
            started = self._api.post(f"{path}/{ident}/update/", {})
            job = {"id": started.get("id") or started.get("project_update") or started.get("inventory_update")}
        jobs = "project_updates" if path == "projects" else "inventory_updates"
        status = self._wait(f"{jobs}/{job['id']}/", f"the {word} of {name}")
        if status != "successful":
            raise self._failed(f"{jobs}/{job['id']}/", f"the {word} of {name} ended: {status}", path)

    def _wait(self, url: str, what: str) -> str:
        end, pause = time.monotonic() + self._within, _SOON
        while (status := str(self._api.get(url)["status"])) in _RUNNING:
            if time.monotonic() > end:
                raise OpsError(
                    f"{what} has not ended in {self._within:g} seconds (status: {status})",
                    next_step="Look at it in AWX. If it stays pending or waiting, AWX has no dispatcher or no instance:"
                    " look at the topology, and at AWX's services. awx_setup_update_timeout gives it more time.",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, _LATER)
        return status

    def _failed(self, url: str, what: str, path: str) -> OpsError:
        told = self._api.get(url)
        lines = self._api.text(f"{url}stdout/").rstrip().splitlines()[-_LINES:]
        more = [str(one) for one in (told.get("job_explanation"), told.get("result_traceback")) if one]
        next_step = "Correct awx_setup_scm_url, awx_setup_scm_branch or awx_setup_scm_credential, then set up again."
        if path != "projects":
            next_step = (
                "Correct the network in the repository, push it, then set up again. The same on a computer of yours:"
                " ansible-inventory --list -i SOURCE"
            )
        return OpsError(what, output="\n".join([*lines, *more]), next_step=next_step)


def hosts(api: Api, inventory: int) -> list[str]:
    """Return the names of the hosts of an inventory."""
    return sorted(str(one["name"]) for one in api.all(f"inventories/{inventory}/hosts/"))
