# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a deploy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.nix.ops.plugins.plugin_utils.activation import settings
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

COLLECTION = Path(settings.__file__).parents[3]


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
        ("deploy_previewed", {}),
        ("deploy_include", "web db,mail"),
        ("deploy_exclude", ["web"]),
        ("deploy_max_concurrent_copy", "0"),
        ("deploy_nix_options", "max-jobs=4, keep-going=true"),
        ("deploy_nix_options", {"cores": 2}),
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
        ("deploy_include", {"web": 1}, "names of machines"),
        ("deploy_max_concurrent_activate", -1, "a number of machines"),
        ("deploy_nix_options", "--option", "settings of Nix"),
        ("deploy_only", "switch", "one of all, create, dry-build, build, plan, copy"),
        ("deploy_previewed", 7, "what a preview passes on"),
        ("deploy_machines", [], "a pattern of hosts"),
        ("deploy_acton", "boot", "deploy_acton is not a variable of a deploy; did you mean deploy_action?"),
        ("deploy_confirm_timeouts", 3, "did you mean deploy_confirm_timeout?"),
        ("deploy_substitutes", "perhaps", "true or false"),
        ("deploy_switch_timeout", 0, "a number of seconds, at least 1"),
        ("copy_substitutes", True, "copy_substitutes is not a variable of a deploy; did you mean deploy_substitutes?"),
        ("prepare_timeout", 10, "did you mean deploy_ssh_timeout?"),
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


@pytest.mark.parametrize("other", [{"deploy_action": "boot"}, {"deploy_reboot": "always"}])
def test_a_system_boots_without_its_specialisation(other: dict[str, str]) -> None:
    settings.check({"target": {"deploy_specialisation": "small", "deploy_action": "test"}})
    with pytest.raises(OpsError, match="deploy_specialisation excludes"):
        settings.check({"target": {"deploy_specialisation": "small", **other}})


def test_another_profile_can_not_be_reverted() -> None:
    given = {"deploy_profile": "/nix/var/nix/profiles/system-profiles/try"}
    settings.check({"target": given})
    with pytest.raises(OpsError, match="deploy_revert excludes another deploy_profile"):
        settings.check({"target": {**given, "deploy_revert": "run"}})
    with pytest.raises(OpsError, match="has to be a path below /nix/var/nix/profiles"):
        settings.check({"target": {"deploy_profile": "try"}})


def test_a_variable_of_the_run_is_the_same_for_all_machines() -> None:
    settings.check({"target": {"deploy_only": "plan"}, "beta": {"deploy_only": "plan"}})
    with pytest.raises(OpsError, match="deploy_only differs between the machines"):
        settings.check({"target": {"deploy_only": "plan"}, "beta": {}})


def test_a_variable_that_only_begins_alike_is_left_alone() -> None:
    settings.check({"target": {"deploy_user": "www", "deploy_": 1, "deploy_wordpress_version": "6"}})
    assert not settings.concerns("copy_toplevel")
    settings.check_role(["deploy_user", "copy_action", "activate_result", "build_result"], [])


def test_the_role_takes_the_names_of_the_playbook_and_no_others() -> None:
    of_inventory = ["deploy_force", "deploy_serial", "nix_network"]
    settings.check_role(of_inventory, ["deploy_force", "site"])
    with pytest.raises(OpsError) as refused:
        settings.check_role([*of_inventory, "activate_force", "deploy_acton"], ["deploy_serial", "deploy_revert"])
    assert str(refused.value).splitlines()[:5] == [
        "activate_force is not a variable of a deploy; did you mean deploy_force?",
        "deploy_acton is not a variable of a deploy; did you mean deploy_action?",
        "deploy_revert is a variable of the playbook, not of the role.",
        "deploy_serial is a variable of the playbook, not of the role.",
        "State: nothing was touched",
    ]


def specification(place: str) -> dict[str, dict[str, Any]]:
    """The specified options of each entry point of a role, or of each playbook."""
    text = (COLLECTION / place / "meta/argument_specs.yml").read_text(encoding="utf-8")
    return {name: entry["options"] for name, entry in yaml.safe_load(text)["argument_specs"].items()}


def variables(place: str) -> dict[str, Any]:
    """The variables of a file."""
    return dict(yaml.safe_load((COLLECTION / place).read_text(encoding="utf-8")))


def test_the_specifications_have_the_variables_that_are_checked() -> None:
    role, playbook = specification("roles/deploy")["main"], specification("playbooks")["deploy"]
    assert playbook.keys() == settings.OF_PLAYBOOK
    assert {**role, **playbook}.keys() == settings.SETTINGS.keys()
    for name, option in {**role, **playbook}.items():
        setting = settings.SETTINGS[name]
        if name not in ("deploy_machines", "deploy_exclude", "deploy_include"):
            assert option.get("default") == setting.default, name
        for value in option.get("choices", ()):
            setting.read(value)
        words = {"bool": "true or false", "int": "a number of "}.get(option["type"], "")
        assert setting.wanted.startswith("one of " if "choices" in option else words), name
        assert len(option.get("choices", ())) == len(setting.wanted.split(", ")) or "choices" not in option, name


def test_the_role_sets_every_variable_of_its_stages() -> None:
    given = {
        file.stem: dict(yaml.safe_load(file.read_text(encoding="utf-8"))[0]["vars"])
        for file in (COLLECTION / "roles/deploy/tasks").glob("*.yml")
        if file.stem != "main"
    }
    # The playbook builds all machines at once.
    assert given.pop("together").keys() == given["build"].keys()
    back = given.pop("back")
    of_roles = {name: value for one in given.values() for name, value in one.items()}
    assert {name: re.findall(r"deploy_\w+", value)[0] for name, value in of_roles.items()} == settings.OF_ROLES
    assert back == {name: of_roles[name] for name in specification("roles/activate")["back"]}

    defaults = variables("roles/deploy/defaults/main.yml")
    of_stages: dict[str, Any] = {}
    for stage in given:
        of_stages |= variables(f"roles/{stage}/defaults/main.yml")
    own = {"prepare_network", "prepare_checkout", "prepare_since", "copy_toplevel", "activate_toplevel"}
    # A message shows the value of a variable that is not valid, and these are secret.
    own |= {"prepare_key_contents", "activate_key_contents", "keys_contents", "keys_names"}
    # The playbook sets them.
    own |= {"activate_keep_old_keys", "build_unevaluated"}
    assert of_stages.keys() - own == of_roles.keys()
    for name, of_deploy in settings.OF_ROLES.items():
        if name in ("build_dry_run", "build_elsewhere", "copy_substitutes"):
            # They are made of several.
            continue
        assert of_stages[name] == defaults[of_deploy], name

    entries = specification("roles/deploy")
    assert entries["back"].keys() == {settings.OF_ROLES[name] for name in back}
    for name, option in entries["back"].items():
        assert option["default"] == entries["main"][name]["default"]


def test_a_setting_that_is_not_set_has_its_default() -> None:
    assert settings.read("deploy_action", {}) == "switch"
    assert settings.read("deploy_action", {"deploy_action": "boot"}) == "boot"
    assert settings.read("deploy_any_errors_fatal", {"deploy_any_errors_fatal": "no"}) is False


@pytest.mark.parametrize("strategy", ["free", "host_pinned", "ansible.builtin.free"])
def test_only_machines_that_keep_step_are_taken_back(strategy: str) -> None:
    settings.check_revert("linear")
    with pytest.raises(OpsError, match="needs the strategy linear"):
        settings.check_revert(strategy)
