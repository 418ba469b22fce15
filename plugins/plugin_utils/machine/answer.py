# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the answer of a script on a machine.

An answer is lines ``key value``. A machine may be broken into: only the keys of a schema are accepted, only values that
match it, and not more of them than it allows. Text that services can write, such as the journal, comes last, as a block
of a stated length, and is never read as lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.nix import STORE_PATH

# Largest answer in characters. The closure of a large system takes about 1 MB.
_LARGEST = 16 * 1024 * 1024

# Characters of an invalid line that a message shows.
_SHOWN = 200


@dataclass(frozen=True)
class Key:
    """The valid values of a key.

    :param value: the pattern of the whole value.
    :param most: how often the key may occur.
    :param required: whether the key has to occur.
    """

    value: re.Pattern[str]
    most: int = 1
    required: bool = False


Schema = Mapping[str, Key]

YES = re.compile("yes")
# systemd.unit(5)
UNIT = r"[A-Za-z0-9:_.\\@-]{1,255}"
STORE_PATHS = Key(STORE_PATH, most=1_000_000)


@dataclass(frozen=True)
class Answer:
    """The answer of a script.

    :param values: the values of each key, in their order.
    :param block: the block after the lines; empty if the answer has no block.
    """

    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    block: str = ""

    def all(self, key: str) -> tuple[str, ...]:
        """Return all values of a key."""
        return self.values.get(key, ())

    def one(self, key: str) -> str | None:
        """Return the only value of a key; None if it is missing or empty."""
        return (self.all(key) or ("",))[0] or None

    def __contains__(self, key: str) -> bool:
        return key in self.values


def read(text: str, schema: Schema, machine: str, *, block: str | None = None) -> Answer:
    """Read an answer.

    :param machine: the machine's name, for messages.
    :param block: the key of the last line, which announces a block and has the block's size in bytes.
    :raises OpsError: if the schema does not allow the answer.
    """
    if len(text) > _LARGEST:
        raise invalid(machine, f"it is longer than {_LARGEST} characters")
    found: dict[str, list[str]] = {}
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        line = text[start : end if end >= 0 else len(text)]
        start = end + 1 if end >= 0 else len(text)
        key, _space, value = line.partition(" ")
        if block is not None and key == block and end >= 0:
            return Answer(_checked(found, schema, machine), _block(text[start:], value, machine))
        allowed = schema.get(key)
        # A line that does not end was cut off.
        if allowed is None or end < 0 or not allowed.value.fullmatch(value):
            raise invalid(machine, f"it has the line {line[:_SHOWN]!r}")
        found.setdefault(key, []).append(value)
    return Answer(_checked(found, schema, machine))


def invalid(machine: str, why: str) -> OpsError:
    """Return the error for an answer that is not valid.

    :param why: what is wrong with the answer, as a clause.
    """
    return OpsError(
        f"the machine's answer is not valid: {why}",
        machine=machine,
        state="nothing of the answer was used",
        next_step="Run the same again. If the answer stays like this, the machine or its shell can't be trusted:"
        " look at its console.",
    )


def _checked(found: Mapping[str, list[str]], schema: Schema, machine: str) -> dict[str, tuple[str, ...]]:
    for key, allowed in schema.items():
        count = len(found.get(key, ()))
        if count > allowed.most:
            raise invalid(machine, f"it has {count} lines {key!r}")
        if allowed.required and not count:
            raise invalid(machine, f"it has no line {key!r}")
    return {key: tuple(values) for key, values in found.items()}


def _block(text: str, size: str, machine: str) -> str:
    present = len(text.encode("utf-8", errors="surrogateescape"))
    if size != str(present):
        raise invalid(machine, f"its block has {present} bytes instead of {size[:_SHOWN]!r}")
    return text
