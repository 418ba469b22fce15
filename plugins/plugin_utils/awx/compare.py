# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares what a definition says with what AWX answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

# Stands for a secret in the answers of AWX.
ENCRYPTED = "$encrypted$"

# AWX refuses a passphrase for a key that has none, so a new key does not keep it.
_OF_ANOTHER = {"ssh_key_unlock": "ssh_key_data"}

# Fields of which AWX keeps more than it was given.
_MERGED = ("messages",)


def differing(wanted: Mapping[str, Any], there: Mapping[str, Any], secret: str | None, *, new: bool) -> list[str]:
    """Return the fields of an object that are not what a definition says.

    :param secret: the field with secrets; a secret that AWX does not tell counts as the same.
    :param new: whether secrets count as different.
    """
    return [
        name
        for name, value in wanted.items()
        if not (
            _same_secrets(value, there.get(name) or {}, new=new)
            if name == secret
            else same(value, there.get(name), merged=name in _MERGED)
        )
    ]


def same(wanted: Any, there: Any, *, merged: bool = False) -> bool:
    """Return whether AWX has a value.

    :param merged: whether AWX may have more keys than that.
    """
    if isinstance(wanted, Mapping):
        there = _mapping(there)
        names = wanted.keys() if merged else {*wanted, *there}
        return all(same(wanted.get(name), there.get(name), merged=merged) for name in names)
    if isinstance(wanted, list):
        return isinstance(there, list) and len(wanted) == len(there) and all(map(same, wanted, there))
    if wanted in (None, "") and there in (None, ""):
        return True
    if isinstance(wanted, bool) or isinstance(there, bool):
        return wanted is there
    return str(wanted) == str(there)


def with_secrets(wanted: Mapping[str, Any], there: Mapping[str, Any], *, new: bool) -> dict[str, Any]:
    """Return a field with secrets as AWX is to get it: with its own word for those that it keeps.

    :param there: the field as AWX answers it.
    :param new: whether to write the secrets of the definition that AWX already has.
    """
    kept = {name: value for name, value in there.items() if value == ENCRYPTED}
    if not new:
        return {**wanted, **kept}
    kept = {name: value for name, value in kept.items() if not wanted.get(_OF_ANOTHER.get(name, ""))}
    return {**kept, **{name: value for name, value in wanted.items() if value or name not in kept}}


def _same_secrets(wanted: Mapping[str, Any], there: Mapping[str, Any], *, new: bool) -> bool:
    return same(with_secrets(wanted, there, new=new), there)


def _mapping(value: Any) -> Mapping[str, Any]:
    """Read a mapping, which AWX may keep as a text of JSON or YAML."""
    if isinstance(value, str):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            value = None
    return value if isinstance(value, Mapping) else {}
