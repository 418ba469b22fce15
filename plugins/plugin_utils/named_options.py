# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads options of a task from variables that it names.

Ansible compiles each template of a task's options again for each host. A deploy has some fifty of them that only name a
variable with a plain value. The names cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from ansible.errors import AnsibleValueOmittedError
from ansible.template import is_trusted_as_template

# A template that is only another variable.
_ALIAS = re.compile(r"\{\{ ?([A-Za-z_][A-Za-z0-9_]*) ?\}\}")


def read(
    names: Mapping[str, str],
    variables: Mapping[str, Any],
    template: Callable[[Any], Any],
    wanted: Mapping[str, Collection[str]],
) -> dict[str, Any]:
    """Return options by the names of their variables. Those that are not defined, empty texts or omitted are left out.

    :param names: for each option the name of its variable.
    :param variables: the variables of the task, with their templates.
    :param template: evaluates a value; raises :class:`AnsibleValueOmittedError` for one that is omitted.
    :param wanted: for each option that is the result of an earlier task the keys that are used. Others are left out.
    """
    found = {}
    for option, name in names.items():
        if name not in variables:
            continue
        with suppress(AnsibleValueOmittedError):
            value = _follow(variables[name], variables)
            if option in wanted and isinstance(value, Mapping):
                value = {key: value[key] for key in wanted[option] if key in value}
            value = template(value)
            if value != "":
                found[option] = value
    return found


def _follow(value: Any, variables: Mapping[str, Any]) -> Any:
    """Return a variable's value. If the value is a template that only names another variable, follow that one."""
    seen = set()
    while isinstance(value, str) and (alias := _ALIAS.fullmatch(value)) and is_trusted_as_template(value):
        name = alias[1]
        # Ansible reports a loop or an undefined variable when it evaluates the template.
        if name in seen or name not in variables:
            break
        seen.add(name)
        value = variables[name]
    return value
