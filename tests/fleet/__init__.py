# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts and stops the live machines that the tests and the demo run against."""

from __future__ import annotations

from .fleet import Fleet
from .host import FleetError
from .machine import Kind, Machine

__all__ = ["Fleet", "FleetError", "Kind", "Machine"]
