# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the actions share that read or write the deployment state of a machine."""

from __future__ import annotations

from abc import ABC
from dataclasses import replace
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import fact_cache
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import record as records
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import DamagedState, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost


class StateAction(OpsAction, ABC):
    """An action on a machine of which something is remembered."""

    def cached_state(self, uuid: str, *, keeps: bool = True) -> State | None:
        """Give what the fact cache has of the machine.

        :param keeps: whether the cache has to be one that keeps.
        :raises OpsError: where it has to and would forget, or a newer version of the collection wrote it.
        """
        try:
            fact_cache.check()
            known = fact_cache.entry(self.host)
        except OpsError:
            if keeps:
                raise
            return None
        try:
            return states.read(known.get(uuid), uuid)
        except DamagedState as damage:
            self.live()(f"what the fact cache has of it is damaged ({damage}): the machine's own record counts")
            return None

    def state_fact(self, state: State) -> dict[str, Any]:
        """Give what has Ansible keep a state as a fact, beside those of the host's other deployments.

        :returns: nothing where the cache is gone meanwhile, since Ansible would end the run over it; the machine's own
            record has the state.
        """
        try:
            others = fact_cache.entry(self.host)
        except OpsError as failure:
            return self.no_fact(failure)
        return {"ansible_facts": {fact_cache.FACT: {**others, state.uuid: states.as_json(state)}}}

    def no_fact(self, failure: OpsError) -> dict[str, Any]:
        """Give no fact, and warn of it."""
        self.warn(f"{self.host}: what is remembered of it is not in the fact cache: {failure}")
        return {}

    def write_record(self, state: State) -> State:
        """Write the machine's own record; where that fails the cache alone has the news, until the next run.

        :returns: what was written.
        """
        try:
            machine = self.machine()
            self.stay()
            return records.write(machine, state)
        except (ConnectionLost, OpsError) as failure:
            self.warn(
                f"{self.host}: its own record could not be written: {failure}\n"
                "The fact cache has what it would say, and the next deployment writes it."
            )
            return replace(state, revision=state.revision + 1)
