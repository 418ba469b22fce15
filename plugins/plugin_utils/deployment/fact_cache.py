# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps deployment state in Ansible's fact cache.

This is the one file that opens a cache plugin. It reads the cache anew each time, since another run may have written
to it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.cache import BaseFileCacheModule
from ansible.plugins.loader import cache_loader

from ansible_collections.nix.ops.plugins.plugin_utils.awx import job
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import configuration, places
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import DamagedState, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

# The name of the fact, a mapping from deployments' UUIDs to states.
FACT = "nix_ops"

# The cache that an ``ansible.cfg`` of ``nix.ops.create`` names.
_FILES = "ansible.builtin.jsonfile"

# The directory of a job of AWX inside of an execution environment.
_INSIDE = "/runner"

_IN_AWX = f"""Set "Enable fact storage" of the job template (use_fact_cache: true), and write into ansible.cfg of
the project:
[defaults]
cache_plugins = {Path(__file__).parents[2] / "cache"}
or set ANSIBLE_CACHE_PLUGINS to that directory in the execution environment. A Redis server keeps the state too: without
"Enable fact storage", with fact_caching = community.general.redis and fact_caching_timeout = 0 in that ansible.cfg."""


def check(uuid: str) -> None:
    """Refuse a cache that would forget.

    :param uuid: the UUID of a deployment, for the place of the facts in the message.
    :raises OpsError: with the lines of ``ansible.cfg``, or the settings of AWX, that make it keep.
    """
    if constants.CACHE_PLUGIN in configuration.FORGETFUL:
        raise _refusal(
            "facts are kept in memory alone, so the deployment state would be lost at the end of the run", uuid
        )
    try:
        cache = _open()
        cache.contains("nix.ops")
    except Exception as error:
        # Each plugin raises what its own library raises.
        raise _refusal(f"the fact cache {constants.CACHE_PLUGIN} can't be used", uuid, str(error)) from error
    # The collection's own cache leaves it to AWX when facts are too old.
    is_ours = not getattr(cache, "facts_grow_old", True)
    if (directory := _directory(cache)) is not None:
        _check_directory(directory, uuid, is_ours=is_ours)
    if not is_ours and float(constants.CACHE_PLUGIN_TIMEOUT) != 0:
        seconds = f"{float(constants.CACHE_PLUGIN_TIMEOUT):.0f}"
        raise _refusal(f"the fact cache forgets after {seconds} seconds, and the deployment state with it", uuid)


def hint(uuid: str, is_copied: Callable[[str], bool] | None = None) -> str | None:
    """Return how to move facts that are kept inside the network's directory, as version 0.1.0 had it.

    :param uuid: the deployment's UUID.
    :param is_copied: whether the network copies a directory into the store. Without it, facts count that are where
        version 0.1.0 kept them.
    """
    try:
        directory = _directory(_open())
    except Exception:
        # check() tells what is wrong with the cache.
        return None
    if directory is None or job.job_directory() is not None:
        return None
    # The preparation has warned of the old place already.
    if places.is_old_facts(str(directory)) == (is_copied is not None):
        return None
    if is_copied and not is_copied(str(directory)):
        return None
    new = places.facts(uuid)
    quoted = new.replace("~", "$HOME", 1) if new.startswith("~") else new
    what = "a network may copy its directory into the Nix store"
    if is_copied:
        what = "the network copies that directory into the Nix store. So each deploy changes the system again"
    return (
        f"Facts are kept in {directory}, and {what}.\n"
        f'Next: mkdir -p -m 0700 "{os.path.dirname(quoted)}" && mv {shlex.quote(str(directory))} "{quoted}",'
        f" and write into {constants.CONFIG_FILE or configuration.NAME}: fact_caching_connection = {new}"
    )


def _directory(cache: Any) -> Path | None:
    """Return the directory of a cache that keeps facts in files; None for other caches."""
    if isinstance(cache, BaseFileCacheModule) or not getattr(cache, "facts_grow_old", True):
        return Path(os.path.expandvars(cache.get_option("_uri"))).expanduser().absolute()
    return None


def _check_directory(directory: Path, uuid: str, *, is_ours: bool) -> None:
    """Refuse a directory that is lost with a job of AWX; ``artifacts/JOB/fact_cache`` is collected.

    The home directory is lost too, since it is in the job's container.
    """
    if directory.parents[1:2] and directory.parents[1].name == "artifacts":
        if not is_ours:
            raise _refusal(
                f"AWX and ansible-runner collect no facts from {directory}, since ansible-core names their files"
                " otherwise, so the deployment state would be lost at the end of the job",
                uuid,
                is_job=True,
            )
    elif (files := job.job_directory()) and (
        places.is_facts(directory) or any(directory.is_relative_to(one) for one in (files, _INSIDE))
    ):
        raise _refusal(f"{directory} is gone at the end of the job, and the deployment state with it", uuid)


