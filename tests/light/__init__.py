# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thousand machines on one computer: the real scripts in real roots, without systemd and sshd."""

from light.machines import LightMachines

__all__ = ["LightMachines"]
