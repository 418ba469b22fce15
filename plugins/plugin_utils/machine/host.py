# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs scripts on a host behind any Ansible connection. They are POSIX sh: the host needs no Python.

A script goes to ``/bin/sh -s`` on standard input, with its words and its data. The login shell gets no value to read,
and the host's process list shows none.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Answer, Schema
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed


@dataclass(frozen=True)
class Wait:
    """A wait for an answer.

    :param what: what is waited for, for messages.
    :param seconds: seconds until a connection that does not answer counts as lost; None for the connection's default.
    """

    what: str
    seconds: float | None = None


# Runs a command line on the host with this standard input, and waits for its answer.
Execute = Callable[[str, bytes, Wait], Completed]

_ROOMS = Path(__file__).parents[1]
_BEFORE_EVERY_SCRIPT = ("machine/places", "machine/kept", "machine/system")
# What stands before the answer. The start-up files of a shell may print something before it.
_ANSWER = "nix.ops answers\n"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ConnectionLost(Exception):
    """The connection to the host ended before its answer came.

    :param what: the error of the connection.
    :param state: what the host runs now, for the user.
    :param next_step: a command or an edit that helps; None if the error alone tells it.
    """

    def __init__(self, what: str, state: str = "the running system is untouched", next_step: str | None = None) -> None:
        super().__init__(what)
        self.state = state
        self.next_step = next_step


class PasswordRefused(OpsError):
    """The host refuses the password. Not worth retrying: many hosts lock an account after a few wrong passwords.

    :param what: the error of the connection.
    :param machine: the host's name.
    """

    def __init__(self, what: str, machine: str) -> None:
        super().__init__(
            "the machine refuses the password, so no more was tried",
            machine=machine,
            output=what,
            state="the running system is untouched",
            next_step="Correct the password (ansible_become_password, ansible_password, -K or -k), then run the same"
            " again.",
        )


def script(name: str) -> str:
    """Return the text of one of the collection's shell scripts.

    :param name: its folder and its file name without ``.sh``, as in ``store/missing``.
    """
    return (_ROOMS / f"{name}.sh").read_text(encoding="utf-8")


def place(name: str) -> str:
    """Return a place on the machine (``places.sh``), such as ``records``."""
    [found] = re.findall(rf"^nix_ops_{name}=(.*)$", script("machine/places"), re.MULTILINE)
    return str(found)


def quote(value: str) -> str:
    """Quote a value for a shell script. This is the only way for values to get into one.

    In single quotes no character means anything to a shell, and any POSIX shell gives back the same bytes. A byte that
    is not UTF-8 is a surrogate escape here, as Python has it, and arrives as that byte.

    :raises OpsError: if the value has a NUL, which no shell can hold.
    """
    return shlex.quote(_without_nul(value))


def assign(values: Mapping[str, str]) -> str:
    """Write values as assignments of a shell script, one after the other.

    :raises OpsError: if a name is not valid or a value has a NUL.
    """
    for name in values:
        if not _VARIABLE.fullmatch(name):
            raise OpsError(
                f"{name!r} is not a valid name of an environment variable", next_step="Correct 'environment'."
            )
    return "".join(f"{name}={quote(value)}\n" for name, value in values.items())


def export(environment: Mapping[str, str]) -> str:
    """Write environment variables as the beginning of a shell script.

    :raises OpsError: if a name is not valid or a value has a NUL.
    """
    return assign(environment) + "".join(f"export {name}\n" for name in environment)


def compose(text: str, words: tuple[str, ...], environment: Mapping[str, str], data: str) -> bytes:
    """Write what the host's shell reads.

    The environment comes before the parts that every script has, so that it can't replace their variables.

    :param text: a script that defines the function ``main``.
    :param words: the positional parameters of ``main``.
    :param environment: exported variables.
    :param data: the standard input of ``main``; a last line without an end gets one.
    :raises OpsError: if the name of a variable is not valid or a value has a NUL.
    """
    end_of_data = f"DATA-{secrets.token_hex(16)}"
    if _without_nul(data) and not data.endswith("\n"):
        data += "\n"
    return "\n".join(
        [
            script("machine/start"),
            export(environment),
            *map(script, _BEFORE_EVERY_SCRIPT),
            text,
            " ".join(["set --", *map(quote, words)]),
            f"printf %s {quote(_ANSWER)}",
            f"main \"$@\" <<'{end_of_data}'",
            f"{data}{end_of_data}",
            "",
        ]
    ).encode("utf-8", errors="surrogateescape")


def _without_nul(value: str) -> str:
    if "\0" in value:
        raise OpsError("a value with a NUL character can't be passed to a shell", next_step="Remove the character.")
    return value


class Machine:
    """A host that runs scripts.

    :param name: its name in messages.
    :param execute: runs a command line behind the host's connection, with become if that is set; raises
        :class:`ConnectionLost` if the connection ends.
    :param environment: environment variables of every script.
    """

    def __init__(self, name: str, execute: Execute, environment: Mapping[str, str]) -> None:
        self.name = name
        self.environment = dict(environment)
        self._execute = execute

    def run(
        self, name: str, *words: str, data: str = "", within: float | None = None, awaits: str = "its answer"
    ) -> Completed:
        """Run one of the collection's scripts on the host.

        :param name: the script, as in ``store/missing``.
        :param words: its positional parameters.
        :param data: its standard input.
        :param within: seconds until a connection that does not answer counts as lost; None for the default.
        :param awaits: what is waited for, for messages.
        :raises ConnectionLost: if the connection ends before the script does.
        """
        done = self._execute("/bin/sh -s", compose(script(name), words, self.environment, data), Wait(awaits, within))
        before, mark, text = done.stdout.partition(_ANSWER)
        if done.exit_code == 0 and not mark:
            raise OpsError(
                "the machine did not run the script that it was sent",
                machine=self.name,
                output=done.stderr or done.stdout,
                state="the running system is untouched",
                next_step="Let the SSH user run commands there: no forced command, a login shell that runs /bin/sh.",
            )
        return replace(done, stdout=text if mark else before)

    def ask(
        self,
        name: str,
        *words: str,
        schema: Schema | None = None,
        block: str | None = None,
        data: str = "",
        within: float | None = None,
        awaits: str = "its answer",
    ) -> Answer:
        """Run a script and read its answer.

        :param schema: the answers that are valid; by default only an empty one.
        :param block: the key that announces a block after the lines.
        :raises OpsError: if the script fails, with its output, or its answer is not valid.
        """
        done = self.run(name, *words, data=data, within=within, awaits=awaits)
        if done.exit_code != 0:
            raise OpsError(
                f"a script on the machine ended with exit code {done.exit_code}",
                machine=self.name,
                output=done.stderr or done.stdout,
                exit_code=done.exit_code,
            )
        return answer.read(done.stdout, schema or {}, self.name, block=block)

    def tidy(self, name: str, *words: str) -> None:
        """Run a script that cleans up. Best effort: don't mask the original error."""
        with suppress(ConnectionLost, OpsError):
            self.run(name, *words)
