# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of each module, shared by its documentation and its action."""

from __future__ import annotations

SYSTEM_PROFILE = "/nix/var/nix/profiles/system"

_NIX = {
    "options": {"type": "dict", "default": {}},
}

# Limits of what a host may take: to answer, to get on with a copy, and for a whole copy. In seconds.
_ANSWER = {
    "answer_timeout": {"type": "int", "default": 60},
}
_VARIABLES = {
    "variables": {"type": "dict", "default": {}},
}
_CHECKOUT = {
    "type": "dict",
    "options": {
        "revision": {"type": "str", "required": True},
        "modified": {"type": "bool", "default": False},
    },
}
_COPY = {
    **_ANSWER,
    "stall_timeout": {"type": "int", "default": 600},
    "copy_timeout": {"type": "int", "default": 86400},
}

NIX_BUILD = {
    "argument_spec": {
        "network": {"type": "list", "elements": "path"},
        "deployment": {"type": "str"},
        "uuid": {"type": "str"},
        "machines": {"type": "list", "elements": "str"},
        "elsewhere": {"type": "dict", "default": {}},
        "remembered": {"type": "dict", "default": {}},
        "expression": {"type": "str"},
        "file": {"type": "path"},
        "flake": {"type": "str"},
        "attribute": {"type": "list", "elements": "str", "aliases": ["attributes"]},
        "arguments": {"type": "dict", "default": {}},
        "nix_path": {"type": "list", "elements": "str", "default": []},
        "out_link": {"type": "path"},
        "dry_run": {"type": "bool", "default": False},
        "repair": {"type": "bool", "default": False},
        "push_to": {"type": "str"},
        "push_key_file": {"type": "path", "no_log": False},
        "on_controller": {"type": "bool", "default": False},
        "unevaluated": {"type": "str", "choices": ["fail", "warn"], "default": "fail"},
        "reconnect_timeout": {"type": "int", "default": 300},
        "build_timeout": {"type": "int", "default": 86400},
        **_COPY,
        **_NIX,
    },
    "mutually_exclusive": [["network", "expression", "file", "flake"]],
    "required_one_of": [["network", "expression", "file", "flake"]],
    "required_by": {
        "deployment": "network",
        "uuid": "network",
        "machines": "network",
        "push_key_file": "push_to",
    },
}

NIX_COPY_CLOSURE = {
    "argument_spec": {
        "paths": {"type": "list", "elements": "path", "required": True, "aliases": ["path"]},
        "direction": {"type": "str", "choices": ["to", "from"], "default": "to"},
        "substitutes": {"type": "bool", "default": False},
        "compress": {"type": "bool", "default": False},
        "sign_key_file": {"type": "path"},
        "gc_root": {"type": "path"},
        "source": {"type": "str"},
        "derivations": {"type": "list", "elements": "path", "default": []},
        "via": {"type": "str"},
        "via_store": {"type": "str"},
        "expected": {"type": "dict", "default": {}},
        "require_signatures": {"type": "bool", "default": True},
        **_COPY,
        **_VARIABLES,
    },
    "mutually_exclusive": [["source", "derivations"]],
}

STAGES = ["check", "variables", "reached", "choose", "decide", "begin", "batch", "outcome", "fail"]

DEPLOYMENT_PLAN = {
    "argument_spec": {
        "stage": {"type": "str", "choices": STAGES, "required": True},
        "pattern": {"type": "raw"},
        "include": {"type": "raw"},
        "exclude": {"type": "raw"},
        "reason": {"type": "str"},
        "rollback_to": {"type": "raw"},
    },
    "required_if": [
        ["stage", "check", ["pattern"]],
        ["stage", "choose", ["rollback_to"]],
        ["stage", "fail", ["reason"]],
    ],
}

_MACHINE_OF_A_DEPLOYMENT = {
    "deployment": {"type": "str", "required": True},
    "uuid": {"type": "str", "required": True},
    "machine": {"type": "str", "required": True},
}

_HTTP_CHECK = {
    "url": {"type": "str", "required": True},
    "status": {"type": "list", "elements": "int", "default": [200]},
    "contains": {"type": "str"},
    "headers": {"type": "dict", "default": {}},
    "validate_certs": {"type": "bool", "default": True},
}

_HEALTH_CHECKS = {
    "units": {"type": "list", "elements": "str", "default": []},
    "commands": {"type": "list", "elements": "str", "default": []},
    "tcp": {"type": "list", "elements": "int", "default": []},
    "http": {"type": "list", "elements": "dict", "default": [], "options": _HTTP_CHECK},
    "stable": {"type": "int", "default": 3},
    "successes": {"type": "int", "default": 1},
    "interval": {"type": "int", "default": 1},
    "deadline": {"type": "int", "default": 60},
}

_KEYS = {
    "definitions": {"type": "dict"},
    # Its values are secret.
    "contents": {"type": "dict", "default": {}, "no_log": True},
    "network": {"type": "path"},
    "machine": {"type": "str"},
    "deployment": {"type": "str", "required": True},
    "commands": {"type": "bool", "default": True},
    "files": {"type": "str", "choices": ["anywhere", "project"], "default": "anywhere"},
    "compared": {"type": "dict", "default": {}},
    "keep_old": {"type": "bool", "default": False},
}

