# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the limits of waits that several modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that limit waits."""

    DOCUMENTATION = r"""
options:
  answer_timeout:
    description:
      - Seconds within which the machine has to answer one question, from the login to the last byte. Then the question
        is ended, with the processes that were started for it, and the machine counts as unreachable.
    type: int
    default: 60
"""

    COPY = r"""
options:
  stall_timeout:
    description:
      - Seconds without progress until a copy is ended and the machine counts as unreachable. Less than 64 KiB is no
        progress.
      - Needs Linux on the controller. Elsewhere O(copy_timeout) alone counts.
    type: int
    default: 600
  copy_timeout:
    description: Seconds until a copy is ended in any case.
    type: int
    default: 86400
"""
