# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells what a NixOS machine runs."""

from __future__ import annotations

from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_INFO
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description


class ActionModule(OpsAction):
    """The action behind ``nix.ops.nixos_info``."""

    SPECIFICATION = NIXOS_INFO

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Ask the machine once."""
        description.check_profile(options["profile"])
        found = description.describe(self.transport.machine(), profile=options["profile"], generations=True)
        return {"changed": False, **description.as_json(found)}
