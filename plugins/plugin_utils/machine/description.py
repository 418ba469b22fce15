# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describes what a NixOS machine runs and boots, and its generations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import SYSTEM_PROFILE
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer, checkup
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Answer, Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.checkup import Checkup
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine
from ansible_collections.nix.ops.plugins.plugin_utils.nix import STORE_PATH

PROFILE = re.compile(r"/nix/var/nix/profiles/(?:[A-Za-z0-9_][A-Za-z0-9+._-]*/)*[A-Za-z0-9_][A-Za-z0-9+._-]*")

# What modules do not return of a standing.
_NOT_RETURNED = {"last_activation"}

_PARTS_THAT_NEED_A_REBOOT = ("kernel", "initrd", "kernel-modules", "systemd")

_TOPLEVEL = re.compile(f"(?:{STORE_PATH.pattern})?")
_PART = f"(?:{STORE_PATH.pattern}(?:/[!-~]*)?)?"
_GENERATION = re.compile("(?:[0-9]{1,9})?")
UNIT = answer.UNIT
# A file in the directory of units: "a.service", "a.service.d/overrides.conf", "b.target.wants/a.service".
UNIT_FILE = re.compile(f"{UNIT}(?:/{UNIT})?")
# Where a file of /etc leads or the hash of its content, and its name.
FILE = re.compile("[!-~]{1,4096} [ -~]{1,4096}")
_UUID = re.compile("[0-9a-f-]{36}")
_TEXT = Key(re.compile("[ -~]{0,1024}"))

# The number of a generation, its kernel, its parts that need a reboot, and its version of NixOS (describe.sh).
_NAMES = "|".join(_PARTS_THAT_NEED_A_REBOOT)
_DETAILS = re.compile(
    f"[0-9]{{1,9}} [A-Za-z0-9._+-]{{1,100}} (?:-|(?:{_NAMES})(?:,(?:{_NAMES})){{0,3}}) [ -~]{{1,200}}"
)

# The answer about what runs and boots (system.sh: standing).
STANDING = {
    "running": Key(_TOPLEVEL, required=True),
    "booted": Key(_TOPLEVEL, required=True),
    "profile": Key(_TOPLEVEL, required=True),
    "generation": Key(_GENERATION, required=True),
    "boot_default": Key(_TOPLEVEL, required=True),
    "boot_unfinished": Key(answer.YES),
    "trial": Key(_TOPLEVEL),
    "boot_id": Key(_UUID, required=True),
    "part": Key(re.compile(f"(?:{'|'.join(_PARTS_THAT_NEED_A_REBOOT)}) {_PART} {_PART}"), most=4, required=True),
    "failed": Key(re.compile(UNIT), most=10_000),
    "last_activation": _TEXT,
}
_KEY = Key(re.compile("[A-Za-z0-9:_.-]{1,200}"), most=10_000)
# A record as a machine prints it: its revision and its text.
RECORD = Key(re.compile(r"[0-9]{1,15} [ -~]*"))
DESCRIPTION = {
    **STANDING,
    "activating": Key(answer.YES),
    "system_state": Key(re.compile("[a-z-]{0,32}"), required=True),
    "nixos_version": _TEXT,
    "release": _TEXT,
    "nix_store": Key(_TEXT.value, required=True),
    "generation_details": Key(_DETAILS, most=200),
    "generation_entry": Key(re.compile("[0-9]{1,9} [0-9]{1,12} [ -~]{1,4096}"), most=100_000),
    "closure": answer.STORE_PATHS,
    "unit": Key(re.compile(f"{UNIT_FILE.pattern} [!-~]{{1,4096}}"), most=100_000),
    "file": Key(FILE, most=100_000),
    "owner": Key(_UUID, most=1000),
    "record": RECORD,
    "key": _KEY,
    "key_missing": _KEY,
    "key_differs": Key(re.compile("[0-9]{1,5}"), most=20_000),
    "key_gone": _KEY,
    "keys_unknown": Key(answer.YES),
}
# Tells more than a description: compares keys.
_COMPARING_KEYS = ("machine/lines", "keys/compare", "keys/look")
# The first two numbers of os-release's VERSION_ID. NixOS up to 21.05 has its whole version there.
_RELEASE = re.compile(r"[0-9]{2}\.[0-9]{2}")