NIXOS_KEYS = {
    "argument_spec": {
        **_KEYS,
        "names": {"type": "list", "elements": "str"},
        "old": {"type": "str", "choices": ["back", "forget"]},
        "expected": {"type": "dict", "default": {}},
        **_ANSWER,
    },
}

NIXOS_ACTIVATE = {
    "argument_spec": {
        "toplevel": {"type": "path", "required": True},
        "action": {"type": "str", "choices": ["switch", "boot", "test", "dry-activate"], "default": "switch"},
        "specialisation": {"type": "str"},
        "profile": {"type": "path", "default": SYSTEM_PROFILE},
        "generation": {"type": "int"},
        **_ANSWER,
        **_VARIABLES,
        "force": {"type": "bool", "default": False},
        "reconnect_timeout": {"type": "int", "default": 300},
        "rollback": {"type": "str", "choices": ["auto", "never"], "default": "auto"},
        "sync": {"type": "bool", "default": True},
        "switch_timeout": {"type": "int", "default": 1800},
        "confirm_timeout": {"type": "int", "default": 60},
        "failed_units": {"type": "str", "choices": ["fail", "warn", "rollback"], "default": "rollback"},
        "health_checks": {"type": "dict", "options": _HEALTH_CHECKS},
        "keys": {"type": "dict", "no_log": False, "options": _KEYS},
        "reboot": {"type": "str", "choices": ["never", "when_needed", "always"], "default": "never"},
        "reboot_timeout": {"type": "int", "default": 600},
        "boot_timeout": {"type": "int", "default": 600},
        "address": {"type": "str"},
        "port": {"type": "int"},
        "replace_unknown": {"type": "bool", "default": True},
        "found": {"type": "dict", "default": {}},
        "expected": {"type": "dict", "default": {}},
        "remember": {
            "type": "dict",
            "options": {
                **_MACHINE_OF_A_DEPLOYMENT,
                "inputs": {"type": "dict", "default": {}},
                "recorded": {"type": "bool", "default": False},
                "checkout": _CHECKOUT,
                "deploy": {"type": "str"},
                "members": {"type": "list", "elements": "str", "default": []},
            },
        },
    },
}

NIXOS_REBOOT = {
    "argument_spec": {
        "hard": {"type": "bool", "default": False},
        "reboot_timeout": {"type": "int", "default": 600},
        "health_checks": {"type": "dict", "options": _HEALTH_CHECKS},
        "keys": {"type": "dict", "no_log": False, "options": _KEYS},
        **_ANSWER,
    },
}

NIXOS_INFO = {
    "argument_spec": {
        "profile": {"type": "path", "default": SYSTEM_PROFILE},
        **_ANSWER,
    },
}

NIXOS_GC = {
    "argument_spec": {
        "keep": {"type": "int"},
        "older_than": {"type": "str"},
        "profile": {"type": "path", "default": SYSTEM_PROFILE},
        "deployment": {"type": "str"},
        "timeout": {"type": "int", "default": 21600},
        "reconnect_timeout": {"type": "int", "default": 300},
        **_ANSWER,
    },
}

NIXOS_COMMAND = {
    "argument_spec": {
        "command": {"type": "str", "required": True},
        "timeout": {"type": "int", "default": 86400},
        "reconnect_timeout": {"type": "int", "default": 300},
        **_ANSWER,
    },
}

NIXOS_CHECK = {
    "argument_spec": {
        "uuid": {"type": "str"},
        "deployment": {"type": "str"},
        "machine": {"type": "str"},
        "disk_fill": {"type": "int", "default": 90},
        "clock_tolerance": {"type": "int", "default": 5},
        **_ANSWER,
    },
    "required_together": [["uuid", "deployment", "machine"]],
}

DEPLOYMENT_PREPARE = {
    "argument_spec": {
        **_MACHINE_OF_A_DEPLOYMENT,
        "ssh_key": {"type": "path"},
        "provision": {"type": "bool", "default": True},
        "profile": {"type": "path", "default": SYSTEM_PROFILE},
        "remember": {"type": "bool", "default": True},
        "network": {"type": "path"},
        "checkout": _CHECKOUT,
        "older": {"type": "bool", "default": False},
        "take_over": {"type": "bool", "default": False},
        "timeout": {"type": "int", "default": 60},
        "since": {"type": "float"},
        "accept_new_host_keys": {"type": "bool", "default": False},
        "keys": {"type": "dict", "no_log": False, "options": _KEYS},
        "generations": {"type": "bool", "default": False},
        **_ANSWER,
        **_VARIABLES,
    },
}

