# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deletes old generations of a NixOS machine and collects garbage there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_GC
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import history
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import record as records
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.history import Past
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import collection, description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.collection import Freed
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Description, Generation


class ActionModule(OpsAction):
    """The action behind ``nix.ops.nixos_gc``."""

    SPECIFICATION = NIXOS_GC

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Decide what may be deleted, delete it and collect; in check mode only say what would be deleted."""
        description.check_profile(options["profile"])
        age = None if options["older_than"] is None else collection.read_age(options["older_than"])
        machine = self.transport.machine()
        found = description.describe(machine, profile=options["profile"], record=options["deployment"])
        if found.activating:
            raise OpsError(
                "an activation is at work there",
                machine=machine.name,
                state="nothing was deleted",
                next_step="Wait for it to end, then run the same again.",
            )
        chosen = collection.deletable(
            found.generations,
            found.standing,
            self._needed(found, options["deployment"]),
            keep=options["keep"],
            older_than=age,
            now=time.time(),
        )
        if self.check:
            self._say("would be deleted", chosen)
            return _answer(chosen, Freed(), changed=bool(chosen))
        self.transport.forbid_retries()
        freed = collection.collect(
            machine,
            options["profile"],
            [one.number for one in chosen],
            on_line=self.live(),
            patience=options["reconnect_timeout"],
            within=options["timeout"],
        )
        # The machine may have kept some of them.
        left = {one.number for one in description.describe(machine, profile=options["profile"]).generations}
        deleted = [one for one in chosen if one.number not in left]
        self._say("were deleted", deleted)
        return _answer(deleted, freed, changed=bool(deleted or freed.paths))

    def _needed(self, found: Description, uuid: str | None) -> set[str]:
        """Return the toplevels that a rollback needs."""
        record = records.read(found.record, uuid) if uuid else None
        state = record.state if record else None
        return history.protected(Past(found.standing, state.activations if state else (), found.generations))

    def _say(self, what: str, generations: Sequence[Generation]) -> None:
        numbers = ", ".join(str(one.number) for one in generations)
        self.live()(f"these generations {what}: {numbers}" if numbers else f"no generations {what}")


def _answer(generations: Sequence[Generation], freed: Freed, *, changed: bool) -> dict[str, Any]:
    return {
        "changed": changed,
        "generations": [
            {"number": one.number, "toplevel": one.toplevel, "created": one.created} for one in generations
        ],
        "paths": freed.paths,
        "bytes": freed.size,
    }
