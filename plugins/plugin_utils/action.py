# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every action of the collection shares: options in, one engine, a result out."""

from __future__ import annotations

import getpass
import os
import re
import signal
import socket
import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.nix.ops.plugins.plugin_utils import display
from ansible_collections.nix.ops.plugins.plugin_utils.activation import reboot
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import fact_cache, vaulted_keys
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import state as states
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import connection as connections
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Answer, Schema
from ansible_collections.nix.ops.plugins.plugin_utils.machine.connection import Addresses, Endpoint
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed, LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.store import copy, route

# A connection over a dead link is given up after this many seconds of silence; what the user
# set himself comes first on ssh's command line and wins.
_KEEP_ALIVE = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"

_TEMPORARY = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._-]+)+/?")

# How many seconds after the end of ansible-playbook its workers notice it, at the latest.
_WATCH = 0.5


class OpsAction(ActionBase):  # type: ignore[misc]
    """An action with an engine of the collection behind it.

    A subclass names its specification and implements :meth:`perform`.
    """

    SPECIFICATION: Mapping[str, Any]

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Validate the options, run the engine and answer with a result, a failed one included."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, options = self.validate_argument_spec(**self.SPECIFICATION)
        self.variables = task_vars or {}
        self.addresses: Addresses | None = None
        # Where the host will be, where that is elsewhere than its variables say.
        self.destination: Endpoint | None = None
        self._answered = False
        self.host = str(self.variables.get("inventory_hostname", "localhost"))
        self.check = bool(self._task.check_mode)
        self.wants_diff = bool(self._task.diff)
        self.environment: dict[str, str] = {}
        self._compute_environment_string(self.environment)
        self.environment = {name: str(value) for name, value in self.environment.items()}
        try:
            with _ended_in_order():
                result.update(self.perform(options))
        except OpsError as error:
            result.update(self.describe_failure(error))
        except ConnectionLost as lost:
            result.update(unreachable=True, msg=str(_unreachable(self.place, lost, self._missing_secret())))
        # Whatever a machine said is in there somewhere, and Ansible shows it as it is.
        plain: dict[str, Any] = display.plain_values(result)
        return plain

    def warn(self, text: str) -> None:
        """Show a warning."""
        self._display.warning(display.plain(text))

    def _missing_secret(self) -> str | None:
        """Which secret this run lacks for the deployment's key of the machine, in a sentence."""
        path = None if self._task.delegate_to else self.variables.get("nix_ssh_key")
        return vaulted_keys.what_is_missing(str(path), self._loader) if path else None

    @abstractmethod
    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Call the engine and return the result's keys."""

    def describe_failure(self, error: OpsError) -> dict[str, Any]:
        """The keys of a failed result."""
        if self._task.no_log:
            # Ansible shows the message of a failed task all the same.
            error.output = None
        found: dict[str, Any] = {"failed": True, "msg": str(error)}
        if error.exit_code is not None:
            found["exit_code"] = error.exit_code
        return found

    @property
    def place(self) -> str:
        """The host that the task works on: its own, or the one it is delegated to."""
        return str(self._task.delegate_to or self.host)

    def live(self, name: str | None = None) -> LineSink:
        """Where lines go that are shown while they happen; nowhere with no_log.

        :param name: what stands before each; the host's name by default.
        """
        return display.live(name or self.host, silent=bool(self._task.no_log))

    @property
    def holder(self) -> str:
        """Who runs this, for others who find a machine busy."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            # In a container a user need not have a name.
            user = str(os.getuid())
        return f"{user}@{socket.gethostname()} (process {os.getppid()})"

    @property
    def here(self) -> bool:
        """Whether the task's host is the controller itself, as the user who runs this."""
        return self._connection.transport in ("local", "ansible.builtin.local") and not self._becomes()

    def machine(self, environment: Mapping[str, str] | None = None) -> Machine:
        """The host that the task works on, behind its connection.

        :param environment: variables there, where they are others than the task's.
        """
        if self.addresses is None:
            self.addresses = self._find_addresses()
        return Machine(self.place, self._execute, self.environment if environment is None else environment)

    def _find_addresses(self) -> Addresses | None:
        said = connections.endpoint(self._connection)
        if said is None:
            return None
        extra = self._connection.get_option("ssh_extra_args") or ""
        if _KEEP_ALIVE not in extra:
            self._connection.set_option("ssh_extra_args", f"{extra} {_KEEP_ALIVE}".strip())
        # The variables are those of the task's own host.
        known = None if self._task.delegate_to else _acknowledged(self.variables)
        if self.destination is None:
            return Addresses(self._connection, said, known)
        return Addresses(self._connection, self.destination, known or said)

    def stay(self) -> None:
        """Say that what follows changes something: a command that is lost is not run again at another address."""
        self._answered = True

    def confirm(self, directory: str, word: str) -> None:
        """Answer an activation over a new connection, where the host is said to be now.

        :param directory: that of the attempt that waits.
        :param word: ``reached``, where the last word follows, or ``keep``.
        :raises ConnectionLost: where nobody can get in.
        """
        self._fresh("activation/acknowledge", directory, word)
        if self.addresses and word == "keep":
            self.addresses.settle()
        elif self.addresses:
            self.addresses.prefer_told()

    def confirm_boot(self, word: str) -> str:
        """Say over a new connection whether a host that has booted is to ``keep`` that or to ``undo`` it.

        :returns: what counts: the word, that of the host where it has decided, or ``none`` where it does not wait.
        :raises ConnectionLost: where nobody can get in.
        """
        decision = self._fresh("activation/boot_acknowledge", word, schema=reboot.DECISION).all("decision")[0]
        if self.addresses and decision != "undo":
            self.addresses.settle()
        return decision

    def _fresh(self, script: str, *words: str, schema: Schema | None = None) -> Answer:
        machine = Machine(self.place, self._execute_there, {})
        with self.addresses.fresh() if self.addresses else nullcontext():
            return machine.ask(script, *words, schema=schema)

    def transport(self, machine: Machine) -> copy.Transport:
        """How store paths travel to and from the host."""
        return copy.Transport(
            machine,
            Machine(machine.name, partial(self._execute, sudoable=False), self.environment),
            route.of_connection(self._connection, self._becomes()),
            copy.Files(self._connection.put_file, self._connection.fetch_file),
            self.environment,
        )

    def _becomes(self) -> bool:
        """Whether commands run as another user than the connection's, by Ansible's own rule."""
        become = self._connection.become
        return bool(become) and self.get_become_option("become_user") != self._get_remote_user()

    def _execute(self, command: str, stdin: bytes, within: float | None, sudoable: bool = True) -> Completed:
        """Run a command on the host. Where it can't be reached, the next one is run at its next address.

        As long as nobody has answered, and nothing but questions was asked, the command itself is run there.
        """
        left = len(self.addresses) if self.addresses else 1
        while True:
            try:
                return self._execute_there(command, stdin, within, sudoable)
            except ConnectionLost:
                left -= 1
                if self.addresses:
                    self.addresses.turn()
                if self._answered or not left:
                    raise

    def _execute_there(self, command: str, stdin: bytes, within: float | None, sudoable: bool = True) -> Completed:
        late = threading.Timer(within, connections.drop, (self._connection,)) if within else None
        try:
            if late:
                late.start()
            if getattr(self._connection, "has_pipelining", False):
                answer = self._low_level_execute_command(
                    command, sudoable=sudoable, in_data=stdin, encoding_errors="surrogateescape"
                )
            else:
                answer = self._execute_file(stdin, sudoable)
        except AnsibleConnectionFailure as failure:
            raise ConnectionLost(str(failure)) from failure
        except AnsibleError as error:
            # What become says, above all.
            raise OpsError(str(error), machine=self.place) from error
        finally:
            if late:
                late.cancel()
        self._answered = True
        return Completed((command,), answer["rc"], answer["stdout"], answer["stderr"])

    def _execute_file(self, text: bytes, sudoable: bool) -> dict[str, Any]:
        """Run a script over a connection that has no standard input: as a file of its own."""
        if not self._connection._shell.tmpdir:
            # Ansible removes it at the task's end.
            self._make_tmp_path()
            self._check_temporary(self._connection._shell.tmpdir)
        path = self._connection._shell.join_path(self._connection._shell.tmpdir, "script")
        self._transfer_data(path, text)
        self._fixup_perms2((self._connection._shell.tmpdir, path))
        answer: dict[str, Any] = self._low_level_execute_command(
            f"/bin/sh {path} </dev/null", sudoable=sudoable, encoding_errors="surrogateescape"
        )
        return answer

    def _check_temporary(self, path: str) -> None:
        """Refuse a directory that the host named and that could be more than a path to whatever brings files there."""
        if not _TEMPORARY.fullmatch(path):
            self._connection._shell.tmpdir = None
            raise OpsError(
                f"the machine answers with {path!r} as its directory for temporary files",
                machine=self.place,
                state="nothing was written there",
                next_step="Set 'ansible_remote_tmp' to an absolute path of letters, digits and . _ - / alone.",
            )


