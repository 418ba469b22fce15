# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deletes old generations of a machine and collects garbage there."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import jobs
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Generation, Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine, export, script
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

_PARTS_OF_JOB = ("machine/places", "machine/kept", "machine/system", "machine/collect_job")

_AGE = re.compile("([0-9]{1,6})([hdw])")
_SECONDS = {"h": 3600, "d": 86400, "w": 7 * 86400}

_REFUSALS = {
    "busy": ("an activation is at work there", "Wait for it to end, then run the same again."),
    "nix": ("Nix is missing on the machine", "Add its directory to the PATH of this user's shell."),
    "room": (
        "there is no room for the files of a job in /tmp",
        "Free room there (df -h /tmp), then run the same again.",
    ),
    "root": ("generations are deleted by root alone", "Become root on the machine ('become')."),
}
_BEGUN = {
    "directory": Key(re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._-]+)+")),
    "refused": Key(re.compile("|".join(_REFUSALS))),
}

# What nix-store says at the end of a collection.
_FREED = re.compile(r"^([0-9]{1,9}) store paths deleted, ([0-9]{1,9}(?:\.[0-9]{1,3})?) (bytes|[KMGT]iB) freed$", re.M)
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}

# The exit code of a job that an activation has overtaken (collect_job.sh).
_OVERTAKEN = 75


@dataclass(frozen=True)
class Freed:
    """What a collection has freed.

    :param paths: how many store paths; None if Nix has not told.
    :param size: their size in bytes, in the same way.
    """

    paths: int | None = None
    size: int | None = None


def read_age(text: str) -> int:
    """Return an age in seconds.

    :param text: such as ``30d``.
    :raises OpsError: if it is not valid.
    """
    match = _AGE.fullmatch(text)
    if match is None:
        raise OpsError(
            f"{text!r} is not an age: it has to be a number of hours, days or weeks, such as 12h, 30d or 8w",
            state="nothing was deleted",
            next_step="Correct 'older_than' (gc_older_than).",
        )
    return int(match[1]) * _SECONDS[match[2]]


def deletable(
    generations: Sequence[Generation],
    standing: Standing,
    needed: Collection[str],
    *,
    keep: int | None,
    older_than: int | None,
    now: float,
) -> list[Generation]:
    """Return the generations that may be deleted, the oldest first.

    :param standing: what the machine runs and boots, which stays.
    :param needed: other toplevels that stay.
    :param keep: how many generations stay, the newest ones; None for any number.
    :param older_than: the age in seconds from which on they may be deleted; None for any age.
    :param now: the time in seconds since 1970.
    :raises OpsError: if no generation shall be kept.
    """
    if keep is not None and keep < 1:
        raise OpsError(
            f"{keep} generations can't be kept",
            state="nothing was deleted",
            next_step="Give 'keep' (gc_keep) at least 1.",
        )
    if keep is None and older_than is None:
        return []
    stays = {*needed, standing.running, standing.booted, standing.profile, standing.boot_default, standing.trial}
    newest_first = sorted(generations, key=lambda one: -one.number)
    old = [one for one in newest_first[keep or 0 :] if older_than is None or now - one.created > older_than]
    return [one for one in reversed(old) if one.toplevel not in stays and one.number != standing.generation]


def collect(
    machine: Machine,
    profile: str,
    numbers: Sequence[int],
    *,
    on_line: LineSink,
    patience: float,
    within: float,
) -> Freed:
    """Delete generations and collect garbage. Shows the output live, and reconnects if the connection is lost.

    The machine keeps what it runs or boots by then, whatever it is told.

    :param patience: seconds in a row for which the machine may be unreachable.
    :param within: seconds until a collection that still runs is no longer followed.
    :raises OpsError: if it can't begin, or fails.
    """
    words = [profile, *map(str, numbers)]
    job = "\n".join([export(machine.environment), *map(script, _PARTS_OF_JOB)])
    begun = machine.ask("machine/collect", *words, schema=_BEGUN, data=job, awaits="the start of the collection")
    if (refused := begun.one("refused")) is not None:
        what, next_step = _REFUSALS[refused]
        raise OpsError(what, machine=machine.name, state="nothing was deleted", next_step=next_step)
    directory = begun.all("directory")[0]
    ended = jobs.follow(
        *(machine, directory), what="the garbage collection", on_line=on_line, patience=patience, within=within
    )
    machine.tidy("machine/job", "stop", directory)
    if ended.exit_code != 0:
        raise _failure(machine.name, ended)
    told = _FREED.findall(ended.log)
    return Freed(int(told[-1][0]), int(float(told[-1][1]) * _UNITS[told[-1][2]])) if told else Freed()


def _failure(machine: str, ended: jobs.Ended) -> OpsError:
    if ended.exit_code == _OVERTAKEN:
        what, next_step = _REFUSALS["busy"]
        return OpsError(what, machine=machine, state="nothing was deleted", next_step=next_step)
    what = "the garbage collection failed" if ended.exit_code is not None else "the garbage collection was killed"
    return OpsError(
        what,
        machine=machine,
        output=ended.log[-4000:],
        state="generations may be deleted already; what runs and boots is untouched",
        next_step=nix.what_helps(ended.log) or "Correct what the lines above name, then run the same again.",
        exit_code=ended.exit_code,
        was_shown=True,
    )
