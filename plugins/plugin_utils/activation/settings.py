# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a deploy: their names, values and defaults."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.common.validation import check_type_dict
from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import SYSTEM_PROFILE
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import PROFILE

PREFIX = "deploy_"

# A name counts as misspelt if what follows the prefix is at least this similar to a variable's (difflib).
_SIMILAR = 0.75

_PERCENT = re.compile(r"(?:100|[0-9]{1,2})(?:\.[0-9]+)?%?")
_BATCH = re.compile(r"[1-9][0-9]{0,8}|(?:100|[1-9][0-9]?)%")


@dataclass(frozen=True)
class Setting:
    """A variable of a deploy.

    :param wanted: the valid values, in words.
    :param read: returns the value as the deploy uses it; raises ValueError if it is not valid.
    :param default: the value if the variable is not set.
    """

    wanted: str
    read: Callable[[Any], Any]
    default: Any = None


def _choice(*choices: str) -> Setting:
    """Return a setting that takes one of these texts; the first is the default."""

    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(value)
        return str(value)

    return Setting(f"one of {', '.join(choices)}", read, choices[0])


def _flag(default: bool | None) -> Setting:
    def read(value: Any) -> bool:
        try:
            return bool(boolean(value))
        except TypeError as error:
            raise ValueError(value) from error

    return Setting("true or false", read, default)


def _seconds(default: int, least: int) -> Setting:
    def read(value: Any) -> int:
        if isinstance(value, bool | float) or int(value) < least:
            raise ValueError(value)
        return int(value)

    return Setting(f"a number of seconds, at least {least}", read, default)


def _number(default: int) -> Setting:
    def read(value: Any) -> int:
        if isinstance(value, bool | float) or int(value) < 0:
            raise ValueError(value)
        return int(value)

    return Setting("a number of machines; 0 is as many as forks allows", read, default)


def names(value: Any) -> list[str]:
    """Return the names in a list, or in a text with spaces or commas between them.

    :raises TypeError: if the value is neither.
    """
    values = value if isinstance(value, list | tuple) else [value]
    return [name for one in values for name in re.split(r"[\s,]+", _text(one)) if name]


def _matching(wanted: str, pattern: re.Pattern[str], default: Any = None) -> Setting:
    def read(value: Any) -> Any:
        if isinstance(value, bool) or not pattern.fullmatch(str(value)):
            raise ValueError(value)
        return value

    return Setting(wanted, read, default)


def _listed(one: Setting, wanted: str) -> Setting:
    """Return a setting that takes such a value or a list of them."""

    def read(value: Any) -> Any:
        values = value if isinstance(value, list | tuple) else [value]
        if not values:
            raise ValueError(value)
        return [one.read(each) for each in values]

    return Setting(wanted, read, None)


