# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps facts in JSON files that AWX delivers to a job and collects after it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: jsonfile
short_description: Keep facts in JSON files, including those of AWX
description:
  - Keeps the facts of each host in a JSON file, as P(ansible.builtin.jsonfile#cache) does.
  - AWX puts the facts of a host into a file with the host's name and collects that file after the job.
    ansible-core 2.19 and later put C(s1_) before the name, so that with P(ansible.builtin.jsonfile#cache) a job finds
    no facts and leaves none. This plugin reads both files, takes the newer one, and writes both.
  - Facts do not expire. AWX decides by its setting C(ANSIBLE_FACT_CACHE_TIMEOUT) which facts a job gets.
  - Only the user can read the files (mode 0600).
author:
  - nix.ops contributors (@nix-ops)
version_added: 0.1.0
options:
  _uri:
    description: The directory of the files.
    type: path
    required: true
    env:
      - name: ANSIBLE_CACHE_PLUGIN_CONNECTION
    ini:
      - section: defaults
        key: fact_caching_connection
  _timeout:
    description:
      - Seconds after which a file expires; V(0) for never.
      - Only the cache of an inventory plugin sets it. C(fact_caching_timeout) has no effect on facts.
    type: integer
    default: 0
  _prefix:
    description:
      - Prefix of the file names.
      - Only the cache of an inventory plugin sets it. C(fact_caching_prefix) has no effect on facts, since AWX names
        their files.
    type: str
    default: ''
notes:
  - AWX sets the cache of a job with I(Enable fact storage) to C(jsonfile), whatever C(ansible.cfg) says. This plugin
    has that name. Ansible finds it if C(cache_plugins) in the C(ansible.cfg) of the project, or
    C(ANSIBLE_CACHE_PLUGINS) in the execution environment, names the directory C(plugins/cache) of this collection.
    Elsewhere its name is C(nix.ops.jsonfile).
  - Files with plain facts, as ansible-core before 2.19 writes them, are read too.
  - Content of a file is never run as a template.
  - A file that can't be read counts as missing, with a warning.
"""

EXAMPLES = r"""
# ansible.cfg of a project in AWX
# [defaults]
# cache_plugins = /usr/share/ansible/collections/ansible_collections/nix/ops/plugins/cache

# ansible.cfg elsewhere
# [defaults]
# fact_caching = nix.ops.jsonfile
# fact_caching_connection = ~/.local/state/nix.ops/facts/9e8652aa-e64a-11f1-b7ab-02fc00000001
"""

import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.cache import BaseCacheModule
from ansible.utils.display import Display

# The prefix of a host's name and the key of its facts in ansible-core (ansible/_internal/_plugins/_cache.py).
_SCHEMA = re.compile(r"s\d+_")
_OURS = "s1_"
_PAYLOAD = "__payload__"

# The key of a document: the file "s1_web" may belong to the host web or to a host s1_web.
_KEY = "__key__"

# ansible-core's marks of values that are not plain JSON, and of those that are run as templates.
_TYPE = "__ansible_type"
_TRUST = "TrustedAsTemplate"


class CacheModule(BaseCacheModule):
    """Keeps a document for each host in a directory, under both names that AWX and ansible-core use."""

    # Read by the check of the fact cache.
    facts_grow_old = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._directory = Path(os.path.expandvars(self.get_option("_uri"))).expanduser()
        self._known: dict[str, dict[str, Any]] = {}
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise AnsibleError(f"the directory of the fact cache can't be made: {error}") from error
        if not os.access(self._directory, os.R_OK | os.W_OK | os.X_OK):
            raise AnsibleError(f"the directory of the fact cache can't be read and written: {self._directory}")

    def get(self, key: str) -> dict[str, Any]:
        """Return a host's document. It is read once in a run.

        :raises KeyError: if the host has no document.
        """
        if key not in self._known:
            found = self._stored(key)
            if found is None:
                raise KeyError(key)
            self._known[key] = found
        return self._known[key]

    def set(self, key: str, value: dict[str, Any]) -> None:
        """Write a host's document, unless the files have it already: AWX would see a change."""
        self._known[key] = value
        if self._stored(key) == value:
            return
        for path in self._paths(key):
            try:
                _write(path, {**value, _KEY: key})
            except OSError as error:
                Display().warning(f"the facts can't be kept in {path}: {error}")

    def contains(self, key: str) -> bool:
        """Return whether a host has a document."""
        return key in self._known or self._stored(key) is not None

    def delete(self, key: str) -> None:
        """Remove a host's files. For AWX the facts are cleared then."""
        self._known.pop(key, None)
        for path in self._paths(key):
            if _key_of(path, _read(path)) in (key, None):
                path.unlink(missing_ok=True)

    def keys(self) -> list[str]:
        """Return the keys of all documents."""
        return sorted({key for path in self._files() if (key := _key_of(path, _read(path)))})

    def flush(self) -> None:
        """Remove all files."""
        self._known = {}
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        prefix = self.get_option("_prefix")
        return (one for one in self._directory.iterdir() if one.name.startswith(prefix) and one.name[0] != ".")

    def _paths(self, key: str) -> tuple[Path, Path]:
        """Return the path that ansible-core uses, and that of AWX."""
        name = key.replace("/", "%2F")
        names = name, _SCHEMA.sub("", name, count=1) if _SCHEMA.match(name) else name
        first, second = (self._directory / f"{self.get_option('_prefix')}{one}" for one in names)
        return first, second

    def _stored(self, key: str) -> dict[str, Any] | None:
        """Return the newer document of a host; None if the host has no document."""
        timeout = self.get_option("_timeout")
        found = []
        for path in self._paths(key):
            with suppress(OSError):
                modified = path.stat().st_mtime_ns
                if timeout and time.time() - modified / 1e9 > timeout:
                    continue
                document = _read(path)
                if document is not None and document.pop(_KEY, key) == key:
                    found.append((modified, document))
        return max(found, key=lambda one: one[0])[1] if found else None


def _key_of(path: Path, document: dict[str, Any] | None) -> str | None:
    """Return the key of a document; None if it is damaged."""
    if document is None:
        return None
    plain = not path.name.startswith(_OURS)
    return str(document.get(_KEY) or (f"{_OURS}{path.name}" if plain else path.name))


def _read(path: Path) -> dict[str, Any] | None:
    """Read a document; None if it is missing or damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError("not a mapping")
        if _PAYLOAD in document:
            payload = json.dumps(_without_trust(json.loads(document[_PAYLOAD])))
            if _TRUST in payload:
                raise ValueError("it contains a template")
            return {**document, _PAYLOAD: payload}
        # Plain facts may come from a machine, so they must be plain JSON.
        facts = json.dumps(document)
        if _TYPE in facts:
            raise ValueError("plain facts with a type")
        return {_PAYLOAD: facts}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        Display().warning(f"the facts in {path} can't be read and count as missing: {error}")
        return None


def _without_trust(value: Any) -> Any:
    """Remove the marks of values that are run as templates."""
    if isinstance(value, list):
        return [_without_trust(one) for one in value if one != {_TYPE: _TRUST}]
    if isinstance(value, dict):
        return {name: _without_trust(one) for name, one in value.items()}
    return value


def _write(path: Path, document: dict[str, Any]) -> None:
    """Replace a document atomically, with mode 0600."""
    handle, new = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(document))
        os.replace(new, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(new)
