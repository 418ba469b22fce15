# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides what a machine needs to reach a goal."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ansible_collections.nix.ops.plugins.plugin_utils.activation.protocol import Goal
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing

# After these actions another system runs, possibly with another sshd.
_SWITCHING = ("switch", "test")

# After these actions another system boots.
_BOOTING = ("switch", "boot")


@dataclass(frozen=True)
class Decision:
    """What a machine needs.

    :param goal: what to activate; None if there is nothing to do.
    :param reboot: whether the activation reboots the machine: ``never``, ``when_needed`` or ``always``.
    :param only_reboots: whether the machine needs nothing but a reboot.
    """

    goal: Goal | None
    reboot: str = "never"
    only_reboots: bool = False

    @property
    def changes(self) -> bool:
        """Whether the machine is different afterwards."""
        return self.goal is not None and self.goal.action != "dry-activate"


def decide(standing: Standing, goal: Goal, *, force: bool, is_activating: bool, reboot: str) -> Decision:
    """Decide what a machine needs to reach a goal.

    :param force: activate also if the machine is at the goal.
    :param is_activating: whether an activation is at work; it has to be followed, since it changes the standing.
    :param reboot: ``never``, ``when_needed`` or ``always``.
    """
    if force or is_activating or not standing.stands_at(goal.toplevel, goal.action):
        return Decision(goal, reboot if goal.action in _BOOTING else "never")
    if _needs_reboot(standing, goal, reboot):
        # Writes the boot entry once more, since it decides what boots.
        return Decision(replace(goal, action="boot"), "always", only_reboots=True)
    return Decision(None)


def is_acknowledged(action: str, *, rolls_back: bool, rebooted: bool) -> bool:
    """Return whether an activation that succeeded was acknowledged over a new connection.

    :param rolls_back: whether the machine would have gone back without an acknowledgement.
    """
    return rebooted or (action in _SWITCHING and rolls_back)


def is_settled(action: str, toplevel: str, running: str | None) -> bool:
    """Return whether the goal runs and boots, so that nothing needs any more what only the system before it had."""
    return action in _BOOTING and running == toplevel


def _needs_reboot(standing: Standing, goal: Goal, reboot: str) -> bool:
    if goal.action not in _BOOTING or reboot == "never":
        return False
    return reboot == "always" or bool(standing.reboot_parts) or standing.running != goal.toplevel
