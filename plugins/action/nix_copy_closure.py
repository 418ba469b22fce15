# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies closures between the controller and a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIX_COPY_CLOSURE
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import connection as connections
from ansible_collections.nix.ops.plugins.plugin_utils.machine import other_host
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import UNTOUCHED
from ansible_collections.nix.ops.plugins.plugin_utils.store import build, copy, via


class ActionModule(OpsAction):
    """The action behind ``nix.ops.nix_copy_closure``."""

    SPECIFICATION = NIX_COPY_CLOSURE

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Copy what the receiving store lacks."""
        paths = options["paths"]
        _check(options)
        self.transport.expect(options["expected"])
        transport = self.copy_transport(self.transport.machine(), options)
        if options["derivations"]:
            return _answer(self._build(transport, options))
        if options["source"]:
            return _answer(self._relay(transport, options))
        if options["via"] and options["via"] != self.transport.name and not self.check:
            return _answer(self._via(transport, options))
        if self.check:
            would = copy.would_push if options["direction"] == "to" else copy.would_pull
            return _answer(would(transport, paths))
        if options["sign_key_file"]:
            copy.sign(paths, options["sign_key_file"], environment=self.environment)
        say = self.live()
        signatures = options["direction"] == "from" and options["require_signatures"]
        how = copy.CopyOptions(options["substitutes"], options["compress"], signatures)
        if options["direction"] == "to":
            # The relay's own system is sent at the same time as those of the others.
            push = via.fill if options["via"] else copy.push
            copied = push(transport, paths, options=how, gc_root=options["gc_root"], on_line=say)
        else:
            copied = copy.pull(transport, paths, options=how, on_line=say)
        if copied.paths:
            say("closures copied successfully")
        return _answer(copied)

    def _relay(self, transport: copy.Transport, options: Mapping[str, Any]) -> copy.Copied:
        """Copy from another host's store."""
        paths, name = options["paths"], options["source"]
        lacking = copy.missing(transport.machine, paths, gc_root=None if self.check else options["gc_root"]).paths
        if self.check or not lacking:
            return copy.Copied(lacking, 0)
        host = self.other_host(name)
        with other_host.named(f"{name}, which has the closure,", UNTOUCHED):
            source = copy.find_source(self.copy_transport(host.machine(), options, host), paths)
        how = copy.CopyOptions(options["substitutes"], options["compress"])
        copied = copy.relay(source, transport, paths, options=how, on_line=self.live())
        self.live()("closures copied successfully")
        return copied

    def _via(self, transport: copy.Transport, options: Mapping[str, Any]) -> copy.Copied:
        """Copy to a relay, from whose store the host takes the paths."""
        paths, name = options["paths"], options["via"]
        if options["sign_key_file"]:
            copy.sign(paths, options["sign_key_file"], environment=self.environment)
        host = self.other_host(name)
        place = connections.endpoint(host.connection)
        there = via.address(options["via_store"], place.address if place else name, place.port if place else None)
        relay = via.Relay(self.copy_transport(host.machine(), options, host), there)
        how = copy.CopyOptions(options["substitutes"], options["compress"])
        copied = via.push(
            *(relay, transport, paths),
            options=how,
            gc_root=options["gc_root"],
            on_line=self.live(),
            on_relay=self.live(name),
        )
        if copied.paths:
            self.live()("closures copied successfully")
        return copied

    def _build(self, transport: copy.Transport, options: Mapping[str, Any]) -> copy.Copied:
        """Build on the host what it lacks, from derivations of the controller."""
        lacking = copy.missing(
            transport.machine, options["paths"], gc_root=None if self.check else options["gc_root"]
        ).paths
        if self.check or not lacking:
            return copy.Copied(lacking, 0)
        say, derivations = self.live(), options["derivations"]
        say("building its system...")
        copy.push(transport, derivations, options=copy.CopyOptions(), gc_root=None, on_line=say)
        limits = transport.limits
        build.realise_on(
            *(transport.machine, derivations),
            options=build.BuildOptions(),
            on_line=say,
            patience=limits.stall,
            within=limits.seconds,
        )
        return copy.Copied(lacking, 0)


# Options that make no sense for a copy from the host, and why.
_ONLY_TO = {
    "gc_root": "is a link on the host",
    "source": "has paths",
    "derivations": "are built",
    "via": "hands out paths",
}


def _check(options: Mapping[str, Any]) -> None:
    if options["direction"] == "to":
        return
    for name, what in _ONLY_TO.items():
        if options[name]:
            raise OpsError(f"{name!r} {what}, and nothing goes to the host", next_step="Leave it out.")


def _answer(copied: copy.Copied) -> dict[str, Any]:
    return {"changed": bool(copied.paths), "paths": list(copied.paths), "bytes": copied.size}