def check_profile(profile: str) -> None:
    """Check a profile's path.

    :raises OpsError: if it is not valid.
    """
    if not PROFILE.fullmatch(profile):
        raise OpsError(
            f"{profile!r} is not a valid profile", next_step="Give a path below /nix/var/nix/profiles, or leave it out."
        )


@dataclass(frozen=True)
class Standing:
    """What runs on a machine and what boots.

    :param running: the toplevel that runs.
    :param booted: the toplevel that was booted.
    :param profile: the toplevel that the system profile names.
    :param generation: the number of the profile's generation.
    :param boot_default: the toplevel that the boot menu starts by default; None if the menu can't be read.
    :param boot_unfinished: whether the profile was set and its boot entry has not been written since.
    :param failed_units: the units in the state ``failed``.
    :param boot_id: the id of this boot.
    :param reboot_parts: the parts of the booted system that differ from the profile's and that only a reboot replaces.
    :param trial: the toplevel that stays only if its first boot is acknowledged; None if no boot waits for that.
    :param last_activation: the result of the last activation as ``places.sh`` describes it; None if it is missing,
        or if the user can't read it.
    """

    running: str | None
    booted: str | None
    profile: str | None
    generation: int | None
    boot_default: str | None
    boot_unfinished: bool = False
    failed_units: tuple[str, ...] = ()
    boot_id: str | None = None
    reboot_parts: tuple[str, ...] = ()
    trial: str | None = None
    last_activation: str | None = field(default=None, compare=False)

    @property
    def on_trial(self) -> bool:
        """Whether the running system boots back unless somebody gets in."""
        return self.trial is not None and self.trial == self.running

    @property
    def activated_by(self) -> str | None:
        """The UUID of the deployment whose activation was the last one; None if that is not known."""
        uuid = (self.last_activation or "").partition(" ")[0]
        return uuid if _UUID.fullmatch(uuid) else None

    def stands_at(self, toplevel: str, action: str) -> bool:
        """Whether an action of ``switch-to-configuration`` with this toplevel has nothing to do."""
        runs = self.running == toplevel
        boots = self.profile == toplevel and self.boot_default in (toplevel, None) and not self.boot_unfinished
        return {"switch": runs and boots, "boot": boots, "test": runs}.get(action, False)

    def sentence(self) -> str:
        """What runs and what boots, in words."""
        if self.running and self.running == self.boot_default:
            return f"runs and boots {self.running}"
        return f"runs {self.running or 'an unknown system'}, {self._boots()}"

    def _boots(self) -> str:
        if self.boot_default:
            return f"boots {self.boot_default}"
        profile = self.profile or "an unknown system"
        if self.boot_unfinished:
            return f"may boot an older system: the boot entry of its profile, {profile}, was not written"
        return f"boots {profile}, its profile (the boot menu can't be read)"


# The keys that modules return of a standing.
OF_STANDING = frozenset(one.name for one in fields(Standing)) - _NOT_RETURNED


@dataclass(frozen=True)
class Generation:
    """A numbered link of the system profile.

    :param created: when the link was made, in seconds since 1970.
    :param nixos_version: the version of NixOS; None if it is missing or not asked for.
    :param kernel: the version of the kernel, in the same way. A container has none.
    :param reboot_parts: its parts that differ from the booted ones and need a reboot; None if not asked for.
    """

    number: int
    toplevel: str
    created: int
    nixos_version: str | None = None
    kernel: str | None = None
    reboot_parts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ComparedKeys:
    """How the keys of a machine compare with those of the controller.

    :param differing: the numbers of the keys that differ, in the order in which they were compared.
    :param gone: the names of the keys that left the network.
    """

    differing: tuple[int, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True)
