# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The error that all engines raise. Entry points turn it into a failure of Ansible."""

from __future__ import annotations

# Most characters of an output that a message shows. A machine may print without end.
_SHOWN = 65536


class OpsError(Exception):
    """A failure, with what the user needs to know about it.

    :param what: what failed, in one sentence.
    :param machine: the machine where it failed; None for the controller.
    :param state: what runs, boots or exists now.
    :param next_step: a command or an edit that helps.
    :param output: the whole output of the tool that failed.
    :param exit_code: the exit code of the tool that failed.
    :param was_shown: whether the output was shown while the tool ran.
    """

    def __init__(
        self,
        what: str,
        *,
        machine: str | None = None,
        state: str | None = None,
        next_step: str | None = None,
        output: str | None = None,
        exit_code: int | None = None,
        was_shown: bool = False,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.machine = machine
        self.state = state
        self.next_step = next_step
        self.output = output
        self.exit_code = exit_code
        self.was_shown = was_shown

    def __str__(self) -> str:
        return self._text(f"{self.machine}: " if self.machine else "", self.output)

    def untold(self) -> str:
        """Return the message without the machine's name, and without an output that was shown."""
        return self._text("", None if self.was_shown else self.output)

    def _text(self, prefix: str, output: str | None) -> str:
        text = "\n".join([self.what, *([_end(output.rstrip())] if output else [])])
        # A machine could end a line and write one that looks like another machine's, or like the state.
        lines = [f"{prefix}{indent(text)}" if self.machine else text]
        if self.state:
            lines.append(f"State: {indent(self.state)}")
        if self.next_step:
            lines.append(f"Next: {self.next_step}")
        return "\n".join(lines)


def _end(output: str) -> str:
    """Return the end of an output that would be too long for a message."""
    left_out = len(output) - _SHOWN
    return output if left_out <= 0 else f"({left_out} earlier characters are left out)\n{output[-_SHOWN:]}"


def indent(text: str) -> str:
    """Indent all lines but the first."""
    return text.replace("\n", "\n  ")


def message(error: Exception) -> str:
    """Return an error's message for use in another error, which has its own state and next step."""
    if not isinstance(error, OpsError):
        return str(error)
    return str(OpsError(error.what, machine=error.machine, output=error.output))


def first_line(text: object) -> str:
    """Return the first line of a message."""
    return str(text).partition("\n")[0]


def reason(error: Exception) -> str:
    """Return what failed, in one line and without the machine's name."""
    return first_line(error.what if isinstance(error, OpsError) else error)
