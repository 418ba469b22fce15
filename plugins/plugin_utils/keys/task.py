# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delivers keys for a task of Ansible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.keys.delivery import Delivery, Task, of_options
from ansible_collections.nix.ops.plugins.plugin_utils.machine import host_keys


class KeysAction(OpsAction):
    """An action that delivers keys."""

    def delivery(self, options: Mapping[str, Any]) -> Delivery:
        """Return the delivery of the host's keys.

        :param options: the options of keys.
        :raises OpsError: if keys lack contents, or contents have no key.
        """
        if options["definitions"] is None:
            options = {**options, "definitions": self._definitions()}
        task = Task(
            self.transport.name,
            self.transport.machine,
            self.variables,
            str(self._task._uuid),
            self._loader.load_from_file,
            self.environment,
            self.live(),
            host_keys.is_checked(self.transport.connection),
        )
        return of_options(options, task)

    def _definitions(self) -> Mapping[str, Any]:
        """Return the keys that the inventory has."""
        # There may be hundreds, and Ansible copies and searches each of an option.
        found = self.variables.get("nix_deployment_keys") or {}
        return found if isinstance(found, Mapping) else self._templar.template(found)