def _acknowledged(variables: Mapping[str, Any]) -> Endpoint | None:
    """Where a machine of a deployment was last acknowledged."""
    uuid = str(variables.get("nix_deployment_uuid"))
    cached = (variables.get("ansible_facts") or {}).get(fact_cache.FACT) or {}
    try:
        state = states.read(cached.get(uuid), uuid)
    except OpsError:
        # Who reads the state to use it tells what is wrong with it.
        return None
    known = state.acknowledged if state else None
    return Endpoint(known.address, known.port) if known else None


def _unreachable(host: str, lost: ConnectionLost, missing_secret: str | None) -> OpsError:
    next_step = "Check its address, its power and its network, then run the same again."
    if missing_secret and "permission denied" in str(lost).lower():
        next_step = missing_secret
    if "host key" in str(lost).lower():
        next_step = (
            "A host key is never accepted unseen: compare it with the machine's own (ssh-keygen -lf"
            " /etc/ssh/ssh_host_ed25519_key.pub, on its console), then correct the controller's known_hosts."
        )
    return OpsError(
        "the machine can't be reached", machine=host, output=str(lost), state=lost.state, next_step=next_step
    )


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Turn the signals that end a worker into an exception, so that what it began is ended too."""

    numbers = (signal.SIGINT, signal.SIGTERM)

    def end(number: int, _frame: Any) -> None:
        # Ansible sends a second one at once, which would end the ending. It is not ignored,
        # since the programs that end things would inherit that.
        for other in numbers:
            signal.signal(other, lambda _number, _frame: None)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in numbers}
    over = threading.Event()
    threading.Thread(target=_watch_parent, args=(os.getppid(), over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch_parent(parent: int, over: threading.Event) -> None:
    """End this worker where ansible-playbook was killed, which has no time to do so itself."""
    while not over.wait(_WATCH):
        if os.getppid() != parent:
            # To the main thread, so that what it waits for is interrupted.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
            return
