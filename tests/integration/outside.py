# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests see from outside a run: on a machine past its sshd, and on the controller."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet import Machine
from integration.project import Project

# What keeps the closure that was copied last from being collected, from its arrival on.
COPIED = "/nix/var/nix/gcroots/nix-ops/copied"


def stands(seen: Mapping[str, Any]) -> tuple[str, str, str]:
    """Of what was seen on a machine: what runs, what the profile names and what boots."""
    return seen["running"], seen["profile"], seen["boot_default"]


def in_words(running: str, boots: str) -> str:
    """What a message says of what runs and what boots."""
    return f"runs and boots {running}" if running == boots else f"runs {running}, boots {boots}"


def left_over(seen: Mapping[str, Any]) -> list[str]:
    """What is left over on a machine, but the root of what was copied last."""
    return [one for one in seen["leftovers"] if one != COPIED]


def boots_of(machine: Machine) -> int:
    """How often a machine has booted; what is run on one that goes down is in its way."""
    return int(json.loads((machine.directory / "state.json").read_text())["boots"])


@contextmanager
def untouched(*machines: Machine) -> Iterator[None]:
    """Nothing that was seen on the machines before is another thing afterwards."""
    before = [machine.inspect() for machine in machines]
    yield
    assert [machine.inspect() for machine in machines] == before


def processes_of(project: Project) -> dict[int, str]:
    """The processes that a project's runs started and that still run, with their command lines.

    The connections that ssh shares and keeps for later are no part of them.
    """
    mark = f"NIX_OPS_RESULTS={project.directory}/".encode()
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if mark in environment and line and "[mux]" not in line and int(process.name) != os.getpid():
            found[int(process.name)] = line
    return found
