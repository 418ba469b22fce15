# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the settings of Nix that its evaluations depend on: its configuration files and its search path."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

# An entry of NIX_PATH. Colons separate entries, except in a URL or after the names of these places.
_ENTRIES = re.compile(r"(?:[^:=]*=)?(?:(?:flake|channel):[^:]+|(?:[^:]|:(?=//))+)")

_INCLUDE = re.compile(r"^\s*!?include\s+(\S+)", re.MULTILINE)

_SETTING = re.compile(r"^[ \t]*([a-z][a-z0-9-]*)[ \t]*=[ \t]*([^\n#]*)", re.MULTILINE)

# With these, the search path or what may be read is another than the one known here.
_SPECIAL = re.compile(r"\b(nix-path|use-xdg-base-directories|restrict-eval|pure-eval|allowed-uris)\b")

# Settings that a source may have. It can come with a repository of someone else, so it must not run programs on the
# controller, lift the controller's restrictions, or add keys and builders that the controller trusts.
HARMLESS = frozenset(
    (
        "allow-import-from-derivation",
        "always-allow-substitutes",
        "builders-use-substitutes",
        "connect-timeout",
        "cores",
        "download-attempts",
        "download-speed",
        "extra-experimental-features",
        "extra-substituters",
        "fallback",
        "http-connections",
        "keep-build-log",
        "keep-failed",
        "keep-going",
        "log-lines",
        "max-build-log-size",
        "max-call-depth",
        "max-free",
        "max-jobs",
        "max-silent-time",
        "min-free",
        "show-trace",
        "stalled-download-timeout",
        "substitute",
        "substituters",
        "system-features",
        "tarball-ttl",
        "timeout",
        "warn-dirty",
    )
)

# Settings that change nothing about the result of an evaluation. Others would make an earlier evaluation useless.
_BUILD_ONLY = frozenset(
    (
        "builders",
        "builders-use-substitutes",
        "cores",
        "fallback",
        "keep-build-log",
        "keep-failed",
        "keep-going",
        "log-lines",
        "max-build-log-size",
        "max-jobs",
        "max-silent-time",
        "sandbox",
        "substitute",
        "timeout",
    )
)


def for_evaluation(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of Nix that count for an evaluation."""
    return {name: value for name, value in options.items() if name not in _BUILD_ONLY}


def check_harmless(where: str, names: Iterable[str]) -> None:
    """Refuse settings that a source may not have.

    :param where: the source.
    :raises OpsError: naming the first of them.
    """
    for name in names:
        if name not in HARMLESS:
            meant = difflib.get_close_matches(name, HARMLESS, n=1)
            raise OpsError(
                f"{where}: the setting {name!r} of Nix can't be set in a source, which may be someone else's",
                next_step=f"Write {meant[0]!r} for {name!r}."
                if meant
                else "Set it in the controller's nix.conf, or in the variable NIX_CONFIG.",
            )


def setting_files(environment: Mapping[str, str]) -> list[str]:
    """Return the configuration files of Nix, those they include too (nix.conf(5)).

    :param environment: all variables of the command.
    """
    home = environment.get("HOME", "/root")
    user = environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    places = [user, *environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    given = environment.get("NIX_USER_CONF_FILES")
    files = [
        os.path.join(environment.get("NIX_CONF_DIR", "/etc/nix"), "nix.conf"),
        *(given.split(":") if given else (os.path.join(place, "nix/nix.conf") for place in places)),
    ]
    for path in files:
        for included in _INCLUDE.findall(_text(path)):
            found = os.path.join(os.path.dirname(path), included)
            if found not in files:
                files.append(found)
    return files


def are_restricted(environment: Mapping[str, str]) -> bool:
    """Return whether the controller's administrator restricts what an evaluation may read.

    :param environment: all variables of the command.
    """
    return value_of("restrict-eval", environment) == "true"


def value_of(name: str, environment: Mapping[str, str]) -> str | None:
    """Return the value of a setting of Nix; None if nothing sets it.

    :param environment: all variables of the command.
    """
    # The last one wins: NIX_CONFIG, then the files of the user, then that of the system.
    texts = [*map(_text, setting_files(environment)), environment.get("NIX_CONFIG", "")]
    values = [value.strip() for text in texts for found, value in _SETTING.findall(text) if found == name]
    return values[-1] if values else None


def are_common(environment: Mapping[str, str]) -> bool:
    """Return whether no setting changes the search path or what an evaluation may read.

    :param environment: all variables of the command.
    """
    texts = [environment.get("NIX_CONFIG", ""), *map(_text, setting_files(environment))]
    return not any(_SPECIAL.search(text) for text in texts)


def search_path(nix_path: Sequence[str], environment: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the search path for names between `<` and `>`, each entry with prefix and path.

    :param nix_path: entries that come before NIX_PATH.
    :param environment: all variables of the command.
    """
    return [_entry(entry) for entry in (*nix_path, *_split_nix_path(environment))]


def _entry(entry: str) -> dict[str, str]:
    prefix, equals, path = entry.partition("=")
    return {"prefix": prefix if equals else "", "path": path if equals else entry}


def _split_nix_path(environment: Mapping[str, str]) -> list[str]:
    if "NIX_PATH" in environment:
        return _ENTRIES.findall(environment["NIX_PATH"])
    root_channels = "/nix/var/nix/profiles/per-user/root/channels"
    own_channels = os.path.join(environment.get("HOME", "/root"), ".nix-defexpr/channels")
    return [own_channels, f"nixpkgs={root_channels}/nixpkgs", root_channels]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
