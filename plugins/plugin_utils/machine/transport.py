# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs commands on the host of a task, over the task's connection.

This is the one file that uses the private interfaces of ansible-core's action plugins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property, partial
from typing import Any, TypeVar

from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError

from ansible_collections.nix.ops.plugins.plugin_utils import waiting
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, first_line
from ansible_collections.nix.ops.plugins.plugin_utils.machine import connection as connections
from ansible_collections.nix.ops.plugins.plugin_utils.machine import host_keys, unreachable
from ansible_collections.nix.ops.plugins.plugin_utils.machine.connection import Addresses, Endpoint
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import (
    SHELL,
    UNTOUCHED,
    ConnectionLost,
    Identity,
    Machine,
    PasswordMissing,
    PasswordRefused,
    Wait,
)
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host_keys import Known, Refused
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed, LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Overdue

# Gives up a dead link after 15 seconds of silence. Values that the user has set come first on ssh's command line and
# win, except for a terminal (RequestTTY, -tt): it would echo scripts instead of ending them.
_OWN_OPTIONS = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3 -T"

_LOCAL = ("local", "ansible.builtin.local")
# What Ansible's connections say of a wrong password of become.
_REFUSED = re.compile(
    r"incorrect \S+ password|incorrect password|duplicate become password prompt|authentication failure", re.IGNORECASE
)
_MISSING = re.compile(
    r"missing \S+ password|a password is required|interactive authentication is required", re.IGNORECASE
)

# Seconds to close a connection.
_CLOSE = 5.0

_NEXT = (
    "Look at its console: it takes connections, but its login shell, its disk or a file server may hang. If it is only"
    " slow, give it more time (answer_timeout of the module, deploy_answer_timeout of a deploy)."
)

_PRINTS = "Look at its console: its login shell, or a start-up file of it, prints without end."

# ssh's warning of a changed or revoked host key. Without the box, its first line says what is wrong. The numbers are
# bounded: a machine can say anything of any length, and must not keep the controller busy.
_BOX = re.compile(r"(?<!@)@{9,80}\s{0,2}\n@ {1,30}([!-~][ -~]{0,80}?) {1,30}@\s{0,2}\n@{9,80}")

_Result = TypeVar("_Result")

_TEMPORARY = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._-]+)+/?")


