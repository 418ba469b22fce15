# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks whether a NixOS machine is up and well."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_CHECK
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import checking, fact_cache, preparation
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.checking import Limits
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.preparation import Subject
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, first_line
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description, host_keys, unreachable
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost

# The column beside the note says so.
_UNREACHABLE = "the machine can't be reached: "


class ActionModule(OpsAction):
    """The action behind ``nix.ops.nixos_check``."""

    SPECIFICATION = NIXOS_CHECK

    # Whether the machine was deployed once; None if it is not of a deployment.
    _exists: bool | None = None
    _is_asking = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Ask the machine once, and judge what it answers."""
        limits = Limits(options["disk_fill"], options["clock_tolerance"])
        limits.check()
        subject = None
        if options["uuid"] is not None:
            subject = Subject(options["uuid"], options["deployment"], options["machine"])
        cached = None
        if subject:
            cached = fact_cache.read_state(self.host, subject.uuid, has_to_keep=False, on_line=self.live())
            self._exists = cached is not None and bool(cached.revision or cached.activations)
        self._is_asking = True
        began = time.time()
        found, state = self._ask(subject, cached)
        ended = time.time()
        clock = found.checkup.clock if found.checkup else 0
        is_checked = host_keys.is_checked(self.transport.connection)
        return {
            "changed": False,
            **checking.of_answer(
                found,
                state,
                limits,
                off=checking.clock_off(clock, began, ended),
                host_key=None if is_checked is None else "known" if is_checked else "unchecked",
            ),
        }

    def _ask(self, subject: Subject | None, cached: State | None) -> tuple[Description, State | None]:
        machine, say = self.transport.machine(), self.live()
        if subject is None:
            return description.describe(machine, check=True), None
        found, record = preparation.reach(
            machine, self.transport.addresses, subject, timeout=0, on_line=say, check=True
        )
        return found, preparation.join(cached, found, record, subject, on_line=say)

    def describe_failure(self, error: OpsError) -> dict[str, Any]:
        """Add the verdict on a machine that lets nobody in, or does not answer as a machine does."""
        found = super().describe_failure(error)
        if not self._is_asking:
            return found
        return {**found, **checking.of_silence(exists=self._exists, up=True, why=first_line(error.what))}

    def describe_unreachable(self, lost: ConnectionLost) -> dict[str, Any]:
        """Add the verdict on a machine that can't be reached."""
        found = super().describe_unreachable(lost)
        up, host_key = unreachable.is_up(lost), found.get("host_key")
        why = first_line(found["msg"]).removeprefix(f"{self.transport.name}: ").removeprefix(_UNREACHABLE)
        return {**found, **checking.of_silence(exists=self._exists, up=up, host_key=host_key, why=why)}
