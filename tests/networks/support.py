# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks of the tests, and what they are evaluated with."""

from __future__ import annotations

from pathlib import Path

NETWORKS = Path(__file__).parent
NIXPKGS = str(NETWORKS.parent / "nixpkgs")
NIX_PATH = (f"nixpkgs={NIXPKGS}",)

ENVIRONMENT = {"NIX_CONFIG": "substituters =", "NIX_PATH": NIX_PATH[0]}


def write(directory: Path, **files: str) -> list[str]:
    """Write Nix files, each named by its keyword; return their paths."""
    paths = []
    for name, text in files.items():
        path = directory / f"{name}.nix"
        path.write_text(text, encoding="utf-8")
        paths.append(str(path))
    return paths