class Description:
    """A NixOS machine.

    :param closure: the store paths of the running system; empty if not asked for.
    :param units: the files of the running system's units and the store paths that they lead to; empty if not asked for.
    :param files: the running system's files of /etc, and where they lead or the hash of their content; empty if not
        asked for.
    :param booted_parts: the store paths of the parts of the booted system that only a reboot replaces.
    :param release: the NixOS release that runs, such as ``24.05``; None if it is not known.
    :param owners: the UUIDs of the deployments that have a record on the machine, as far as its user can read them.
    :param record: the machine's own record as printed there; None if it is missing or not asked for.
    :param activating: whether an activation is at work.
    :param machine_id: what tells the machine from others after a reboot; None if it has none or the user can't read it.
    :param keys: the keys that the deployment has sent and that are there; empty if its record was not asked for.
    :param missing_keys: those that are not there any more, as after a reboot.
    :param compared_keys: how its keys compare; None if that was not asked, or can't be told.
    """

    standing: Standing
    nixos_version: str | None
    system_state: str | None
    has_nix: bool
    generations: tuple[Generation, ...]
    closure: tuple[str, ...]
    units: Mapping[str, str]
    files: Mapping[str, str]
    booted_parts: Mapping[str, str]
    release: str | None
    owners: tuple[str, ...]
    record: str | None
    activating: bool
    machine_id: str | None = None
    keys: tuple[str, ...] = ()
    missing_keys: tuple[str, ...] = ()
    checkup: Checkup | None = None
    compared_keys: ComparedKeys | None = None


def standing(answer: Answer) -> Standing:
    """Read the lines about what runs and boots."""
    generation = answer.one("generation")
    return Standing(
        running=answer.one("running"),
        booted=answer.one("booted"),
        profile=answer.one("profile"),
        generation=int(generation) if generation else None,
        boot_default=answer.one("boot_default"),
        boot_unfinished="boot_unfinished" in answer,
        failed_units=answer.all("failed"),
        boot_id=answer.one("boot_id"),
        reboot_parts=tuple(_changed_parts(answer)),
        trial=answer.one("trial"),
        last_activation=answer.one("last_activation"),
    )


def standing_of(found: Mapping[str, Any]) -> Standing | None:
    """Read what runs and boots from the result of :func:`as_json`; None if a part is missing."""
    if not found.keys() >= OF_STANDING:
        return None
    known = {name: found[name] for name in OF_STANDING}
    lists = {name: tuple(known[name]) for name in ("failed_units", "reboot_parts")}
    return Standing(**{**known, **lists})


def describe(
    machine: Machine,
    *,
    profile: str = SYSTEM_PROFILE,
    contents: bool = False,
    generations: bool = False,
    record: str | None = None,
    check: bool = False,
    keys: str | None = None,
) -> Description:
    """Ask a machine what it runs, in one round trip. This changes nothing there.

    :param contents: ask for the store paths, units and files of /etc of the running system too.
    :param generations: ask for the versions of the generations too.
    :param record: ask for its own record of the deployment with this UUID too.
    :param check: ask for its load, disks and so on too.
    :param keys: compare these keys too (look.sh).
    :raises OpsError: if the machine can't answer.
    """
    asked = {"contents": contents, "generations": generations, f"record={record}": record}
    words = {**asked, "checkup": check, "keys": keys is not None}
    wanted = [word for word, asked in words.items() if asked]
    parts = [*(["machine/checkup"] if check else ()), *(_COMPARING_KEYS if keys else ())]
    told = machine.ask(
        "machine/describe",
        *(profile, *wanted),
        schema={**DESCRIPTION, **(checkup.SCHEMA if check else {})},
        parts=parts,
        data=keys or "",
        awaits="what it runs",
    )
    release = _RELEASE.match(told.one("release") or "")
    return Description(
        standing=standing(told),
        nixos_version=told.one("nixos_version"),
        system_state=told.one("system_state"),
        has_nix=bool(told.one("nix_store")),
        generations=_read_generations(told),
        closure=told.all("closure"),
        units=read_units(told),
        files=read_files(told),
        booted_parts={name: booted for name, (booted, _profile) in _read_parts(told).items() if booted},
        release=release[0] if release else None,
        owners=told.all("owner"),
        record=told.one("record"),
        activating="activating" in told,
        machine_id=machine.identity.machine_id or None,
        keys=told.all("key"),
        missing_keys=told.all("key_missing"),
        checkup=checkup.read(told) if check else None,
        compared_keys=_read_compared_keys(told) if keys else None,
    )