DEPLOYMENT_CREATE = {
    "argument_spec": {
        "deployment": {"type": "str", "required": True},
        "networks": {"type": "list", "elements": "path"},
        "flake": {"type": "str"},
        "uuid": {"type": "str"},
        "arguments": {"type": "dict", "default": {}},
        "nix_path": {"type": "list", "elements": "str", "default": []},
        "directory": {"type": "path"},
        "ask": {"type": "bool", "default": False},
        **_NIX,
    },
    "mutually_exclusive": [["networks", "flake"]],
    "required_one_of": [["networks", "flake"]],
}

DEPLOYMENT_IMPORT = {
    "argument_spec": {
        "file": {"type": "path", "required": True},
        "deployment": {"type": "str"},
        "name": {"type": "str"},
        "networks": {"type": "list", "elements": "path"},
        "flake": {"type": "str"},
        "nix_path": {"type": "list", "elements": "str", "default": []},
        "keys": {"type": "bool", "default": True},
    },
    "mutually_exclusive": [["networks", "flake"]],
}

DEPLOYMENT_EXPORT = {
    "argument_spec": {
        "file": {"type": "path", "required": True},
        "keys": {"type": "bool", "default": False},
    },
}

# The deployment that is meant, and where sources are looked for.
_CHOSEN = {
    "deployment": {"type": "str"},
    "directory": {"type": "path"},
}

DEPLOYMENT_MODIFY = {
    "argument_spec": {
        **_CHOSEN,
        "name": {"type": "str"},
        "networks": {"type": "list", "elements": "path"},
        "flake": {"type": "str"},
        "nix_path": {"type": "list", "elements": "str"},
        "arguments": {"type": "dict", "default": {}},
        "unset": {"type": "list", "elements": "str", "default": []},
        **_NIX,
    },
    "mutually_exclusive": [["networks", "flake"]],
}

DEPLOYMENT_CLONE = {
    "argument_spec": {
        **_CHOSEN,
        "name": {"type": "str", "required": True},
        "uuid": {"type": "str"},
    },
}

DEPLOYMENT_DELETE = {
    "argument_spec": {
        **_CHOSEN,
        "force": {"type": "bool", "default": False},
    },
}

DEPLOYMENT_FORGET = {
    "argument_spec": {
        **_MACHINE_OF_A_DEPLOYMENT,
        "network": {"type": "path", "required": True},
        "ask": {"type": "bool", "default": False},
        "offline": {"type": "bool", "default": False},
        **_ANSWER,
    },
}

DEPLOYMENT_FORGET_OBSOLETE = {
    "argument_spec": {
        "networks": {"type": "list", "elements": "path", "required": True},
    },
}

NIXOS_UNLOCK = {
    "argument_spec": {
        "end": {"type": "bool", "default": False},
        "reconnect_timeout": {"type": "int", "default": 300},
        **_ANSWER,
    },
}

_SHOWN = {
    "format": {"type": "str", "choices": ["table", "json"], "default": "table"},
    "file": {"type": "path"},
}

DEPLOYMENT_LIST = {
    "argument_spec": {
        "directory": {"type": "path"},
        **_SHOWN,
    },
}

DEPLOYMENT_GENERATIONS = {
    "argument_spec": {
        "found": {"type": "dict", "required": True},
        "pattern": {"type": "raw"},
        **_SHOWN,
    },
}

DEPLOYMENT_INFO = {
    "argument_spec": {
        "networks": {"type": "list", "elements": "path"},
        "pattern": {"type": "raw"},
        "found": {"type": "dict", "default": {}},
        "fail_on": {
            "type": "list",
            "elements": "str",
            "choices": [
                *("New", "Activating", "Outdated", "Boots another", "Test", "Drifted", "Obsolete"),
                *("unreachable", "unevaluated"),
            ],
            "default": [],
        },
        **_SHOWN,
    },
}

DEPLOYMENT_COMMANDS = {
    "argument_spec": {
        "pattern": {"type": "raw"},
        "found": {"type": "dict", "default": {}},
        **_SHOWN,
    },
}

DEPLOYMENT_SSH_CONFIG: dict[str, dict[str, object]] = {
    "argument_spec": {},
}

DEPLOYMENT_CHECK = {
    "argument_spec": {
        "pattern": {"type": "raw"},
        "found": {"type": "dict", "default": {}},
        "fail_on": {
            "type": "list",
            "elements": "str",
            "choices": [
                *("any", "missing", "down", "unreachable", "disks", "units", "activating", "drift", "keys"),
                *("reboot", "clock", "host_key"),
            ],
            "default": [],
        },
        **_SHOWN,
    },
}

DEPLOYMENT_SHOW = {
    "argument_spec": {
        **_CHOSEN,
        "show": {"type": "str", "choices": ["option", "arguments", "physical"], "required": True},
        "machine": {"type": "str"},
        "option": {"type": "str"},
        **_SHOWN,
    },
    "required_if": [["show", "option", ["machine", "option"]]],
}

AWX_OBJECTS = {
    "argument_spec": {
        "name": {"type": "str", "required": True},
        "organization": {"type": "str", "required": True},
        "definitions": {"type": "dict", "default": {}},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "update_secrets": {"type": "bool", "default": False, "no_log": False},
        "timeout": {"type": "float", "default": 600},
    },
}
