# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the keys of a machine to it.

The machine compares what it has with salted hashes, and replaces only what differs. Contents go there on standard input
and never come back.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Answer
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Key

# What the scripts of keys have in common.
_PARTS = ("machine/lock", "machine/lines", "machine/old_keys")

_UUID = re.compile("[0-9a-f-]{36}")

# Up to this many keys and bytes, contents are sent without asking first which of them are needed.
_FEW = 50
_SMALL = 64 * 1024

# Contents that every shell takes as a word.
_SHORT = 8 * 1024
_TEXT = re.compile(rb"[\t\n\r -~]+")

# How often a machine is asked. Other runs may replace keys between the comparison and the sending.
_ATTEMPTS = 10

# Slowest rate that a sending may have, in bytes a second.
_SLOWEST = 32 * 1024
# Seconds that the machine may take for file systems and units.
_PATIENCE = 240

_MOST = 10_000
_NUMBER = answer.Key(re.compile("[0-9]{1,5}"), most=_MOST)
_NAME = answer.Key(re.compile(r"[A-Za-z0-9:_.-]{1,200}"), most=_MOST)
_ANSWER = {
    "added": _NUMBER,
    "changed": _NUMBER,
    "waits": _NUMBER,
    "activating": answer.Key(answer.YES),
    "lacks": _NUMBER,
    "removed": _NAME,
    "left": _NAME,
    "restarted": answer.Key(re.compile(r"[A-Za-z0-9:_.-]{1,210}"), most=_MOST),
}
_BACK = {"back": _NAME}
_REFUSED = {"refused": answer.Key(re.compile("([a-z]+) (-|[0-9]{1,5})"), required=True)}

# Why a machine refuses keys, and what to do about it.
_REFUSALS = {
    "busy": "Wait for the other run to end, then run the same again.",
    "root": "Become root on the machine ('become').",
    "room": "Free room on the machine (df -h /run /nix), then run the same again.",
    "user": "Declare the user in the network and deploy it, or correct deployment.keys.{name}.user.",
    "group": "Declare the group in the network and deploy it, or correct deployment.keys.{name}.group.",
    "directory": "Remove the directory there, or correct deployment.keys.{name}.",
    "mount": "Look at the file systems on the machine (systemctl --failed), then run the same again.",
    "read": "Read the lines above, then run the same again.",
    "write": "Free room there, or make the file system writable; or correct deployment.keys.{name}.destDir.",
}


