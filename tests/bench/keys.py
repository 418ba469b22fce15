# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the sending of keys with a command for each of them, on the same live machines in one run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

from fleet import Machine
from integration.project import Project

HERE = Path(__file__).resolve().parent

# 200 keys of 1 KiB and one of 10 MiB.
SIZES = [*[1024] * 200, 10 * 1024 * 1024]
BARE, NEW, CHANGED, SAME = (
    "a command for each key",
    "nixos_keys, all keys are new",
    "nixos_keys, one key changed",
    "nixos_keys, no key changed",
)


def measure(
    project: Project, machines: Sequence[Machine], repetitions: int, ssh_options: str, disconnect: Callable[[], None]
) -> Iterator[str]:
    """Measure, and answer with the lines of a table in Markdown.

    :param project: has the collection, and reaches the machines.
    :param ssh_options: the options with which ssh shares a connection.
    :param disconnect: ends the connections that are shared.
    """
    directory = project.directory / "secrets"
    write(directory, "")
    _write_play(project, machines, directory)
    seconds: dict[str, list[float]] = {BARE: [], NEW: [], CHANGED: [], SAME: []}
    for repetition in range(repetitions + 1):
        print(f"run {repetition} of {repetitions}, keys", file=sys.stderr)
        took = {}
        for side in seconds:
            if side in (BARE, NEW):
                for machine in machines:
                    machine.run(["rm", "-rf", "/run/keys"])
            if side == CHANGED:
                (directory / "key0").write_text(f"{repetition} {time.time()}")
            disconnect()
            took[side] = _timed(project, machines, side, directory, ssh_options)
        # The first one fills caches.
        for side, figure in took.items() if repetition else ():
            seconds[side].append(figure)
    yield f"| {len(SIZES)} keys on {len(machines)} machines at once | seconds |"
    yield "|---|---:|"
    for side, figures in seconds.items():
        yield f"| {side} | {median(figures):.2f} s |"


def write(directory: Path, contents: str) -> None:
    """Write the keys' files, each with other contents.

    :param contents: what they begin with, so that two calls write different keys.
    """
    directory.mkdir(exist_ok=True)
    for number, size in enumerate(SIZES):
        words = f"{contents} {number} ".encode()
        (directory / f"key{number}").write_bytes((words * (size // len(words) + 1))[:size])


def _write_play(project: Project, machines: Sequence[Machine], directory: Path) -> None:
    definitions = {
        file.name: {"path": f"/run/keys/{file.name}", "file": str(file), "source": "keyFile"}
        for file in directory.iterdir()
    }
    task = {"definitions": definitions, "deployment": "11111111-2222-4333-8444-555555555555"}
    play = {"hosts": "all", "gather_facts": False, "tasks": [{"nix.ops.nixos_keys": task}]}
    project.write("keys.yml", json.dumps([play]))
    project.write("keys.ini", "".join(f"{machine.name}\n" for machine in machines))


def _timed(project: Project, machines: Sequence[Machine], side: str, directory: Path, ssh_options: str) -> float:
    count = str(len(machines))
    if side == BARE:
        command = ["xargs", "-n", "1", "-P", count, str(HERE / "keys.sh"), str(directory)]
    else:
        command = ["ansible-playbook", "-i", "keys.ini", "keys.yml", "--forks", count]
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=project.directory,
        env={**project.variables(), "SSH_OPTIONS": ssh_options},
        input="\n".join(machine.name for machine in machines),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"bench: {side}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return time.monotonic() - began
