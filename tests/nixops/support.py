# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports of NixOps, with key pairs that are made for each test."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

_PLACEHOLDER = re.compile(r"@(PRIVATE|PUBLIC) ([a-z]+)@")


def exported(version: str, keys: Path) -> str:
    """Return what a version of NixOps exported.

    :param keys: a directory for the key pairs.
    """
    text = (Path(__file__).parent / f"exported-{version}.json").read_text(encoding="utf-8")
    return _PLACEHOLDER.sub(lambda found: json.dumps(key(keys / found[2], private=found[1] == "PRIVATE"))[1:-1], text)


def key(path: Path, *, private: bool) -> str:
    """Return one half of a key pair, which is made at the first call."""
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        comment = f"NixOps client key for {path.name}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path], check=True)
    return path.read_text() if private else Path(f"{path}.pub").read_text().strip()
