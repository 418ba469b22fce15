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


def _same_secrets(wanted: Mapping[str, Any], there: Mapping[str, Any], *, new: bool) -> bool:
    for name in {*wanted, *there}:
        if there.get(name) == ENCRYPTED and wanted.get(name):
            if new:
                return False
        elif not same(wanted.get(name), there.get(name)):
            return False
    return True


def _mapping(value: Any) -> Mapping[str, Any]:
    """Read a mapping, which AWX may keep as a text of JSON or YAML."""
    if isinstance(value, str):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            value = None
    return value if isinstance(value, Mapping) else {}