@dataclass(frozen=True)
class Sent:
    """What became of the keys, or in a preview what would become of them.

    :param left: the keys that left the network and are still there.
    :param waits: the keys whose user or group is missing; the next activation has to make them.
    :param restarted: the units that were restarted.
    :param is_activating: whether nothing was sent before an activation, since another one is at work.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    is_activating: bool = False

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def __or__(self, other: Sent) -> Sent:
        def both(name: str) -> tuple[str, ...]:
            return tuple(dict.fromkeys((*getattr(self, name), *getattr(other, name))))

        # What is left to do is told anew by each sending.
        return replace(
            other,
            added=both("added"),
            changed=both("changed"),
            removed=both("removed"),
            restarted=both("restarted"),
        )


@dataclass(frozen=True)
class Sending:
    """How keys are sent.

    :param deployment: the UUID of the deployment, under which the machine remembers the names.
    :param whole: whether to remove the keys that left the network.
    :param before: whether an activation follows, so that the old keys are kept and none is removed.
    :param lenient: whether a missing user or group is accepted, since an activation follows.
    :param look: whether to compare only.
    :param differing: the keys that differed when they were compared; None if they were not compared.
    :param keeps: whether the old keys stay for a deploy that may take them back: ``forget``, ``anew`` or ``on``
        (``send.sh``).
    :param asks_first: whether the machine has to answer before it gets contents, as if ssh does not check its host key.
    """

    deployment: str
    whole: bool = True
    before: bool = False
    lenient: bool = False
    look: bool = False
    differing: Collection[str] | None = None
    keeps: str = "forget"
    asks_first: bool = False


def question(deployment: str, keys: Sequence[Key], contents: Mapping[str, bytes]) -> str:
    """Return what the machine compares beside its description (look.sh).

    :param keys: all keys of the deployment on this machine.
    :param contents: the contents of those that are to be compared.
    """
    hashes = _Hashes.of(keys, contents)
    lines = [f"{deployment} {hashes.salt} {hashes.sum}"]
    for number, key in enumerate(keys):
        owner = f"{key.user} {key.group} {_mode(key.permissions)}"
        lines.append(f"{number} {key.name} {owner} {hashes.of_key(key)} - {key.path}")
    return "\n".join(lines)


def send(machine: Machine, keys: Sequence[Key], contents: Mapping[str, bytes], how: Sending) -> Sent:
    """Replace the keys that differ on a machine.

    :param keys: all keys of the deployment on this machine.
    :param contents: the contents of those that are to be compared; the other keys are left alone.
    :raises OpsError: naming the key that can't be placed. The keys there are old or new, and whole.
    :raises ConnectionLost: if the connection ends.
    """
    if not _UUID.fullmatch(how.deployment):
        raise OpsError(f"{how.deployment!r} is not the UUID of a deployment", next_step="Correct 'deployment'.")
    attached: Sequence[str] = () if how.look or how.asks_first else _needed(contents, how)
    for _attempt in range(_ATTEMPTS):
        told = _ask(machine, keys, contents, attached, how)
        if "lacks" not in told:
            break
        # Another run may have replaced keys meanwhile, so compare all of them again.
        how = replace(how, differing=None)
        attached = [*attached, *(keys[number].name for number in _numbers(machine, keys, told, "lacks"))]
    else:
        raise OpsError(
            "its keys change all the time",
            machine=machine.name,
            state="this run has not touched its keys",
            next_step="Let nothing else write the keys, then run the same again.",
        )

    def names(key: str) -> tuple[str, ...]:
        return tuple(keys[number].name for number in _numbers(machine, keys, told, key))

    return Sent(
        names("added"),
        names("changed"),
        told.all("removed"),
        told.all("left"),
        names("waits"),
        told.all("restarted"),
        "activating" in told,
    )


def _needed(contents: Mapping[str, bytes], how: Sending) -> Sequence[str]:
    """Return the keys whose contents the machine probably needs."""
    if how.differing is not None:
        return [name for name in contents if name in how.differing]
    size = sum(len(content) for content in contents.values())
    return tuple(contents) if len(contents) <= _FEW and size <= _SMALL else ()


def treat_old(machine: Machine, deployment: str, what: str) -> tuple[str, ...]:
    """Put back or remove the keys that were replaced; return the names of those that were put back.

    :param deployment: the UUID of the deployment.
    :param what: ``unstarted``, ``back`` or ``forget`` (``old.sh``).
    :raises OpsError: if the machine can't.
    """
    words, awaits = (what, deployment), "its old keys"
    done = machine.stream(*_PARTS, "keys/old", words=words, data=b"", within=_PATIENCE, awaits=awaits)
    if done.exit_code != 0:
        raise OpsError(
            "its old keys were not put back" if what == "back" else "its old keys were not removed",
            machine=machine.name,
            output=done.stderr.strip(),
            state="its keys are the new ones",
            next_step="Deploy again, or send the right keys with nix.ops.send_keys.",
        )
    return answer.read(done.stdout, _BACK, machine.name).all("back")


def _numbers(machine: Machine, keys: Sequence[Key], told: Answer, key: str) -> list[int]:
    numbers = [int(number) for number in told.all(key)]
    if any(number >= len(keys) for number in numbers):
        raise answer.invalid(machine.name, f"it has a line {key!r} of a key that was not sent")
    return numbers


def _ask(
    machine: Machine, keys: Sequence[Key], contents: Mapping[str, bytes], attached: Sequence[str], how: Sending
) -> Answer:
    hashes = _Hashes.of(keys, contents)
    words = [
        how.deployment,
        "look" if how.look else "send",
        "lenient" if how.lenient else "strict",
        "before" if how.before else "whole" if how.whole else "part",
        how.keeps,
        hashes.salt,
        hashes.sum,
    ]
    data = []
    for key in keys:
        content = contents.get(key.name)
        words += [key.name, key.user, key.group, _mode(key.permissions), key.path]
        is_known_to_differ = key.name in attached and key.name in (how.differing or ())
        words.append("differs" if is_known_to_differ else hashes.of_key(key))
        if content is None or key.name not in attached:
            words += ["-", ""]
        elif len(content) <= _SHORT and _TEXT.fullmatch(content):
            # One process less there, and no place where others look: the words come on standard input as well.
            words += [f"w{len(content)}", content.decode("ascii")]
        else:
            words += [str(len(content)), ""]
            data.append(content)
    stream = b"".join(data)
    within = _PATIENCE + (len(stream) + sum(map(len, words))) / _SLOWEST
    try:
        parts, awaits = (*_PARTS, "keys/compare", "keys/send"), "the sending of its keys"
        done = machine.stream(*parts, words=words, data=stream, within=within, awaits=awaits)
    except ConnectionLost as lost:
        lost.state = "its keys are the old or the new ones, each of them whole"
        lost.next_step = lost.next_step or "Run the same again."
        raise
    if done.exit_code == 0 and not done.stdout.startswith("refused "):
        return answer.read(done.stdout, _ANSWER, machine.name)
    said = done.stderr.strip()
    if done.exit_code != 0:
        raise OpsError(
            f"the sending of its keys ended with exit code {done.exit_code}",
            machine=machine.name,
            output=said,
            state="its keys are the old or the new ones, each of them whole",
            next_step="Correct what the lines above name, then run the same again.",
        )
    raise _refusal(machine, keys, answer.read(done.stdout, _REFUSED, machine.name), said)


def _refusal(machine: Machine, keys: Sequence[Key], told: Answer, said: str) -> OpsError:
    why, _space, number = str(told.one("refused")).partition(" ")
    name = ""
    if number != "-":
        if int(number) >= len(keys):
            return answer.invalid(machine.name, "it refuses a key that was not sent")
        name = keys[int(number)].name
    return OpsError(
        f"the key {name} could not be sent" if name else "its keys could not be sent",
        machine=machine.name,
        output=said,
        state="its keys are the old or the new ones, each of them whole" if why == "write" else "no key was touched",
        next_step=_REFUSALS.get(why, "Read the lines above, then run the same again.").format(name=name or "NAME"),
    )


def _mode(permissions: str) -> str:
    """Return an octal mode as stat prints it, so that both compare equal; a symbolic one as it is."""
    return f"{int(permissions, 8):o}" if permissions.isdigit() else permissions


@dataclass(frozen=True)
class _Hashes:
    """What the machine compares with the hashes of its files, salted so that nobody guesses a short content.

    :param plain: the hashes of the contents, by the names of their keys.
    """

    salt: str
    plain: Mapping[str, str]

    @classmethod
    def of(cls, keys: Sequence[Key], contents: Mapping[str, bytes]) -> _Hashes:
        """Hash contents, in the order of the keys."""
        known = ((key.name, contents[key.name]) for key in keys if key.name in contents)
        return cls(secrets.token_hex(16), {name: hashlib.sha256(content).hexdigest() for name, content in known})

    @property
    def sum(self) -> str:
        """The salted hash of all contents together."""
        return self._salted("".join(f"{one}\n" for one in self.plain.values()))

    def of_key(self, key: Key) -> str:
        """Return the salted hash of a content; without one, when the key is sent."""
        plain = self.plain.get(key.name)
        if plain is None:
            return "later" if key.after else "-"
        return self._salted(plain)

    def _salted(self, text: str) -> str:
        return hashlib.sha256(f"{self.salt}{text}".encode("ascii")).hexdigest()
