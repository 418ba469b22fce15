# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has Python look for garbage seldom: a run of Ansible spends a quarter of its time on it otherwise, and ends soon."""

from __future__ import annotations

import gc

gc.set_threshold(200_000, 20, 20)
