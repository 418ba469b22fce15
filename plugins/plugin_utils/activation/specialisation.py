# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the specialisations of a system. Each is a system by itself, below the other's directory ``specialisation``."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")

_ANSWER = {"path": Key(nix.STORE_PATH), "name": Key(NAME, most=1000)}


def find_here(toplevel: str, name: str, machine: str) -> str | None:
    """Return the toplevel of a specialisation; None if the controller's store lacks the system.

    :param machine: the machine's name, for messages.
    :raises OpsError: if the system has no such specialisation.
    """
    if not os.path.exists(toplevel):
        return None
    directory = os.path.join(toplevel, "specialisation")
    names = os.listdir(directory) if os.path.isdir(directory) else []
    if name not in names:
        raise _missing(toplevel, name, names, machine)
    return os.path.realpath(os.path.join(directory, name))


def find(machine: Machine, toplevel: str, name: str) -> str:
    """Return the toplevel of a specialisation in a machine's store.

    :raises OpsError: if the system has no such specialisation.
    """
    if not NAME.fullmatch(name):
        raise _missing(toplevel, name, (), machine.name)
    if found := find_here(toplevel, name, machine.name):
        return found
    told = machine.ask("activation/specialisation", toplevel, name, schema=_ANSWER, awaits="its specialisations")
    if found := told.one("path"):
        return found
    raise _missing(toplevel, name, told.all("name"), machine.name)


def _missing(toplevel: str, name: str, names: Collection[str], machine: str) -> OpsError:
    has = f"it has {', '.join(sorted(names))}" if names else "it has none"
    return OpsError(
        f"{toplevel} has no specialisation {name!r}; {has}",
        machine=machine,
        state="nothing was activated",
        next_step="Correct the name, or define 'specialisation' in the network.",
    )
