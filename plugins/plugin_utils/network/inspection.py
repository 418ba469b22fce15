# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks into networks: the value of an option, the arguments, what a deploy adds to a machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network, Remembered
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

# A part of an option's path: bare, or between double quotes, as in services.nginx.virtualHosts."example.org".
_PART = re.compile(r'"((?:[^"\\]|\\.)*)"|([^."\s]+)')


def read_path(option: str) -> list[str]:
    """Return the parts of an option's path, as Nix reads it.

    :raises OpsError: if it is not valid.
    """
    parts, position = [], 0
    while found := _PART.match(option, position):
        quoted, bare = found.groups()
        parts.append(bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        position = found.end()
        if position == len(option):
            return parts
        if option[position] != ".":
            break
        position += 1
    raise OpsError(
        f"{option!r} is not the path of an option",
        state="nothing was evaluated",
        next_step='Write it as in Nix: services.openssh.ports, or services.nginx.virtualHosts."example.org".',
    )


def option(
    network: Network,
    machine: str,
    path: str,
    *,
    remembered: Mapping[str, Remembered],
    env: Mapping[str, str],
    on_line: LineSink,
) -> dict[str, Any]:
    """Return an option of a machine: its value, type, declarations and definitions.

    :param path: the option, or what is inside of its value, or a set of options.
    :param remembered: the inputs of the machines, as a deploy gives them.
    :raises OpsError: if it does not evaluate, or there is no such option.
    """
    given = {"machine": machine, "option": read_path(path)}
    answer = evaluation.inspect("show-option.nix", network, given, remembered=remembered, env=env, on_line=on_line)
    parts = ("value", "type", "definitions", "declarations")
    return {"machine": machine, "option": path, **{part: answer[part] for part in parts}}


def arguments(network: Network, *, env: Mapping[str, str], on_line: LineSink) -> list[dict[str, Any]]:
    """Return the arguments that the network's functions take, and those that are given to none, sorted by name."""
    answer = evaluation.inspect("show-arguments.nix", network, {}, env=env, on_line=on_line)
    found: dict[str, dict[str, Any]] = {}
    for file in answer:
        for name, has_default in file["arguments"].items():
            known = found.setdefault(name, {"name": name, "needed": False, "given": False, "files": []})
            known["needed"] = known["needed"] or not has_default
            known["files"].append(file["file"])
    for name in network.arguments:
        known = found.setdefault(name, {"name": name, "needed": False, "given": True, "files": []})
        known["given"] = True
    return [found[name] for name in sorted(found)]


def physical(
    network: Network, *, remembered: Mapping[str, Remembered], env: Mapping[str, str], on_line: LineSink
) -> dict[str, Any]:
    """Return what a deploy adds to the configuration of each machine."""
    answer = evaluation.inspect("show-physical.nix", network, {}, remembered=remembered, env=env, on_line=on_line)
    return dict(answer)
