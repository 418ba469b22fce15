# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the machine that several modules expect to answer."""

from __future__ import annotations


class ModuleDocFragment:
    """The machine that has to answer."""

    DOCUMENTATION = r"""
options:
  expected:
    description:
      - The result of M(nix.ops.deployment_prepare) or M(nix.ops.nixos_info) for the machine.
      - With it, the task fails if another machine answers now, before anything is run there. A machine that was
        rebooted meanwhile is the same one if it has a RV(nix.ops.nixos_info#module:machine_id).
    type: dict
    default: {}
"""
