# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connects a task to another host of the inventory than its own, as delegate_to would.

This is the only file that makes Ansible connections.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ansible import constants
from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost


def connected(action: Any, name: str, variables: Mapping[str, Any]) -> Any:
    """Return a copy of an action plugin that is connected to another host.

    :param name: the host's name.
    :param variables: the host's variables. They alone say how it is reached, and whether commands become root there.
    :raises OpsError: if the host's connection plugin or become plugin does not exist.
    """
    other = copy.copy(action)
    other._play_context = context = copy.copy(action._play_context)
    # The name of a shared ssh connection is made of these. With those of the task's host, it would lead there.
    context.remote_addr = variables.get("ansible_host") or name
    context.port, context.remote_user = variables.get("ansible_port"), variables.get("ansible_user")
    loaders = action._shared_loader_obj
    connection = _load(loaders.connection_loader, str(variables.get("ansible_connection") or "ssh"), name, context)
    keys: dict[str, Any] = {"timeout": context.timeout}
    _configure(connection, "connection", variables, keys | _given("password", context.password))
    _configure(connection._shell, "shell", variables, keys)
    become = None
    if boolean(variables.get("ansible_become") or False):
        become = _load(loaders.become_loader, str(variables.get("ansible_become_method") or "sudo"), name)
        _configure(become, "become", variables, keys | _given("become_pass", context.become_pass))
    connection.set_become_plugin(become)
    other._connection = connection
    return other


@contextmanager
def named(what: str, state: str) -> Iterator[None]:
    """Name the other host if its connection is lost: Ansible would say that the task's own host is unreachable.

    :param what: the host and what it is for.
    :param state: the state for the message.
    """
    try:
        yield
    except ConnectionLost as lost:
        next_step = lost.next_step or "Check that it is up, and its variables: ansible-inventory --host NAME"
        raise OpsError(f"{what} can't be reached: {lost}", state=state, next_step=next_step) from lost


def _load(loader: Any, kind: str, host: str, *words: Any) -> Any:
    plugin = loader.get(kind, *words)
    if plugin is None:
        raise OpsError(f"the plugin {kind} was not found", machine=host, next_step="Correct the host's variables.")
    return plugin


def _configure(plugin: Any, kind: str, variables: Mapping[str, Any], keys: Mapping[str, Any]) -> None:
    names = constants.config.get_plugin_vars(kind, plugin._load_name)
    values = {one: variables[one] for one in names if one in variables}
    plugin.set_options(task_keys=dict(keys), var_options=values)


def _given(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if value else {}
