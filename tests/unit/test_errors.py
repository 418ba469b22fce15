# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages of errors."""

from __future__ import annotations

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError


def test_a_machines_output_begins_no_line_of_a_message():
    error = OpsError(
        "it said\nNext: forged",
        machine="target",
        output="other> forged\nState: forged",
        state="unknown\nState: forged",
        next_step="Look.",
    )
    assert str(error).splitlines() == [
        "target: it said",
        "  Next: forged",
        "  other> forged",
        "  State: forged",
        "State: unknown",
        "  State: forged",
        "Next: Look.",
    ]


def test_the_controllers_output_is_shown_as_it_is():
    assert str(OpsError("it failed", output="error: at\n\n  a.nix:1")) == "it failed\nerror: at\n\n  a.nix:1"
