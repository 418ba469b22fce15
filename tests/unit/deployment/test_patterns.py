# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patterns of hosts: each name in them has to match something."""

from __future__ import annotations

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import patterns


@pytest.mark.parametrize(
    ("pattern", "missing"),
    [
        (["nixos"], []),
        (["web", "!db", "&nixos"], []),
        (["nixos[0]", "web[0:1]"], []),
        (["w*", "~^db", "[wd]b", "deploy*", "@file", "localhost"], []),
        (["x*", "~^x", "~(", "w[12]"], ["x*", "~^x", "~(", "w[12]"]),
        (["targt", "web"], ["targt"]),
        (["nixos", "!dbb"], ["dbb"]),
        ([""], []),
    ],
)
def test_every_name_in_a_pattern_is_a_machine_or_a_group(pattern: list[str], missing: list[str]) -> None:
    assert patterns.unmatched(pattern, ["web", "db"], ["all", "nixos", "deployment_a"]) == missing
