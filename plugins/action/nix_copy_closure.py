# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies closures between the controller and a host."""

from __future__ import annotations

from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIX_COPY_CLOSURE
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.store import copy


class ActionModule(OpsAction):
    """The action behind ``nix.ops.nix_copy_closure``."""

    SPECIFICATION = NIX_COPY_CLOSURE

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Copy what the receiving store lacks."""
        paths = options["paths"]
        if options["gc_root"] and options["direction"] == "from":
            raise OpsError("'gc_root' is a link on the host, and nothing goes there", next_step="Leave it out.")
        self.transport.expect(options["expected"])
        transport = self.copy_transport(self.transport.machine(), options)
        if self.check:
            would = copy.would_push if options["direction"] == "to" else copy.would_pull
            return _answer(would(transport, paths))
        if options["sign_key_file"]:
            copy.sign(paths, options["sign_key_file"], environment=self.environment)
        say = self.live()
        signatures = options["direction"] == "from" and options["require_signatures"]
        how = copy.CopyOptions(options["substitutes"], options["compress"], signatures)
        if options["direction"] == "to":
            copied = copy.push(transport, paths, options=how, gc_root=options["gc_root"], on_line=say)
        else:
            copied = copy.pull(transport, paths, options=how, on_line=say)
        if copied.paths:
            say("closures copied successfully")
        return _answer(copied)


def _answer(copied: copy.Copied) -> dict[str, Any]:
    return {"changed": bool(copied.paths), "paths": list(copied.paths), "bytes": copied.size}
