# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host behind any Ansible connection, driven by POSIX sh alone: no Python is needed on it.

A script goes to the host as ``/bin/sh -s`` on standard input. Its words and its data follow
it as here-documents, so that nothing has to be quoted for a login shell, nothing shows in
the host's process list, and no value ever becomes code.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Answer, Schema
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed

# Runs a command line on the host with the given standard input; where the seconds are given,
# a connection that has not answered by then is given up.
Execute = Callable[[str, bytes, float | None], Completed]

_ROOMS = Path(__file__).parents[1]
_BEFORE_EVERY_SCRIPT = ("machine/start", "machine/system")
_ANSWER = "nix.ops answers\n"
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:=@+,-")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ConnectionLost(Exception):
    """The connection to the host ended before its answer came.

    :param what: what the connection said.
    :param state: what state the host is in then.
    """

    def __init__(self, what: str, state: str = "the running system is untouched") -> None:
        super().__init__(what)
        self.state = state


def script(name: str) -> str:
    """Return the text of one of the collection's shell scripts.

    :param name: the folder it is in and its file name without ``.sh``, as in ``store/missing``.
    """
    return (_ROOMS / f"{name}.sh").read_text(encoding="utf-8")


def encode_word(word: str) -> str:
    """Write a word so that it is one line and nothing in it means anything to a shell.

    Every byte outside a plain alphabet becomes ``%`` and three octal digits, which
    ``printf %b`` of any POSIX sh reads back.
    """
    raw = word.encode("utf-8", errors="surrogateescape")
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:03o}" for byte in raw)


def compose(text: str, words: tuple[str, ...], environment: Mapping[str, str], data: str) -> bytes:
    """What the host's shell reads: the script, then its words and its data as here-documents.

    :param text: a script that defines the function ``main``.
    :param words: what ``main`` gets as positional parameters.
    :param environment: variables exported before.
    :param data: what ``main`` finds on standard input.
    :raises OpsError: where a variable has no proper name or a value holds a NUL.
    """
    for value in (*words, *environment.values(), data):
        if "\0" in value:
            raise OpsError("a value with a NUL character can't be passed to a shell", next_step="Remove the character.")
    for name in environment:
        if not _VARIABLE.fullmatch(name):
            raise OpsError(f"{name!r} is no name of an environment variable", next_step="Correct 'environment'.")
    lines = [f"e:{name}={encode_word(value)}" for name, value in environment.items()]
    lines += [f"w:{encode_word(word)}" for word in words]
    end_of_words = f"WORDS-{secrets.token_hex(16)}"
    end_of_data = f"DATA-{secrets.token_hex(16)}"
    if data and not data.endswith("\n"):
        data += "\n"
    return "\n".join(
        [
            *(script(name) for name in _BEFORE_EVERY_SCRIPT),
            text,
            f"start <<'{end_of_words}' 3<<'{end_of_data}'",
            *lines,
            end_of_words,
            f"{data}{end_of_data}",
            "",
        ]
    ).encode("utf-8", errors="surrogateescape")


class Machine:
    """A host that scripts are run on.

    :param name: how it is called in messages.
    :param execute: runs a command line behind the host's connection, with become where it is set;
        raises :class:`ConnectionLost` where the connection ends.
    :param environment: variables for whatever runs there.
    """

    def __init__(self, name: str, execute: Execute, environment: Mapping[str, str]) -> None:
        self.name = name
        self.environment = dict(environment)
        self._execute = execute

    def run(self, name: str, *words: str, data: str = "", within: float | None = None) -> Completed:
        """Run one of the collection's scripts on the host.

        :param name: the script, as in ``store/missing``.
        :param words: its positional parameters.
        :param data: its standard input.
        :param within: seconds after which a connection that does not answer is given up.
        :raises ConnectionLost: where the connection ended before the script did.
        """
        done = self._execute("/bin/sh -s", compose(script(name), words, self.environment, data), within)
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
    ) -> Answer:
        """Run a script that has to succeed and read its answer.

        :param schema: what it may answer; by default nothing.
        :param block: the key that announces a block after the lines.
        :raises OpsError: if the script fails, with what it said, or its answer is not valid.
        """
        done = self.run(name, *words, data=data, within=within)
        if done.exit_code != 0:
            raise OpsError(
                f"a script on the machine ended with exit code {done.exit_code}",
                machine=self.name,
                output=done.stderr or done.stdout,
                exit_code=done.exit_code,
            )
        return answer.read(done.stdout, schema or {}, self.name, block=block)

    def tidy(self, name: str, *words: str) -> None:
        """Run a script that removes what is no longer needed.

        A host that can't be reached any more keeps it: what is told is why it was being removed.
        """
        with suppress(ConnectionLost, OpsError):
            self.run(name, *words)
