# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a configuration of OpenSSH for the machines of deployments."""

from __future__ import annotations

import os
import shlex
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_SSH_CONFIG
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import places, ssh_config, ssh_keys
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError


class ActionModule(OpsAction):
    """The action behind ``nix.ops.deployment_ssh_config``."""

    SPECIFICATION = DEPLOYMENT_SSH_CONFIG
    _requires_connection = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Write a file for each deployment of the inventory."""
        there = ssh_config.of_inventory(self.variables["hostvars"])
        if not there:
            raise OpsError(
                "the inventory has no machine of a network",
                next_step="Name a network with -i, or list what there is with nix.ops.list.",
            )
        found, diffs = [], []
        for uuid, (name, machines) in sorted(there.items(), key=lambda one: one[1][0]):
            place = str(places.ssh_config(uuid))
            if why := ssh_keys.why_not_kept(place, os.environ, self.variables, "configuration of ssh"):
                raise OpsError(why, state="nothing was written", next_step="Run this on your own computer.")
            wanted = ssh_config.configure(name, uuid, machines, ssh_config.defaults(), self.warn)
            written = ssh_config.write(uuid, wanted, dry=self.check)
            for note in written.notes:
                self.warn(note)
            self._tell(name, sorted(machines), written)
            found.append(
                {
                    "deployment": name,
                    "uuid": uuid,
                    "path": written.path,
                    "machines": sorted(machines),
                    "changed": written.changed,
                    "notes": list(written.notes),
                }
            )
            diffs.append(
                {
                    "before_header": written.path,
                    "after_header": written.path,
                    "before": written.before,
                    "after": written.after,
                }
            )
        changed = any(one["changed"] for one in found)
        return {"changed": changed, "files": found, **({"diff": diffs} if self.wants_diff else {})}

    def _tell(self, name: str, machines: list[str], written: ssh_config.Written) -> None:
        say = self.live(name)
        what = "would write" if self.check else "wrote"
        say(f"{what} {written.path}" if written.changed else f"{written.path} is up to date")
        say(f"use it as: ssh -F {shlex.quote(written.path)} {machines[0]}")
        say(f"or, for plain ssh, at the top of ~/.ssh/config: Include {os.path.dirname(written.path)}/*")
