# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the setup has made in AWX, so that it later removes that and nothing else.

It is kept in AWX itself, in the variables of an inventory of its own. No job uses that inventory, and no
synchronization overwrites it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.awx.api import Api
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

_DESCRIPTION = "What nix.ops.awx_setup has made, so that it can remove that again. It has no hosts. Do not change it."
_VERSION = 1

# The path of an object's kind, its name and one of its fields.
Place = tuple[str, str, str]


@dataclass(frozen=True)
class Manifest:
    """What the setup has made.

    :param made: the objects: the path of the kind, and the name.
    :param attached: the names that the setup has put into a field of an object.
    """

    made: frozenset[tuple[str, str]] = frozenset()
    attached: Mapping[Place, tuple[str, ...]] = field(default_factory=dict)

    def __or__(self, other: Manifest) -> Manifest:
        places = {*self.attached, *other.attached}
        both = {one: (*self.attached.get(one, ()), *other.attached.get(one, ())) for one in places}
        return Manifest(self.made | other.made, {one: tuple(sorted(set(names))) for one, names in both.items()})

    def as_json(self) -> dict[str, Any]:
        """Return it in a form that JSON has."""
        attached = [[*place, sorted(names)] for place, names in sorted(self.attached.items()) if names]
        return {"nix_ops_setup": {"version": _VERSION, "made": sorted(map(list, self.made)), "attached": attached}}


def _read(text: str, name: str) -> Manifest:
    try:
        told = json.loads(text)["nix_ops_setup"]
        if told["version"] != _VERSION:
            raise ValueError(told["version"])
        attached = {
            (str(path), str(owner), str(option)): tuple(map(str, names))
            for path, owner, option, names in told["attached"]
        }
        return Manifest(frozenset((str(path), str(one)) for path, one in told["made"]), attached)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OpsError(
            f"the variables of the inventory {name!r} in AWX do not say what the setup has made",
            output=str(error),
            state="nothing in AWX was touched",
            next_step="Remove that inventory, then set up again. What is obsolete has to be removed by hand then.",
        ) from error


class Store:
    """Where AWX keeps the manifest.

    :param name: the name of its inventory.
    :param organization: the id of the organization.
    """

    def __init__(self, api: Api, name: str, organization: int) -> None:
        self._api = api
        self._name = name
        self._organization = organization
        found = api.all("inventories/", name=name, organization=organization)
        self._id = int(found[0]["id"]) if found else None
        self.manifest = _read(str(found[0].get("variables") or ""), name) if found else Manifest()

    def save(self, manifest: Manifest) -> None:
        """Write a manifest, unless it is there already."""
        if self._id is not None and manifest.as_json() == self.manifest.as_json():
            return
        variables = json.dumps(manifest.as_json(), indent=1)
        if self._id is None:
            values = {"name": self._name, "description": _DESCRIPTION, "organization": self._organization}
            self._id = int(self._api.post("inventories/", {**values, "variables": variables})["id"])
        else:
            self._api.patch(f"inventories/{self._id}/", {"variables": variables})
        self.manifest = manifest

    @property
    def is_there(self) -> bool:
        """Whether AWX has it."""
        return self._id is not None

    def remove(self) -> None:
        """Remove it from AWX."""
        if self._id is not None:
            self._api.delete(f"inventories/{self._id}/")