def _mapping(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(value)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


_TEXT = _matching("a text", re.compile(r"[^\n]+"))

SETTINGS: Mapping[str, Setting] = {
    "deploy_accept_new_host_keys": _flag(False),
    "deploy_action": _choice("switch", "boot", "test", "dry-activate"),
    "deploy_answer_timeout": _seconds(60, 1),
    "deploy_any_errors_fatal": _flag(None),
    "deploy_boot_timeout": _seconds(600, 1),
    "deploy_build_host": Setting("the name of a host, or empty", _text, ""),
    "deploy_build_on_target": _flag(None),
    "deploy_check_health": _flag(True),
    "deploy_compress": _flag(None),
    "deploy_confirm": _flag(False),
    "deploy_confirm_timeout": _seconds(60, 1),
    "deploy_copy_timeout": _seconds(86400, 1),
    "deploy_copy_via": Setting("the name of a host, or empty", _text, ""),
    "deploy_copy_via_store": Setting("the address of a store, or empty", _text, ""),
    "deploy_exclude": Setting("names of machines", names),
    "deploy_failed_units": _choice("rollback", "fail", "warn"),
    "deploy_force": _flag(None),
    "deploy_health_checks": Setting("a mapping, as 'health_checks' of nix.ops.nixos_activate takes it", _mapping),
    "deploy_include": Setting("names of machines", names),
    "deploy_kill_obsolete": _flag(False),
    "deploy_key_commands": _flag(True),
    "deploy_key_files": _choice("anywhere", "project"),
    "deploy_known_hosts": Setting("a text, as of a file of known hosts", _text, ""),
    "deploy_machines": _listed(_TEXT, "a pattern of hosts, or a list of them"),
    "deploy_max_concurrent_activate": _number(0),
    "deploy_max_concurrent_copy": _number(0),
    "deploy_max_fail_percentage": _matching("a percentage from 0 to 100", _PERCENT, 100),
    "deploy_needs_preview": _flag(False),
    "deploy_nix_options": Setting("settings of Nix, as a mapping or NAME=VALUE,NAME=VALUE", check_type_dict, {}),
    "deploy_older": _flag(False),
    "deploy_only": _choice("all", "create", "dry-build", "build", "plan", "copy"),
    "deploy_previewed": Setting("what a preview passes on", _mapping),
    "deploy_profile": _matching("a path below /nix/var/nix/profiles", PROFILE, SYSTEM_PROFILE),
    "deploy_provision": _flag(True),
    "deploy_push_key_file": Setting("the path of a file, or empty", _text, ""),
    "deploy_push_to": Setting("the address of a binary cache, or empty", _text, ""),
    "deploy_reboot": _choice("never", "when_needed", "always"),
    "deploy_reboot_timeout": _seconds(600, 1),
    "deploy_reconnect_timeout": _seconds(300, 1),
    "deploy_repair": _flag(False),
    "deploy_replace_unknown": _flag(True),
    "deploy_revert": _choice("never", "batch", "run"),
    "deploy_rollback": _choice("auto", "never"),
    "deploy_serial": _listed(_matching("", _BATCH), "a number of machines, a percentage, or a list of them"),
    "deploy_specialisation": Setting("the name of a specialisation, or empty", _text, ""),
    "deploy_ssh_timeout": _seconds(60, 0),
    "deploy_stall_timeout": _seconds(600, 1),
    "deploy_strategy": _TEXT,
    "deploy_substitutes": _flag(None),
    "deploy_switch_timeout": _seconds(1800, 1),
    "deploy_sync": _flag(True),
    "deploy_take_over": _flag(False),
    "deploy_unevaluated": _choice("fail", "warn"),
    "deploy_unreachable": _choice("warn", "fail"),
}

# Those that only the playbook has; a play that uses the role has keywords for most of them.
OF_PLAYBOOK = {
    "deploy_any_errors_fatal",
    "deploy_confirm",
    "deploy_exclude",
    "deploy_include",
    "deploy_kill_obsolete",
    "deploy_machines",
    "deploy_max_fail_percentage",
    "deploy_needs_preview",
    "deploy_previewed",
    "deploy_revert",
    "deploy_serial",
    "deploy_strategy",
    "deploy_unevaluated",
    "deploy_unreachable",
}

# Those that have one value for all machines, since one task reads them.
OF_RUN = (
    *("deploy_confirm", "deploy_nix_options", "deploy_only", "deploy_push_key_file", "deploy_push_to"),
    "deploy_repair",
)

# The variables of the roles prepare, copy, activate and keys that a deploy sets, each with the deploy's own variable.
OF_ROLES: Mapping[str, str] = {
    "prepare_timeout": "deploy_ssh_timeout",
    "copy_timeout": "deploy_copy_timeout",
    "copy_via": "deploy_copy_via",
    "copy_via_store": "deploy_copy_via_store",
    "build_options": "deploy_nix_options",
    "build_dry_run": "deploy_only",
    "build_elsewhere": "deploy_build_host",
    "keys_commands": "deploy_key_commands",
    "keys_files": "deploy_key_files",
    "keys_answer_timeout": "deploy_answer_timeout",
    **{
        f"{role}_{name}": f"{PREFIX}{name}"
        for role, names in {
            "prepare": "provision profile older take_over answer_timeout accept_new_host_keys key_commands key_files",
            "build": "repair push_to push_key_file copy_timeout",
            "copy": "build_host build_on_target substitutes compress stall_timeout answer_timeout",
            "activate": "action specialisation profile force rollback confirm_timeout failed_units health_checks"
            " key_commands key_files reboot reboot_timeout"
            " sync boot_timeout switch_timeout replace_unknown reconnect_timeout answer_timeout",
        }.items()
        for name in names.split()
    },
}


def concerns(name: str) -> bool:
    """Return whether a variable is one of a deploy, or looks like one."""
    return name.startswith(PREFIX) or name in OF_ROLES


def check(variables: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse invalid values of the variables, names that look like one of the variables, and those of the roles.

    :param variables: for each host the variables that :func:`concerns` names.
    :raises OpsError: naming all of them, each once.
    """
    _refuse(problem for found in variables.values() for one in sorted(found.items()) if (problem := _problem(*one)))
    _refuse(filter(None, map(_contradiction, variables.values())))
    for name in OF_RUN:
        values = [read(name, found) for found in variables.values()]
        if any(value != values[0] for value in values):
            _refuse([f"{name} differs between the machines, and is for the whole run."])


def check_role(names: Iterable[str], of_play: Iterable[str]) -> None:
    """Refuse names like those that :func:`check` refuses, for the role deploy.

    :param names: the names of all variables that are given to the role.
    :param of_play: those that the play or the task gives, where a variable of the playbook can only be a mistake.
    :raises OpsError: naming all of them.
    """
    misplaced = [f"{name} is a variable of the playbook, not of the role." for name in sorted({*of_play} & OF_PLAYBOOK)]
    _refuse([*filter(None, map(_misnamed, sorted({*names}))), *misplaced])


def read(name: str, variables: Mapping[str, Any]) -> Any:
    """Return the value of a setting for a host.

    :param variables: the host's variables, checked.
    """
    setting = SETTINGS[name]
    return setting.read(variables[name]) if name in variables else setting.default


def _refuse(problems: Iterable[str]) -> None:
    if found := dict.fromkeys(problems):
        raise OpsError(
            "\n".join(found),
            state="nothing was touched",
            next_step="Correct them where they are set: with -e, in group_vars or host_vars, or in your playbook.",
        )


def _problem(name: str, value: Any) -> str | None:
    if name not in SETTINGS:
        return _misnamed(name)
    try:
        SETTINGS[name].read(value)
    except (TypeError, ValueError):
        return f"{name} is {_shown(value)}, and has to be {SETTINGS[name].wanted}."
    return None


def _contradiction(variables: Mapping[str, Any]) -> str | None:
    """Return the complaint about variables of a host that exclude each other."""
    if read("deploy_revert", variables) != "never" and read("deploy_profile", variables) != SYSTEM_PROFILE:
        return "deploy_revert excludes another deploy_profile: what booted before may be in the system profile."
    if not read("deploy_specialisation", variables):
        return None
    if read("deploy_action", variables) != "boot" and read("deploy_reboot", variables) == "never":
        return None
    return "deploy_specialisation excludes deploy_action=boot and deploy_reboot: a system boots without it."


def _misnamed(name: str) -> str | None:
    """Return the complaint about a name that is probably meant to be one of the variables."""
    if name in SETTINGS or not concerns(name):
        return None
    words = [one.removeprefix(PREFIX) for one in SETTINGS]
    similar = difflib.get_close_matches(name.removeprefix(PREFIX), words, n=1, cutoff=_SIMILAR)
    meant = OF_ROLES.get(name) or next((f"{PREFIX}{one}" for one in similar), None)
    return f"{name} is not a variable of a deploy; did you mean {meant}?" if meant else None


def check_revert(strategy: str) -> None:
    """Refuse ``deploy_revert`` with a strategy that does not keep the machines of a batch in step.

    :param strategy: the strategy of the rollout.
    """
    if strategy not in ("linear", "ansible.builtin.linear"):
        raise OpsError(
            f"deploy_revert needs the strategy linear: {strategy} does not keep the machines of a batch in step",
            state="nothing was touched",
            next_step="Leave out deploy_revert, or set deploy_strategy=linear.",
        )


def _shown(value: Any) -> str:
    return str(value) if len(str(value)) <= 60 else f"{str(value)[:60]}..."
