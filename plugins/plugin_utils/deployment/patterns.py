# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the patterns of hosts that a user gives: each name in them has to match something.

Ansible itself ignores names that match nothing, so a misspelt name would leave out a machine without an error.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible.inventory.manager import split_host_pattern

from ansible_collections.nix.ops.plugins.plugin_utils.activation import settings
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

_LOCALHOST = ("localhost", "127.0.0.1", "::1")


def check(variable: str, given: Any, variables: Mapping[str, Any]) -> list[str]:
    """Refuse an empty pattern, and names that no host and no group has, also in the limit of the run.

    :param variable: the name of the variable with the pattern, for messages.
    :param given: the pattern, or a list of patterns.
    :param variables: those of a task: ``groups`` and ``ansible_limit`` count.
    :returns: the pattern as a list.
    :raises OpsError: naming what matches nothing.
    """
    patterns = [str(one) for one in (given if isinstance(given, list | tuple) else [given])]
    groups: Mapping[str, Sequence[str]] = variables["groups"]
    if not patterns or not all(one.strip(" ,:") for one in patterns):
        raise _refused(f"an empty pattern matches no machine ({variable})", groups)
    limit = str(variables.get("ansible_limit") or "")
    for name, parts in ((variable, split_host_pattern(patterns)), ("--limit", split_host_pattern(limit or []))):
        if missing := unmatched(parts, groups["all"], groups):
            raise _refused(f"{', '.join(missing)}: not a machine and not a group of the inventory ({name})", groups)
    return patterns


def unmatched(pattern: Iterable[str], hosts: Iterable[str], groups: Iterable[str]) -> list[str]:
    """Return the parts of a pattern that match no host and no group.

    :param pattern: the parts of the pattern, as Ansible splits it at commas and colons.
    """
    known = {*hosts, *groups, *_LOCALHOST}
    # Ansible reads the parts that begin with "@" from a file.
    parts = [part.lstrip("&!") for part in pattern if not part.startswith("@")]
    return [part for part in parts if part and part not in known and not _matches(part, known)]


def choose(hosts: Sequence[str], include: Any, exclude: Any) -> list[str]:
    """Return the hosts that the user includes and does not exclude.

    :param include: names or wildcards, as ``deploy_include`` has them; None for all hosts.
    :param exclude: the same, as ``deploy_exclude`` has them; None for no host.
    :raises OpsError: naming what matches none of the hosts.
    """
    found = {}
    for variable, given in (("deploy_include", include), ("deploy_exclude", exclude)):
        try:
            names = [] if given is None else settings.names(given)
        except TypeError:
            raise OpsError(
                f"{variable} is {given!r}, and has to be names of machines",
                state="nothing was touched",
                next_step=f"Correct {variable}.",
            ) from None
        if missing := [name for name in names if not fnmatch.filter(hosts, name)]:
            raise OpsError(
                f"{', '.join(missing)}: not a machine that would be deployed ({variable})",
                state="nothing was touched",
                next_step=f"Name some of: {', '.join(hosts)}.",
            )
        found[variable] = {host for name in names for host in fnmatch.filter(hosts, name)}
    included = set(hosts) if include is None else found["deploy_include"]
    return [host for host in hosts if host in included - found["deploy_exclude"]]


def _matches(part: str, known: Iterable[str]) -> bool:
    if part.startswith("~"):
        expression = part[1:]
    else:
        # A subscript as in web[0:3] is not a part of the name.
        names = {part, re.sub(r"\[[^\]]*\]$", "", part)}
        expression = "|".join(fnmatch.translate(name) for name in names)
    try:
        return any(re.match(expression, name) for name in known)
    except re.error:
        return False


def _refused(what: str, groups: Iterable[str]) -> OpsError:
    there = ", ".join(sorted(set(groups) - {"all", "ungrouped"}))
    return OpsError(
        what, state="nothing was touched", next_step=f"Name machines or groups. Groups are: {there or 'none'}."
    )
