# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patterns of hosts: each name in them has to match something."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import patterns
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError


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


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        (None, None, ["web1", "web2", "db"]),
        ("web1 db", None, ["web1", "db"]),
        (["db", "web*"], "web2", ["web1", "db"]),
        (None, "web1,web2", ["db"]),
        ("web1", "web1", []),
    ],
)
def test_machines_are_included_and_excluded(include: Any, exclude: Any, chosen: list[str]) -> None:
    assert patterns.choose(["web1", "web2", "db"], include, exclude) == chosen


@pytest.mark.parametrize(
    ("include", "exclude", "told"),
    [
        ("web1 targt", None, "targt: not a machine that would be deployed (deploy_include)"),
        (None, ["mail", "x*"], "mail, x*: not a machine that would be deployed (deploy_exclude)"),
        (7, None, "deploy_include is 7, and has to be names of machines"),
    ],
)
def test_a_name_that_matches_nothing_is_refused(include: Any, exclude: Any, told: str) -> None:
    with pytest.raises(OpsError) as refused:
        patterns.choose(["web1"], include, exclude)
    assert told in str(refused.value)
