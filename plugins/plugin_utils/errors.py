# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every engine raises, and the border turns into an Ansible failure."""

from __future__ import annotations


class OpsError(Exception):
    """Something failed, said so that a user can act on it.

    :param what: what failed, one sentence.
    :param machine: the machine it failed on; None for the controller.
    :param state: what state things are in now.
    :param next_step: what the user can do about it.
    :param output: what the failing tool said, kept whole.
    :param exit_code: the failing tool's exit code.
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
    ) -> None:
        super().__init__(what)
        self.what = what
        self.machine = machine
        self.state = state
        self.next_step = next_step
        self.output = output
        self.exit_code = exit_code

    def __str__(self) -> str:
        lines = [f"{self.machine}: {self.what}" if self.machine else self.what]
        if self.output:
            lines.append(self.output.rstrip())
        if self.state:
            lines.append(f"State: {self.state}")
        if self.next_step:
            lines.append(f"Next: {self.next_step}")
        return "\n".join(lines)


def first_line(text: object) -> str:
    """Return the first line of a message."""
    return str(text).partition("\n")[0]
