# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The base of all actions of the collection: reads options, calls one engine, returns its result."""

from __future__ import annotations

import getpass
import os
import socket
from abc import abstractmethod
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.nix.ops.plugins.plugin_utils import display, named_options, waiting
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import fact_cache, host_keys, vaulted_keys
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, indent
from ansible_collections.nix.ops.plugins.plugin_utils.machine import other_host, unreachable
from ansible_collections.nix.ops.plugins.plugin_utils.machine.connection import SSH_PORT, Endpoint
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import (
    IDENTITY,
    UNTOUCHED,
    ConnectionLost,
    Machine,
    Wait,
)
from ansible_collections.nix.ops.plugins.plugin_utils.machine.ssh_configuration import DEFAULT_USER
from ansible_collections.nix.ops.plugins.plugin_utils.machine.transport import HostTransport
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.signals import end_in_order
from ansible_collections.nix.ops.plugins.plugin_utils.store import copy, route


class OpsAction(ActionBase):  # type: ignore[misc]
    """An action with an engine of the collection behind it.

    A subclass names its specification and implements :meth:`perform`.
    """

    SPECIFICATION: Mapping[str, Any]

    # What is used of the result of an earlier task, by the option that has it. Ansible copies values slowly.
    USED: Mapping[str, Collection[str]] = {"expected": IDENTITY}

    # Why a new host key is not accepted though the user accepts them.
    why_not_accepted: str | None = None

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Validate the options, run the engine and return a result, also if the engine fails."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.variables = task_vars or {}
        self._read_named()
        _validation, options = self.validate_argument_spec(**self.SPECIFICATION)
        self.host = str(self.variables.get("inventory_hostname", "localhost"))
        self.check = bool(self._task.check_mode)
        self.wants_diff = bool(self._task.diff)
        # The variables are those of the task's own host, also if it is delegated.
        known = None if self._task.delegate_to or not self._requires_connection else _acknowledged(self.variables)
        name = str(self._task.delegate_to or self.host)
        within = float(options.get("answer_timeout") or 60)
        known_keys = [] if self._task.delegate_to else host_keys.of_variables(self.variables)
        user = None if self._task.delegate_to else _default_user(self.variables)
        self.transport = HostTransport(
            self, name, known, within=within, say=self.live(name), host_keys=known_keys, user=user
        )
        try:
            waiting.check(options)
            with end_in_order():
                result.update(self.perform(options))
        except OpsError as error:
            result.update(self.describe_failure(error))
            self.tell(error)
        except ConnectionLost as lost:
            result.update(self.describe_unreachable(lost))
        # The result has text from the machine, and Ansible does not replace control characters.
        plain: dict[str, Any] = display.plain_values(result)
        return plain

    def cleanup(self, force: bool = False) -> None:
        """Remove the temporary files on the host, within a limit."""
        transport = getattr(self, "transport", None)
        clean_up = partial(super().cleanup, force=force)
        if transport is None:
            clean_up()
        else:
            transport.close(clean_up)

    @abstractmethod
    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Call the engine and return the keys of the result."""

    def describe_failure(self, error: OpsError) -> dict[str, Any]:
        """Return the keys of a failed result."""
        if self._task.no_log:
            # Ansible shows the message of a failed task in spite of no_log.
            error.output = None
        found: dict[str, Any] = {"failed": True, "msg": str(error)}
        if error.exit_code is not None:
            found["exit_code"] = error.exit_code
        return found

    def tell(self, error: OpsError) -> None:
        """Show a failure in readable lines, once."""
        # With failed_when, the user decides whether it is a failure.
        if not self._task.no_log and not self._task.failed_when:
            display.failure(error.machine, error.untold(), str(error))

    def describe_unreachable(self, lost: ConnectionLost) -> dict[str, Any]:
        """Return the keys of the result of a host that can't be reached."""
        refused = self.transport.refused_host_key(str(lost))
        if refused is None:
            error = unreachable.describe(self.transport.name, lost, self._missing_secret())
            found = {}
        else:
            of_network = "nix_network" in self.variables and not self._task.delegate_to
            error = host_keys.describe(
                refused, self.transport.name, is_of_network=of_network, state=lost.state, why_not=self.why_not_accepted
            )
            found = {"host_key": str(refused.verdict)}
        self.tell(error)
        return {"unreachable": True, "msg": str(error), **found}

    def warn(self, text: str) -> None:
        """Show a warning."""
        self._display.warning(display.plain(indent(text)))

    def live(self, name: str | None = None) -> LineSink:
        """Return a sink that shows lines at once, or nothing with no_log.

        :param name: the prefix of each line; by default the host's name.
        """
        return display.live(name or self.host, silent=bool(self._task.no_log))

    def other_host(self, name: str) -> HostTransport:
        """Return the way to another host of the inventory.

        :raises OpsError: if the inventory lacks the host.
        """
        if name not in self.variables["hostvars"]:
            raise OpsError(
                f"{name} is not a host of the inventory",
                state=UNTOUCHED,
                next_step="Name a host that this lists, or add it to an inventory: ansible-inventory --graph",
            )
        variables = self.variables["hostvars"][name]
        action = other_host.connected(self, name, variables)
        keys, user = host_keys.of_variables(variables), _default_user(variables)
        return HostTransport(action, name, say=self.live(name), host_keys=keys, user=user)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the task's keyword ``environment``."""
        return self.transport.environment

    @property
    def holder(self) -> str:
        """The user, host and process of this run, for messages to others who find a machine busy."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            # In a container the user may have no name.
            user = str(os.getuid())
        return f"{user}@{socket.gethostname()} (process {os.getppid()})"

    def copy_transport(
        self, machine: Machine, options: Mapping[str, Any], host: HostTransport | None = None
    ) -> copy.Transport:
        """Return the way of store paths to and from a host.

        :param machine: the host, with the variables for Nix there.
        :param options: the options of the task, which limit the copy.
        :param host: the way to the host; None for the task's own.
        """
        host = host or self.transport
        limits = copy.Limits(options["stall_timeout"], options["copy_timeout"])
        wait = Wait("the copy of the closure", limits.seconds)
        return copy.Transport(
            machine,
            host.machine(sudoable=False),
            route.of_connection(host.connection, host.becomes),
            copy.Files(
                partial(host.put_file, wait=wait, stall=limits.stall),
                partial(host.fetch_file, wait=wait, stall=limits.stall),
            ),
            limits,
            self.environment,
        )

    def _read_named(self) -> None:
        """Add the options that the task takes from variables."""
        given = dict(self._task.args)
        # The validation copies what it gets, which takes long for values of Ansible.
        if isinstance(names := given.pop("variables", None), dict):
            found = named_options.read(names, self.variables, self._templar.template, self.USED)
            self._task.args = {**found, **given}

    def _missing_secret(self) -> str | None:
        """Return a sentence that names the secret that this run lacks for the machine's SSH key, if it lacks one."""
        path = None if self._task.delegate_to else self.variables.get("nix_ssh_key")
        return vaulted_keys.what_is_missing(str(path), self._loader) if path else None


def _default_user(variables: Mapping[str, Any]) -> str | None:
    """Return the user of a machine of a network for which nothing of Ansible names one; None for other hosts."""
    if "nix_network" not in variables:
        return None
    return str(variables.get("nix_ssh_user") or DEFAULT_USER)


def _acknowledged(variables: Mapping[str, Any]) -> Endpoint | None:
    """Return where a machine of a deployment was last acknowledged."""
    uuid = str(variables.get("nix_deployment_uuid"))
    cached = (variables.get("ansible_facts") or {}).get(fact_cache.FACT) or {}
    try:
        state = states.read(cached.get(uuid), uuid)
    except OpsError:
        # An action that uses the state reports the error.
        return None
    known = state.acknowledged if state else None
    # The port of ssh's own configuration is recorded as ssh's default.
    return Endpoint(known.address, None if known.port == SSH_PORT else known.port) if known else None
