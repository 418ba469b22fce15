# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed build says."""

from __future__ import annotations

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.store import build

DRV = "/nix/store/50daiqnayvkqkyhbjj3yk6adfjcy51ra-tool.drv"


@pytest.mark.parametrize(
    ("said", "derivation"),
    [
        (f"error: builder for '{DRV}' failed with exit code 3\nerror: 1 dependencies of '/x' failed", DRV),
        (f"error: Cannot build '{DRV}'.\n       Reason: builder failed with exit code 3.", DRV),
        ("error: interrupted", "PATH.drv"),
    ],
)
def test_the_command_for_the_log_of_a_failed_build_is_told(said: str, derivation: str) -> None:
    failure = build._failure(None, f"no such compiler\n{said}\n", 100)
    assert (failure.next_step or "").endswith(f"nix-store --read-log {derivation}")
    # The lines were shown while Nix was at work, and are in the message for those who read only that.
    assert failure.untold() == f"the build failed\nState: no machine was touched\nNext: {failure.next_step}"
    assert "no such compiler" in str(failure)
