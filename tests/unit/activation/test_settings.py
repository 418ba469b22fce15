# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a deploy."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.activation import settings
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("deploy_action", "boot"),
        ("deploy_any_errors_fatal", "yes"),
        ("deploy_confirm_timeout", "90"),
        ("deploy_ssh_timeout", 0),
        ("deploy_serial", 1),
        ("deploy_serial", "30%"),
        ("deploy_serial", [1, 5, "100%"]),
        ("deploy_max_fail_percentage", 0),
        ("deploy_max_fail_percentage", "33.3%"),
        ("deploy_machines", ["web", "!db"]),
        ("deploy_health_checks", {}),
        ("deploy_previewed", []),
    ],
)
def test_a_value_that_a_deploy_takes(name: str, value: Any) -> None:
    settings.check({"target": {name: value}})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("deploy_action", "swich", "deploy_action is swich, and has to be one of switch, boot, test, dry-activate."),
        ("deploy_revert", "all", "one of never, batch, run"),
        ("deploy_unreachable", "ignore", "one of warn, fail"),
        ("deploy_rollback", "off", "one of auto, never"),
        ("deploy_failed_units", None, "one of rollback, fail, warn"),
        ("deploy_reboot", ["always"], "one of never, when_needed, always"),
        ("deploy_any_errors_fatal", "maybe", "true or false"),
        ("deploy_confirm_timeout", 0, "a number of seconds, at least 1"),
        ("deploy_confirm_timeout", "soon", "a number of seconds"),
        ("deploy_confirm_timeout", True, "a number of seconds"),
        ("deploy_reboot_timeout", 1.5, "a number of seconds"),
        ("deploy_serial", 0, "a number of machines, a percentage, or a list of them"),
        ("deploy_serial", "0%", "a number of machines"),
        ("deploy_serial", [], "a number of machines"),
        ("deploy_max_fail_percentage", 101, "a percentage from 0 to 100"),
        ("deploy_max_fail_percentage", -1, "a percentage"),
        ("deploy_health_checks", "nginx", "a mapping"),
        ("deploy_previewed", 7, "a list of toplevels"),
        ("deploy_machines", [], "a pattern of hosts"),
        ("deploy_acton", "boot", "deploy_acton is not a variable of a deploy; did you mean deploy_action?"),
        ("deploy_confirm_timeouts", 3, "did you mean deploy_confirm_timeout?"),
    ],
)
def test_a_value_that_a_deploy_does_not_take_is_refused(name: str, value: Any, told: str) -> None:
    with pytest.raises(OpsError) as refused:
        settings.check({"target": {name: value}, "beta": {name: value}})
    assert told in str(refused.value)
    assert str(refused.value).count(name) == 1
    assert "State: nothing was touched" in str(refused.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(OpsError) as refused:
        settings.check({"target": {"deploy_action": "no"}, "beta": {"deploy_reboot": "no", "deploy_action": "nope"}})
    assert [line.partition(",")[0] for line in str(refused.value).splitlines()[:3]] == [
        "deploy_action is no",
        "deploy_action is nope",
        "deploy_reboot is no",
    ]


def test_a_variable_that_only_begins_alike_is_left_alone() -> None:
    settings.check({"target": {"deploy_user": "www", "deploy_": 1, "deploy_wordpress_version": "6"}})


def test_a_setting_that_is_not_set_has_its_default() -> None:
    assert settings.read("deploy_action", {}) == "switch"
    assert settings.read("deploy_action", {"deploy_action": "boot"}) == "boot"
    assert settings.read("deploy_any_errors_fatal", {"deploy_any_errors_fatal": "no"}) is False


@pytest.mark.parametrize("strategy", ["free", "host_pinned", "ansible.builtin.free"])
def test_only_machines_that_keep_step_are_taken_back(strategy: str) -> None:
    settings.check_revert("linear")
    with pytest.raises(OpsError, match="needs the strategy linear"):
        settings.check_revert(strategy)


@pytest.mark.parametrize(
    ("pattern", "missing"),
    [
        (["nixos"], []),
        (["web", "!db", "&nixos"], []),
        (["nixos[0]", "web[0:1]"], []),
        (["w*", "~^db", "[wd]b"], []),
        (["targt", "web"], ["targt"]),
        (["nixos", "!dbb"], ["dbb"]),
        ([""], []),
    ],
)
def test_every_name_in_a_pattern_is_a_machine_or_a_group(pattern: list[str], missing: list[str]) -> None:
    assert settings.unmatched(pattern, ["web", "db"], ["all", "nixos"]) == missing