class HostTransport:
    """The way to the host of a task.

    :param action: the task's action plugin.
    :param name: the host's name in messages.
    :param known: where the host was last acknowledged; tried before the address that Ansible's variables name.
    :param within: seconds until a host that does not answer counts as unreachable, if a wait has no limit of its own.
    :param say: called with lines that say what is waited for.
    :param host_keys: host keys that are known of the host, in addition to those that ssh knows.
    :param user: the user to log in as if neither Ansible nor ssh's own configuration names one.
    """

    def __init__(
        self,
        action: Any,
        name: str,
        known: Endpoint | None = None,
        *,
        within: float = 60.0,
        say: LineSink = lambda _line: None,
        host_keys: Sequence[Known] = (),
        user: str | None = None,
    ) -> None:
        self.host_keys = tuple(host_keys)
        self._action = action
        self._known = known
        self._within = within
        self._user = user
        self._say = say
        self._destination: Endpoint | None = None
        self._may_retry = True
        self._state = UNTOUCHED
        self._refusal: str | None = None
        self._was_stuck = False
        self._slowness = 1
        self._identity = Identity()
        self.name = name

    @property
    def connection(self) -> Any:
        """Ansible's connection plugin."""
        return self._action._connection

    @property
    def becomes(self) -> bool:
        """Whether commands run as another user than the connection's, by Ansible's own rule."""
        become = self.connection.become
        user = self._action._get_remote_user() or self._user
        return bool(become) and self._action.get_become_option("become_user") != user

    @property
    def is_controller(self) -> bool:
        """Whether the host is the controller itself, as the user of this run."""
        return self.connection.transport in _LOCAL and not self.becomes

    @cached_property
    def environment(self) -> dict[str, str]:
        """The variables of the task's keyword ``environment``."""
        found: dict[str, Any] = {}
        self._action._compute_environment_string(found)
        return {name: str(value) for name, value in found.items()}

    @cached_property
    def addresses(self) -> Addresses | None:
        """The addresses that the connection may lead to; None if it is not ssh."""
        self._name_user()
        configured = connections.endpoint(self.connection)
        if configured is None:
            return None
        extra = self.connection.get_option("ssh_extra_args") or ""
        if _OWN_OPTIONS not in extra:
            self.connection.set_option("ssh_extra_args", f"{extra} {_OWN_OPTIONS}".strip())
        self._trust()
        if self._destination is None:
            return Addresses(self.connection, configured, self._known)
        return Addresses(self.connection, self._destination, self._known or configured)

    def _name_user(self) -> None:
        """Set the user where nothing else does, for other connection plugins than ssh too."""
        try:
            is_named = bool(self.connection.get_option("remote_user"))
        except KeyError:
            # A connection without users, such as local.
            return
        if self._user and not is_named:
            self.connection.set_option("remote_user", self._user)

    def accept_host_key(self, known: Known) -> None:
        """Accept a host key from now on."""
        self.host_keys = (*self.host_keys, known)
        self._trust()

    def refused_host_key(self, told: str) -> Refused | None:
        """Return the host key for which ssh ended the connection; None if that is not the reason.

        :param told: what ssh said.
        """
        if "host key" not in told.lower() or self.addresses is None:
            return None
        # The configured address first: the other one may be another machine's by now.
        self.addresses.prefer_told()
        for _address in range(len(self.addresses)):
            if refused := host_keys.examine(self.connection, self.host_keys, told):
                return refused
            self.addresses.turn()
        return None

    def _trust(self) -> None:
        if words := host_keys.options([one.key for one in self.host_keys if not one.is_revoked]):
            connections.add(self.connection, words)

    def set_destination(self, address: str | None, port: int | None) -> None:
        """Expect the host at another address or port from the end of the task on.

        Has to be called before the first command.

        :param address: None for the configured address.
        :param port: None for the configured port.
        :raises OpsError: if a value is not valid.
        """
        configured = connections.endpoint(self.connection)
        if configured is None or (address is None and port is None):
            return
        destination = Endpoint(address or configured.address, port or configured.port)
        destination.check()
        self._destination = destination

    def expect(self, found: Mapping[str, Any]) -> None:
        """Refuse another host than the one that an earlier task has described.

        :param found: a description's ``boot_id`` and ``machine_id``.
        """
        self._identity.learn(str(found.get("boot_id") or ""), str(found.get("machine_id") or ""))

    def machine(self, environment: Mapping[str, str] | None = None, *, sudoable: bool = True) -> Machine:
        """Return the host, for running scripts on it.

        :param environment: variables for the scripts, instead of the task's.
        :param sudoable: whether become counts; without it scripts run as the connection's own user.
        """
        execute = partial(self._execute, self.addresses, sudoable=sudoable)
        return Machine(self.name, execute, self.environment if environment is None else environment, self._identity)

    @contextmanager
    def over_new_connection(self) -> Iterator[Machine]:
        """Give the host over new connections to the configured address, for proving that the controller gets in."""
        with self.addresses.fresh() if self.addresses else nullcontext():
            yield Machine(self.name, self._execute_once, {}, self._identity)

    def forbid_retries(self) -> None:
        """From here on, do not run a lost command again at another address: it may have changed something."""
        self._may_retry = False
        self._state = "it is not known what it runs now"

    def put_file(self, local: str, there: str, wait: Wait, stall: float) -> None:
        """Copy a file of the controller to a path on the host.

        :param stall: seconds without progress until the host counts as unreachable.
        :raises ConnectionLost: if that does not end in time.
        """
        self._bounded(partial(self.connection.put_file, local, there), wait, stall)

    def fetch_file(self, there: str, local: str, wait: Wait, stall: float) -> None:
        """Copy a file of the host to a path on the controller, as :meth:`put_file` does."""
        self._bounded(partial(self.connection.fetch_file, there, local), wait, stall)

    def close(self, clean_up: Callable[[], None]) -> None:
        """Let Ansible clean up on the host at the end of a task. Best effort: the task has its result."""
        if not self.connection._shell.tmpdir:
            return
        with suppress(ConnectionLost, OpsError):
            self._bounded(clean_up, Wait("the removal of temporary files"))

    def _execute(
        self, addresses: Addresses | None, command: str, stdin: bytes, wait: Wait, sudoable: bool = True
    ) -> Completed:
        """Run a command at the current address, and after a lost connection at the next ones.

        Retries only until the host has answered for the first time.
        """
        left = len(addresses) if addresses else 1
        while True:
            self._was_stuck = False
            try:
                return self._execute_once(command, stdin, wait, sudoable)
            except ConnectionLost:
                # Not the host, but a process of the controller did not answer.
                left -= 0 if self._was_stuck else 1
                if addresses and not self._was_stuck:
                    addresses.turn()
                if not self._may_retry or not left:
                    raise

    def _execute_once(self, command: str, stdin: bytes, wait: Wait, sudoable: bool = True) -> Completed:
        if self._refusal and sudoable:
            raise PasswordRefused(self._refusal, self.name, self._state)
        if getattr(self.connection, "has_pipelining", False):
            run = partial(
                self._action._low_level_execute_command,
                command,
                sudoable=sudoable,
                in_data=stdin,
                encoding_errors="surrogateescape",
            )
        elif command == SHELL:
            run = partial(self._execute_file, stdin, sudoable)
        else:
            raise OpsError(
                f"the connection {self.connection.transport} gives commands no standard input, and this must not be in"
                " a file there",
                machine=self.name,
                state="nothing was sent",
                next_step="Use the connection ssh for this machine.",
            )
        answer = self._bounded(run, wait)
        self._may_retry = False
        return Completed((command,), answer["rc"], answer["stdout"], answer["stderr"])

    def _bounded(self, run: Callable[[], _Result], wait: Wait, stall: float | None = None) -> _Result:
        """Call a function that uses the connection, within the limits of a wait.

        :raises ConnectionLost: if the connection or the wait ends before the function does.
        """
        try:
            return waiting.bounded(run, wait.what, self._limit(wait), say=self._say, stall=stall)
        except Overdue as late:
            self._slowness *= 2
            self._abandon()
            raise ConnectionLost(str(late), self._state, _PRINTS if late.too_large else _NEXT) from late
        except AnsibleAuthenticationFailure as failure:
            raise self._refuse(failure) from failure
        except AnsibleConnectionFailure as failure:
            if "permission denied" in str(failure).lower() and connections.gives_password(self.connection):
                raise self._refuse(failure) from failure
            said = _BOX.sub(r"\1", str(failure).replace("\r\n", "\n"))
            raise ConnectionLost(unreachable.words_of_ssh(said), self._state) from failure
        except AnsibleError as error:
            if "host key" in str(error).lower():
                # Ansible's own words for a login with a password.
                raise ConnectionLost(str(error), self._state) from error
            if _REFUSED.search(str(error)):
                raise self._refuse(error) from error
            if _MISSING.search(str(error)):
                raise PasswordMissing(first_line(error), self.name, self._state) from error
            # Mostly errors of become.
            raise OpsError(
                str(error),
                machine=self.name,
                state=self._state,
                next_step="Check that this user may become root there, and the password of become"
                " (ansible_become_password or -K), then run the same again.",
            ) from error

    def _limit(self, wait: Wait) -> float:
        """Return the seconds that a wait may last.

        A login can take longer than the short limits of those waits that are tried again. After each that is overdue,
        they may last twice as long, up to the time that the user grants to an answer.
        """
        if wait.seconds is None:
            return self._within
        return max(wait.seconds, min(wait.seconds * self._slowness, self._within))

    def _refuse(self, error: AnsibleError) -> PasswordRefused:
        self._refusal = str(error)
        return PasswordRefused(self._refusal, self.name, self._state)

    def _abandon(self) -> None:
        """Give up an open connection that does not answer. The next command makes a new one."""
        # Otherwise Ansible would remove the directory at the end of the task, and wait again.
        self.connection._shell.tmpdir = None
        if connections.is_ssh(self.connection):
            self._was_stuck = connections.drop(self.connection)
            return
        with suppress(Exception):
            waiting.bounded(self.connection.close, "the end of the connection", _CLOSE)

    def _execute_file(self, text: bytes, sudoable: bool) -> dict[str, Any]:
        """Run a script as a temporary file, over a connection without standard input."""
        shell = self.connection._shell
        if not shell.tmpdir:
            # Ansible removes the directory at the end of the task.
            self._action._make_tmp_path()
            self._check_temporary(shell.tmpdir)
        path = shell.join_path(shell.tmpdir, "script")
        self._action._transfer_data(path, text)
        self._action._fixup_perms2((shell.tmpdir, path))
        answer: dict[str, Any] = self._action._low_level_execute_command(
            f"/bin/sh {path} </dev/null", sudoable=sudoable, encoding_errors="surrogateescape"
        )
        return answer

    def _check_temporary(self, path: str) -> None:
        """Refuse a directory, named by the host, that Ansible's file transfers could read as more than a path."""
        if not _TEMPORARY.fullmatch(path):
            self.connection._shell.tmpdir = None
            raise OpsError(
                f"the machine answers with {path!r} as its directory for temporary files",
                machine=self.name,
                state="nothing was written there",
                next_step="Set 'ansible_remote_tmp' to an absolute path of letters, digits and . _ - / alone.",
            )
