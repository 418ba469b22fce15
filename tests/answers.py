# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of scripts as a machine's shell prints them."""

from __future__ import annotations

BOOT_ID = "2e7bd76b-6b5c-4b0b-8ff7-0ad38ac39e5b"


def answered(text: str, exit_code: int = 0, *, boot_id: str = BOOT_ID, machine_id: str = "") -> str:
    """Return what a machine prints for a script that prints a text."""
    return f"nix.ops answers {boot_id} {machine_id}\n{text}nix.ops ends {exit_code}\n"