def entry(host: str) -> dict[str, Any]:
    """Return what is cached for a host: for each deployment's UUID its state, as plain values, unchecked.

    :param host: the host's name in the inventory.
    :raises OpsError: if the cache can't be read.
    """
    try:
        facts = _open().get(host)
    except KeyError:
        return {}
    except Exception as error:
        # Each plugin raises what its own library raises.
        raise OpsError(
            f"the fact cache's entry of {host} can't be read",
            output=str(error),
            state="the machine's own record has the same",
            next_step="Run the same again once the fact cache can be used.",
        ) from error
    found = facts.get(FACT) if isinstance(facts, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def read_state(host: str, uuid: str, *, has_to_keep: bool = True, on_line: LineSink) -> State | None:
    """Return the state of a host's machine in a deployment; None if it is not cached or damaged.

    :param host: the host's name in the inventory.
    :param uuid: the deployment's UUID.
    :param has_to_keep: whether a cache that would forget is an error; otherwise it counts as empty.
    :param on_line: called with a line if the state is damaged.
    :raises OpsError: if the cache would forget, or a newer version of the collection wrote the state.
    """
    try:
        check(uuid)
        cached = entry(host)
    except OpsError:
        if has_to_keep:
            raise
        return None
    try:
        return states.read(cached.get(uuid), uuid)
    except DamagedState as damage:
        on_line(f"what the fact cache has of it is damaged ({damage}): the machine's own record counts")
        return None


def facts(host: str, state: State, warn: LineSink) -> dict[str, Any]:
    """Return the result keys that have Ansible cache a state beside those of the host's other deployments.

    :param host: the host's name in the inventory.
    :param warn: shows a warning.
    :returns: nothing if the cache can't be read, since Ansible would end the run at the write. The machine's own record
        has the state.
    """
    try:
        others = entry(host)
    except OpsError as failure:
        return no_facts(host, failure, warn)
    return {"ansible_facts": {FACT: {**others, state.uuid: states.as_json(state)}}}


def keep(host: str, state: State, directory: str | None) -> None:
    """Write the state of a machine into the cache of later runs, unless the cache has one of its deployment.

    :param host: the host's name in the inventory.
    :param directory: the directory of a cache that this run does not use, since its ``ansible.cfg`` is new; None for
        this run's own cache.
    :raises OpsError: if it can't be written.
    """
    try:
        cache = cache_loader.get(_FILES, _uri=directory, _timeout=0) if directory else _open()
        facts = cache.get(host) if cache.contains(host) else {}
        cache.set(host, {**facts, FACT: {state.uuid: states.as_json(state), **(facts.get(FACT) or {})}})
    except Exception as error:
        # Each plugin raises what its own library raises.
        raise OpsError(
            f"what is remembered of {host} can't be written into the fact cache",
            output=str(error),
            state="the deployment was imported without it",
            next_step=f"Set system.stateVersion of {host} in the network.",
        ) from error


def forget(host: str, uuid: str) -> bool:
    """Remove a deployment from what is cached for a host; return whether it was there.

    :raises OpsError: if the cache can't be read or written.
    """
    others = entry(host)
    if uuid not in others:
        return False
    cache = _open()
    try:
        cache.set(host, {**cache.get(host), FACT: {one: state for one, state in others.items() if one != uuid}})
    except Exception as error:
        # Each plugin raises what its own library raises.
        raise OpsError(f"the fact cache's entry of {host} can't be written", output=str(error)) from error
    return True


def no_facts(host: str, failure: OpsError, warn: LineSink) -> dict[str, Any]:
    """Warn that a host's state is not cached, and return no result keys."""
    warn(f"{host}: what is remembered of it is not in the fact cache: {failure}")
    return {}


def _open() -> Any:
    return cache_loader.get(constants.CACHE_PLUGIN)


def _refusal(what: str, uuid: str, output: str | None = None, *, is_job: bool = False) -> OpsError:
    is_job = is_job or job.job_directory() is not None
    lines = configuration.lines_of_cache(uuid)
    return OpsError(
        what,
        output=output,
        state="nothing was touched",
        next_step=_IN_AWX if is_job else f"Write into ansible.cfg, or have nix.ops.create write it:\n{lines}",
    )
