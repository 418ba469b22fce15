# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine whose sshd answers chosen calls in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .host import HERE
from .machine import Machine

# What hostile.sh can do instead of answering, or with the answer.
MISBEHAVIOURS = (
    *("silent", "silent-after", "endless", "endless-errors", "one-line", "drip", "wrong", "unknown", "other"),
    *("numbers", "escapes", "commands", "cut", "twice", "nothing", "mute", "fails", "lost"),
)

_SHELL = "/usr/local/bin/hostile"
_RULES = "/var/lib/hostile"


class Hostile:
    """Lets a machine misbehave.

    :param machine: the machine. Its user gets another login shell.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.run(f"cat >{_SHELL}; chmod 755 {_SHELL}", stdin=(HERE / "hostile.sh").read_bytes())
        machine.run(f"sed -i '/^{machine.user}:/s#:[^:]*$#:{_SHELL}#' /etc/passwd")

    def misbehave(self, texts: Sequence[str], how: str, *, mark: Path, other: str) -> None:
        """Answer a call in another way from now on.

        :param texts: patterns of grep; the call's script or command has all of them.
        :param how: one of ``MISBEHAVIOURS``.
        :param mark: a file of the controller that an injected command would make.
        :param other: the name of another machine.
        """
        self.behave()
        # The last file makes the others count.
        files = {"texts": "\n".join(texts), "mark": str(mark), "other": other, "how": how}
        self.machine.run(f"mkdir {_RULES}; touch {_RULES}/pids; chmod 666 {_RULES}/pids")
        for name, text in files.items():
            self.machine.run(f"cat >{_RULES}/{name}", stdin=f"{text}\n".encode())

    def behave(self) -> None:
        """Answer every call as asked from now on, and end what hangs there."""
        scratch = f"~{self.machine.user}/tmp.*"
        self.machine.run(f"kill $(cat {_RULES}/pids) 2>/dev/null; rm -rf {_RULES} {scratch}")
