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
from collections.abc import Callable, Mapping, Sequence
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

# Reads a script from standard input.
SHELL = "/bin/sh -s"
# Reads so many bytes of a script from standard input, and leaves the rest to the script. A shell that reads the script
# itself would keep data of the script in a temporary file.
_SHELL_WITH_STREAM = (
    "/bin/sh -c 'eval \"$(PATH=$PATH:/nix/var/nix/profiles/default/bin:/run/current-system/sw/bin"
    " dd bs={} count=1 iflag=fullblock 2>/dev/null)\"'"
)

_ROOMS = Path(__file__).parents[1]
_BEFORE_EVERY_SCRIPT = ("machine/places", "machine/kept", "machine/system", "machine/answers")
# What stands before an answer, with the ids of boot and machine (answers.sh), and after it, with its exit code.
# The start-up files of a shell may print something before and after it.
_BEGINS = re.compile(r"nix\.ops answers ([0-9a-f-]{36}) ((?:[0-9a-f-]{36})?)\n")
_ENDS = re.compile(r"nix\.ops ends ([0-9]{1,3})\n")
# What the programs say that run commands as root, if they refuse. The numbers are bounded: a machine can say anything.
_REFUSED = re.compile(
    r"^(?:.{0,40}\b(?:sudo|doas|su|run0|pkexec): .{1,200}"
    r"|.{1,100}is not in the sudoers file.{0,100}|.{0,100}is not allowed to (?:execute|run) .{1,200})$",
    re.MULTILINE,
)
_REFUSED_NEXT = (
    "Let this user become root there, for example by the group wheel (users.users.NAME.extraGroups), or log in as root"
    " (deployment.targetUser), then run the same again."
)
_NOT_RUN_NEXT = (
    "Let the SSH user run commands there: no forced command, a login shell that runs /bin/sh, and neither -n nor"
    " StdinNull among ssh's options."
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


UNTOUCHED = "the running system is untouched"

# The keys of a description that tell a machine from others.
IDENTITY = ("boot_id", "machine_id")


class ConnectionLost(Exception):
    """The connection to the host ended before its answer came.

    :param what: the error of the connection.
    :param state: what the host runs now, for the user.
    :param next_step: a command or an edit that helps; None if the error alone tells it.
    """

    def __init__(self, what: str, state: str = UNTOUCHED, next_step: str | None = None) -> None:
        super().__init__(what)
        self.state = state
        self.next_step = next_step


class AnotherMachine(OpsError):
    """Another machine answers than the one that answered before. Nothing was run on it."""

    def __init__(self, machine: str) -> None:
        super().__init__(
            "another machine answers there than the one that was asked before, or it was rebooted meanwhile",
            machine=machine,
            state="nothing was run on what answers",
            next_step="Compare where the address leads to (deployment.targetHost, ssh's configuration, a jump host, a"
            " forwarded port), then run the same again.",
        )


@dataclass
class Identity:
    """What tells a machine from others. The first one that answers is the right one.

    :param boot_id: the id of its boot; empty if it is not known yet.
    :param machine_id: the id that its first activation gave it; empty if it has none, or it is not known.
    """

    boot_id: str = ""
    machine_id: str = ""

    def is_of(self, boot_id: str, machine_id: str) -> bool:
        """Return whether the machine with these ids is this one, perhaps after a reboot."""
        return boot_id == self.boot_id or not self.boot_id or (machine_id == self.machine_id != "")

    def learn(self, boot_id: str, machine_id: str) -> None:
        """Expect the machine with these ids from now on."""
        self.boot_id, self.machine_id = boot_id, machine_id or self.machine_id

    def forget(self) -> None:
        """Expect any machine."""
        self.boot_id = self.machine_id = ""


class PasswordRefused(OpsError):
    """The host refuses the password. Not worth retrying: many hosts lock an account after a few wrong passwords.

    :param what: the error of the connection.
    :param machine: the host's name.
    :param state: what the host runs now, for the user.
    """

    def __init__(self, what: str, machine: str, state: str = UNTOUCHED) -> None:
        super().__init__(
            "the machine refuses the password, so no more was tried",
            machine=machine,
            output=what,
            state=state,
            next_step="Correct the password (ansible_become_password, ansible_password, -K or -k), then run the same"
            " again.",
        )


class PasswordMissing(OpsError):
    """The host asks for a password before it runs commands as root, and the user gave no password.

    :param what: the error of the connection.
    :param machine: the host's name.
    :param state: what the host runs now, for the user.
    """

    def __init__(self, what: str, machine: str, state: str = UNTOUCHED) -> None:
        super().__init__(
            f"the machine asks for a password to run commands as root, and none was given ({what})",
            machine=machine,
            state=state,
            next_step="Give the password (-K, or ansible_become_password), or let the SSH user become root without it.",
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


def compose(
    text: str,
    words: tuple[str, ...],
    environment: Mapping[str, str],
    data: str,
    expected: Identity | None = None,
) -> bytes:
    """Write what the host's shell reads.

    The environment comes before the parts that every script has, so that it can't replace their variables.

    :param text: a script that defines the function ``main``.
    :param words: the positional parameters of ``main``.
    :param environment: exported variables.
    :param data: the standard input of ``main``; a last line without an end gets one.
    :param expected: the machine that it is for. Another one runs nothing of ``main``.
    :raises OpsError: if the name of a variable is not valid or a value has a NUL.
    """
    end_of_data = f"DATA-{secrets.token_hex(16)}"
    if _without_nul(data) and not data.endswith("\n"):
        data += "\n"
    call = f"{_call(expected)} <<'{end_of_data}'\n{data}{end_of_data}"
    return _compose(text, words, environment, call)


def _call(expected: Identity | None) -> str:
    expected = expected or Identity()
    # In a subshell, since main may exit.
    return f'(begin_answer {quote(expected.boot_id)} {quote(expected.machine_id)} && main "$@")'


def _compose(text: str, words: tuple[str, ...], environment: Mapping[str, str], call: str) -> bytes:
    return "\n".join(
        [
            script("machine/start"),
            export(environment),
            *map(script, _BEFORE_EVERY_SCRIPT),
            text,
            " ".join(["set --", *map(quote, words)]),
            call,
            "set -- $?",
            'echo "nix.ops ends $1"',
            'exit "$1"',
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
    :param identity: tells the host from others, for all that reach it.
    """

    def __init__(
        self, name: str, execute: Execute, environment: Mapping[str, str], identity: Identity | None = None
    ) -> None:
        self.name = name
        self.environment = dict(environment)
        self.identity = identity or Identity()
        self._execute = execute

    def run(
        self,
        name: str,
        *words: str,
        parts: Sequence[str] = (),
        data: str = "",
        within: float | None = None,
        awaits: str = "its answer",
    ) -> Completed:
        """Run one of the collection's scripts on the host.

        :param name: the script, as in ``store/missing``.
        :param words: its positional parameters.
        :param parts: scripts whose functions it uses, in addition to those that every script has.
        :param data: its standard input.
        :param within: seconds until a connection that does not answer counts as lost; None for the default.
        :param awaits: what is waited for, for messages.
        :raises ConnectionLost: if the connection ends before the script does.
        :raises AnotherMachine: if the connection leads to another host than before.
        :raises OpsError: if the script has not run to its end.
        """
        text = compose("\n".join(map(script, (*parts, name))), words, self.environment, data, self.identity)
        return self._read(self._execute(SHELL, text, Wait(awaits, within)))

    def stream(
        self,
        *names: str,
        words: Sequence[str],
        data: bytes,
        within: float | None = None,
        awaits: str = "its answer",
    ) -> Completed:
        """Run a script that reads bytes from its standard input. They are in no file and in no command line there.

        The parameters are those of :meth:`run`, and so are the errors.

        :param names: the script's parts; the last one defines ``main``.
        """
        text = _compose("\n".join(map(script, names)), tuple(words), self.environment, _call(self.identity))
        command = _SHELL_WITH_STREAM.format(len(text))
        return self._read(self._execute(command, text + data, Wait(awaits, within)))

    def _read(self, done: Completed) -> Completed:
        """Return the script's own output and exit code, without what the host's shell says before and after it."""
        begin = _BEGINS.search(done.stdout)
        if begin is None:
            raise self._not_run(done)
        if not self.identity.is_of(begin[1], begin[2]):
            raise AnotherMachine(self.name)
        *_others, end = [None, *_ENDS.finditer(done.stdout, begin.end())]
        if end is None:
            raise answer.invalid(self.name, "its end is missing")
        self.identity.learn(begin[1], begin[2])
        return replace(done, exit_code=int(end[1]), stdout=done.stdout[begin.end() : end.start()])

    def _not_run(self, done: Completed) -> OpsError:
        refused = _REFUSED.search(done.stderr) if done.exit_code else None
        code = f" (exit code {done.exit_code})" if done.exit_code else ""
        what = f"the machine did not answer the script that it was sent{code}"
        return OpsError(
            f"commands can't be run as root there: {refused[0].strip()}" if refused else what,
            machine=self.name,
            output=None if refused else done.stderr or done.stdout,
            state="the script was not run",
            next_step=_REFUSED_NEXT if refused else _NOT_RUN_NEXT,
            exit_code=done.exit_code or None,
        )

    def ask(
        self,
        name: str,
        *words: str,
        schema: Schema | None = None,
        block: str | None = None,
        parts: Sequence[str] = (),
        data: str = "",
        within: float | None = None,
        awaits: str = "its answer",
    ) -> Answer:
        """Run a script and read its answer. The parameters are those of :meth:`run`, and these.

        :param schema: the answers that are valid; by default only an empty one.
        :param block: the key that announces a block after the lines.
        :raises OpsError: if the script fails, with its output, or its answer is not valid.
        """
        done = self.run(name, *words, parts=parts, data=data, within=within, awaits=awaits)
        if done.exit_code != 0:
            raise OpsError(
                f"a script on the machine ended with exit code {done.exit_code}",
                machine=self.name,
                output=done.stderr or done.stdout,
                state="nothing of its answer was used",
                next_step="Correct what the lines above name, then run the same again.",
                exit_code=done.exit_code,
            )
        return answer.read(done.stdout, schema or {}, self.name, block=block)

    def tidy(self, name: str, *words: str, data: str = "") -> None:
        """Run a script that cleans up. Best effort: don't mask the original error."""
        with suppress(ConnectionLost, OpsError):
            self.run(name, *words, data=data)
