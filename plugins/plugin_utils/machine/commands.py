# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs commands of the user on a host, and shows what they say while they run."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.nix.ops.plugins.plugin_utils.machine import jobs
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine, script
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

# Characters of the output that a result has.
_KEPT = 256 * 1024


@dataclass(frozen=True)
class Ran:
    """A command that has ended.

    :param exit_code: None if it was killed with its shell.
    :param output: what it wrote to standard output and standard error; of a long output the end.
    """

    exit_code: int | None
    output: str


def run(machine: Machine, command: str, *, on_line: LineSink, patience: float, within: float) -> Ran:
    """Run a line of shell on a host. It goes on if the connection is lost, and is followed over a new one.

    :param on_line: called with each line of output at once.
    :param patience: seconds in a row for which the host may be unreachable.
    :param within: seconds until a command that still runs is ended.
    :raises OpsError: if it has not ended in time.
    """
    begun = machine.ask(
        "machine/command",
        command,
        schema=jobs.BEGUN,
        parts=["machine/detach"],
        data=script("machine/command_job"),
        awaits="the start of the command",
    )
    directory = begun.all("directory")[0]
    try:
        ended = jobs.follow(machine, directory, what="the command", on_line=on_line, patience=patience, within=within)
    except jobs.Unfollowed as late:
        late.state = "the command is ended there, with all that it has started"
        late.next_step = "Look at the lines above, or give it more time ('timeout')."
        raise
    finally:
        machine.tidy("machine/job", "stop", directory)
    return Ran(ended.exit_code, ended.log[-_KEPT:])
