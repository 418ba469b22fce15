# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's fact cache as the keeper of deployment state.

This is the one file that opens a cache plugin. The cache is read anew each time: another run may have
written since this one began.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.loader import cache_loader

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

# The name of the fact; below it, each deployment's state stands under its UUID.
FACT = "nix_ops"

_FORGETFUL = ("memory", "ansible.builtin.memory")
_LINES = """[defaults]
fact_caching = ansible.builtin.jsonfile
fact_caching_connection = .nix-ops/facts
fact_caching_timeout = 0"""


def check() -> None:
    """Refuse a cache that would forget.

    :raises OpsError: with the lines of ``ansible.cfg`` that make it keep.
    """
    if constants.CACHE_PLUGIN in _FORGETFUL:
        raise _refusal("facts are kept in memory alone, so the deployment state would be lost at the end of the run")
    if float(constants.CACHE_PLUGIN_TIMEOUT) != 0:
        seconds = f"{float(constants.CACHE_PLUGIN_TIMEOUT):.0f}"
        raise _refusal(f"the fact cache forgets after {seconds} seconds, and the deployment state with it")
    try:
        _open().contains("nix.ops")
    except Exception as error:
        # Each plugin raises what its own library raises.
        raise _refusal(f"the fact cache {constants.CACHE_PLUGIN} can't be used", str(error)) from error


def entry(host: str) -> dict[str, Any]:
    """Give what is cached for a host: for each deployment's UUID its state, as plain values, unchecked.

    :param host: the host's name in the inventory.
    :raises OpsError: where the cache can't be read.
    """
    try:
        facts = _open().get(host)
    except KeyError:
        return {}
    except AnsibleError as error:
        raise OpsError(
            f"the fact cache's entry of {host} can't be read",
            output=str(error),
            state="nothing was touched; the machine's own record has the same",
            next_step="Run the same again.",
        ) from error
    found = facts.get(FACT) if isinstance(facts, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _open() -> Any:
    return cache_loader.get(constants.CACHE_PLUGIN)


def _refusal(what: str, output: str | None = None) -> OpsError:
    return OpsError(
        what,
        output=output,
        state="nothing was touched",
        next_step=f"Write into ansible.cfg, or have nix.ops.create write it:\n{_LINES}",
    )