def as_json(found: Description) -> dict[str, Any]:
    """Return a description as the plain values that modules return."""
    known = {name: value for name, value in asdict(found.standing).items() if name not in _NOT_RETURNED}
    return {
        **known,
        "nixos_version": found.nixos_version,
        "system_state": found.system_state,
        "has_nix": found.has_nix,
        "activating": found.activating,
        "machine_id": found.machine_id,
        "owners": list(found.owners),
        "sent_keys": list(found.keys),
        "missing_keys": list(found.missing_keys),
        "generations": [_generation_as_json(generation) for generation in found.generations],
        "reboot_needed": bool(found.standing.reboot_parts),
        "reboot_parts": list(found.standing.reboot_parts),
        "booted_parts": dict(found.booted_parts),
    }


def read_units(answer: Answer) -> dict[str, str]:
    """Read the files of units, and the store paths that they lead to."""
    return {name: path for name, _space, path in (line.partition(" ") for line in answer.all("unit"))}


def read_files(answer: Answer) -> dict[str, str]:
    """Read the files of /etc, and where they lead or the hash of their content."""
    return {name: value for value, _space, name in (line.partition(" ") for line in answer.all("file"))}


def _read_compared_keys(told: Answer) -> ComparedKeys | None:
    if "keys_unknown" in told:
        return None
    return ComparedKeys(tuple(map(int, told.all("key_differs"))), told.all("key_gone"))


def _read_generations(answer: Answer) -> tuple[Generation, ...]:
    details = {number: rest for number, *rest in (line.split(" ", 3) for line in answer.all("generation_details"))}
    found = []
    for line in answer.all("generation_entry"):
        number, created, toplevel = line.split(" ", 2)
        one = Generation(int(number), toplevel, int(created))
        if number in details:
            kernel, parts, version = (None if value == "-" else value for value in details[number])
            one = replace(
                one, nixos_version=version, kernel=kernel, reboot_parts=tuple(parts.split(",")) if parts else ()
            )
        found.append(one)
    return tuple(sorted(found, key=lambda one: one.number))


def _generation_as_json(one: Generation) -> dict[str, Any]:
    return {**asdict(one), "reboot_parts": None if one.reboot_parts is None else list(one.reboot_parts)}


def generations_of(found: Mapping[str, Any]) -> tuple[Generation, ...]:
    """Read the generations from the result of :func:`as_json`."""
    names = [one.name for one in fields(Generation)]
    listed = [Generation(**{name: one.get(name) for name in names}) for one in found.get("generations") or ()]
    return tuple(
        one if one.reboot_parts is None else replace(one, reboot_parts=tuple(one.reboot_parts)) for one in listed
    )


def _read_parts(answer: Answer) -> dict[str, tuple[str, str]]:
    """Return the booted and the profile's path of each part that only a reboot replaces. A missing part is empty."""
    found = {}
    for line in answer.all("part"):
        name, booted, profile = line.split(" ")
        found[name] = (booted, profile)
    return found


def _changed_parts(answer: Answer) -> list[str]:
    return [name for name, (booted, profile) in _read_parts(answer).items() if differs(booted, profile)]


def differs(booted: str | None, new: str | None) -> bool:
    """Return whether a part of a system needs a reboot (system.sh: has_other_parts).

    :param booted: the store path of the booted part; nothing if the booted system lacks it, as a container does.
    :param new: that of the new system's part, in the same way.
    """
    return bool(booted and new and booted != new)
