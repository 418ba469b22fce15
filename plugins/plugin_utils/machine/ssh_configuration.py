# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the user's own configuration of ssh, without ssh where that is enough: asking ssh takes 7 ms a host."""

from __future__ import annotations

import glob
import os
import pwd
import re
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

_SYSTEM = "/etc/ssh/ssh_config"
_USER = "~/.ssh/config"

# ssh_config(5)
_INCLUDES = re.compile(r"^\s*include[\s=]+(.+?)\s*$", re.IGNORECASE | re.MULTILINE)

# The user of a machine for which nothing sets another.
DEFAULT_USER = "root"

# Stands for a host without a configured user. `ssh -G` does not tell the local user's name from a configured one.
_NOBODY = "nix.ops-nobody"

# Seconds for reading a configuration: a `Match exec` could hang.
_WITHIN = 10.0
_AT_ONCE = 8


def configured_users(addresses: Iterable[str], words: Sequence[str]) -> dict[str, str]:
    """Return the users of those hosts for which the user's own configuration of ssh sets one.

    :param addresses: host names and addresses as ssh gets them.
    :param words: the options that ssh gets. None may come from a network: they can name a configuration that runs
        programs, and listing a network must run none of them.
    """
    # Asked, ssh runs the programs of `Match exec`. What ssh would tell without another user is the default.
    asked = list(addresses) if values("user", words) - {DEFAULT_USER} else []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        users = pool.map(partial(_ask, words), asked)
        return {address: user for address, user in zip(asked, users, strict=True) if user}


def _ask(given: Sequence[str], address: str) -> str | None:
    files, words = _split(given)
    text = "".join(f'Include "{file}"\n' for file in files) + f"Host *\nUser {_NOBODY}\n"
    try:
        done = subprocess.run(
            ["ssh", "-G", "-F", "/dev/stdin", *words, "--", address],
            input=text.encode(errors="surrogateescape"),
            capture_output=True,
            check=False,
            timeout=_WITHIN,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(rb"^user (\S+)$", done.stdout, re.MULTILINE)
    user = os.fsdecode(found[1]) if found else _NOBODY
    return None if user == _NOBODY else user


def values(option: str, words: Sequence[str]) -> set[str]:
    """Return all values that any configuration of ssh sets for an option, for whatever host.

    :param option: the option's name, in lower case.
    :param words: the options that ssh gets.
    """
    files, rest = _split(words)
    value = rf"{option}(?:\s*=\s*|\s+)\"?([^\s\"]+)"
    # ssh(1) has a letter for one of them.
    letter = r"|-l\s*(\S+)" if option == "user" else ""
    found = re.findall(rf"(?:^|\s|-o\s*){value}{letter or '|(?!)()'}", " ".join(rest), re.IGNORECASE)
    told = [one for pair in found for one in pair if one]
    for text in _texts(files):
        told += re.findall(rf"^\s*{value}", text, re.IGNORECASE | re.MULTILINE)
    return set(told)


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the configuration files that ssh reads, and its other words."""
    given, rest = None, []
    left = iter(words)
    for word in left:
        if word == "-F":
            given = next(left, None)
        elif word.startswith("-F"):
            given = word[2:]
        else:
            rest.append(word)
    if given is None:
        return [_USER, _SYSTEM], rest
    # ssh reads this file from the working directory, and one that is included from ~/.ssh.
    return ([os.path.abspath(given)] if given != "none" else []), rest


def _texts(files: Iterable[str]) -> Iterable[str]:
    # Not $HOME: ssh does not use it.
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        # ssh itself does not run for such a user.
        return
    left = list(files)
    seen: set[str] = set()
    while left:
        name = left.pop()
        path = os.path.join(home, name[2:]) if name.startswith("~/") else os.path.abspath(name)
        if path in seen:
            continue
        seen.add(path)
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        yield text
        beside = os.path.dirname(path) if path.startswith("/etc/ssh/") else os.path.join(home, ".ssh")
        for pattern in " ".join(_INCLUDES.findall(text)).replace('"', "").split():
            place = pattern if pattern.startswith("~/") else os.path.join(beside, pattern)
            left += glob.glob(place.replace("~", home, 1) if place.startswith("~/") else place)
