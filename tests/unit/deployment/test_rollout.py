# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of a deploy: what is refused, what is planned, how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.nix.ops.plugins.plugin_utils.activation import settings
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import approval, rollout
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.rollout import Chosen, Run
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

OLD = "/nix/store/00000000000000000000000000000000-old"
NEW = "/nix/store/11111111111111111111111111111111-new"
STANDING = {
    "running": OLD,
    "booted": OLD,
    "profile": OLD,
    "generation": 1,
    "boot_default": OLD,
    "boot_unfinished": False,
    "failed_units": [],
    "boot_id": "1",
    "reboot_parts": [],
    "trial": None,
}


def machine(name: str, **variables: Any) -> dict[str, Any]:
    """The variables of a machine that was asked and built."""
    built = {"results": [{"item": "/net", "machines": {name: {"out_path": NEW}}}]}
    prepared = {**STANDING, "state": {"activations": []}, "recorded": True}
    return {
        "nix_network": "/net",
        "nix_machine": name,
        "prepare_result": prepared,
        "build_result": built,
        **variables,
    }


def run(
    hosts: dict[str, dict[str, Any]],
    lost: tuple[str, ...] = (),
    tags: tuple[str, ...] = ("copy", "activate"),
    extra: tuple[str, ...] = ("deploy_reboot",),
    **more: Any,
) -> Run:
    """A run on hosts with variables."""
    names = list(hosts)
    play = more.pop("play", {})
    variables = {
        **hosts[names[0]],
        "hostvars": hosts,
        "groups": {"all": names, "ungrouped": [], "nixos": names},
        "ansible_play_hosts_all": names,
        "ansible_play_hosts": [name for name in names if name not in lost],
        "ansible_play_batch": names,
        "ansible_run_tags": ["all"],
        "ansible_skip_tags": [],
        **play,
        **more,
    }
    return Run(
        names[0],
        variables,
        of_play=play.keys(),
        extra=extra,
        defaults={"deploy_strategy": "free"},
        tags=tags,
    )


def test_the_variables_of_a_play_win_over_those_of_the_inventory_and_extra_ones_over_all() -> None:
    hosts = {
        "a": machine("a", deploy_action="boot", deploy_reboot="always"),
        "b": machine("b", deploy_action="test", deploy_reboot="always"),
    }
    of_inventory = run(hosts)
    assert [of_inventory.setting("deploy_action", host) for host in hosts] == ["boot", "test"]
    of_play = run(hosts, play={"deploy_action": "switch", "deploy_reboot": "never"})
    assert [of_play.setting("deploy_action", host) for host in hosts] == ["switch", "switch"]
    assert [of_play.setting("deploy_reboot", host) for host in hosts] == ["always", "always"]
    assert of_play.setting("deploy_failed_units", "a") == "rollback"


def test_a_template_of_the_play_counts_for_each_host_as_it_is_there() -> None:
    hosts = {"a": machine("a"), "b": machine("b")}
    one = replace(run(hosts, play={"deploy_action": "{{ host }}"}), template=lambda value, host: f"{value} of {host}")
    assert [one.settings(host)["deploy_action"] for host in hosts] == ["{{ host }} of a", "{{ host }} of b"]


def test_a_plan_evaluates_no_template_that_it_does_not_need() -> None:
    # Defaults of roles are variables of the play too, and one of them reads the variables of all hosts.
    play = {"build_elsewhere": "{{ all hosts }}", "deploy_compress": "{{ host }}", "deploy_action": "{{ boot }}"}
    evaluated: list[Any] = []

    def template(value: Any, host: str) -> str:
        evaluated.append(value)
        return "boot"

    one = replace(run({"a": machine("a"), "b": machine("b")}, play=play), template=template)
    assert [need.action for need in rollout.make_plan(one).values()] == ["boot", "boot"]
    assert evaluated == ["{{ boot }}"] * 2


@pytest.mark.parametrize(
    ("always", "variables", "activates"),
    [
        (False, {}, False),
        (True, {}, True),
        (False, {"deploy_force": "yes"}, True),
        (True, {"deploy_force": False}, False),
    ],
)
def test_the_same_system_is_activated_again(always: bool, variables: dict[str, Any], activates: bool) -> None:
    standing = {**STANDING, "running": NEW, "booted": NEW, "profile": NEW, "boot_default": NEW}
    prepared = {**standing, "state": {"activations": [{"toplevel": NEW, "rolled_back": False}]}, "recorded": True}
    hosts = {"a": machine("a", prepare_result=prepared, nix_always_activate=always, **variables)}
    assert bool(rollout.make_plan(run(hosts))["a"]) == activates


@pytest.mark.parametrize(
    ("variables", "prepared", "needs"),
    [
        ({}, {}, ""),
        ({}, {"sent_keys": ["a"]}, "keys"),
        ({"nix_deployment_keys": {"a": {}}}, {}, "keys?"),
        ({"nix_deployment_keys": {"a": {}}}, {"compared_keys": None}, "keys?"),
        ({"nix_deployment_keys": {"a": {}}}, {"compared_keys": {}}, ""),
        ({"nix_deployment_keys": {"a": {}}}, {"compared_keys": {"differing": ["a"]}}, "keys"),
        ({"nix_deployment_keys": {"a": {}}}, {"compared_keys": {"gone": ["b"]}}, "keys"),
        ({"nix_deployment_keys": {"a": {}}}, {"compared_keys": {"unknown": ["a"]}}, "keys?"),
        ({"nix_deployment_keys": {"a": {}}}, {"compared_keys": {}, "missing_keys": ["b"]}, "keys"),
        ({"nix_deployment_keys": {"a": {}}, "ansible_skip_tags": ["keys"]}, {}, ""),
    ],
)
def test_plan_says_keys_where_keys_differ(variables: dict[str, Any], prepared: dict[str, Any], needs: str) -> None:
    own = {**variables}
    skipped = own.pop("ansible_skip_tags", [])
    at_goal = {**STANDING, "running": NEW, "booted": NEW, "profile": NEW, "boot_default": NEW, "recorded": True}
    state = {"state": {"activations": [{"toplevel": NEW, "rolled_back": False}]}}
    if prepared.get("compared_keys") is not None:
        prepared = {
            **prepared,
            "compared_keys": {"differing": [], "gone": [], "unknown": [], **prepared["compared_keys"]},
        }
    hosts = {"a": machine("a", prepare_result={**at_goal, **state, **prepared}, **own)}
    need = rollout.make_plan(run(hosts, ansible_skip_tags=skipped))["a"]
    assert (need.summary(), bool(need)) == (needs or "nothing", bool(needs))


class Counted(dict[str, Any]):
    """Notes which of its keys were read."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.read: list[str] = []

    def __getitem__(self, key: str) -> Any:
        self.read.append(key)
        return super().__getitem__(key)

    def raw_get(self, key: str) -> Any:
        """As Ansible's variables of all hosts have it."""
        self.read.append(f"{key} untemplated")
        return super().__getitem__(key)


def test_the_variables_of_a_host_are_collected_once() -> None:
    hosts = {name: machine(name) for name in ("a", "b")}
    counted = Counted(hosts)
    assert list(rollout.make_plan(run(hosts, hostvars=counted))) == ["a", "b"]
    assert sorted(counted.read) == ["a", "a untemplated", "b", "b untemplated"]


def test_a_batch_that_succeeds_reads_the_variables_of_no_other_machine() -> None:
    hosts = {name: machine(name, rollout_plan={"made": 7.0}) for name in ("a", "b", "c", "d")}
    counted = Counted(hosts)
    one = run(hosts, hostvars=counted, ansible_play_batch=["a", "b"])
    assert not rollout.end_batch(one).ends
    assert rollout.time_of_plan(one) == 7.0
    assert {name.split()[0] for name in counted.read} == {"a", "b"}


@pytest.mark.parametrize(
    ("chosen", "skipped", "tags", "copies", "activates"),
    [
        (["all"], [], (), True, True),
        (["tagged"], [], (), True, True),
        (["copy"], [], (), True, False),
        # Copies too (roles/copy).
        (["activate"], [], (), True, True),
        (["all"], ["activate"], (), True, False),
        (["all"], ["copy"], (), False, True),
        (["activate"], ["copy"], (), False, True),
        (["copy", "activate"], ["activate"], (), True, False),
        (["site"], [], ("site",), True, True),
        (["copy"], [], ("site",), True, False),
        (["copy", "site"], [], ("site",), True, True),
        (["copy"], [], ("always",), True, True),
    ],
)
def test_tags_choose_the_steps_of_the_plan(
    chosen: list[str], skipped: list[str], tags: tuple[str, ...], copies: bool, activates: bool
) -> None:
    own = tuple(one for one in ("copy", "activate") if one not in skipped)
    one = run({"a": machine("a")}, tags=(*own, *tags), ansible_run_tags=chosen, ansible_skip_tags=skipped)
    assert (one.does("copy"), one.does("activate")) == (copies, activates)
    need = rollout.make_plan(one)["a"]
    assert (need.copy, need.action) == (copies, "switch" if activates else None)
    assert need.reasons == (() if activates else ("without its activation",))


def test_what_can_not_be_meant_is_refused() -> None:
    both = {"a": machine("a"), "stray": {}}

    def check(one: Run, pattern: Any, *matching: str) -> list[str]:
        return rollout.check(one, Chosen(pattern), lambda _pattern: matching)

    assert check(run(both), ["a"], "a") == ["a"]
    for wrong, pattern, matching, told in (
        (run({"stray": {}}), ["nixos"], ["stray"], "no machine of a network"),
        (run(both), ["stray"], ["stray"], "no machine of a network"),
        (run(both), ["nixos"], ["a", "stray"], "not machines of a network: stray"),
        (run(both), ["aa", "a"], ["a"], "aa: not a machine and not a group of the inventory (deploy_machines)"),
        (run(both), "aa,a", ["a"], "aa: not a machine and not a group"),
        (run(both), "", [], "an empty pattern matches no machine (deploy_machines)"),
        (run(both), [], [], "an empty pattern matches no machine (deploy_machines)"),
        (run(both, ansible_limit="b,a"), "nixos", ["a"], "b: not a machine and not a group of the inventory (--limit)"),
        (run(both), "a:!a", [], "no machine is left to deploy"),
        (run({"a": machine("a", deploy_action="no")}), ["a"], ["a"], "deploy_action is no"),
        (run({"a": machine("a", copy_compress=True)}), ["a"], ["a"], "did you mean deploy_compress"),
        (run({"a": machine("a")}, play={"activate_reboot": "always"}), ["a"], ["a"], "did you mean deploy_reboot"),
        (run({"a": machine("a", deploy_revert="run")}), ["a"], ["a"], "deploy_revert needs the strategy linear: free"),
        (run(both, ansible_skip_tags=["build"]), ["a"], ["a"], "what was not built"),
    ):
        with pytest.raises(OpsError) as refused:
            check(wrong, pattern, *matching)
        assert told in str(refused.value)
        assert "State: nothing was touched" in str(refused.value)


SLICE: dict[str, Any] = {"awx_job_template_name": "deploy", "awx_workflow_job_name": "deploy"}


def test_only_a_slice_of_a_job_may_have_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(**more: Any) -> list[str]:
        return rollout.check(run({"a": machine("a")}, **more), Chosen("nixos"), lambda _pattern: [])

    with pytest.raises(OpsError, match="no machine is left"):
        check(**SLICE)
    monkeypatch.setenv("AWX_PRIVATE_DATA_DIR", "/runner")
    assert check(**SLICE) == []
    with pytest.raises(OpsError, match="no machine is left"):
        check()
    with pytest.raises(OpsError, match="no machine is left"):
        check(**SLICE, ansible_check_mode=True)


def test_a_job_of_awx_can_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    one = run({"a": machine("a", deploy_confirm=True)})
    assert rollout.check(one, Chosen("a"), lambda _pattern: ["a"]) == ["a"]
    monkeypatch.setenv("AWX_PRIVATE_DATA_DIR", "/runner")
    with pytest.raises(OpsError, match="deploy_confirm in a job of AWX"):
        rollout.check(one, Chosen("a"), lambda _pattern: ["a"])


@pytest.mark.parametrize(("only", "copies", "action"), [("plan", True, "switch"), ("copy", True, None)])
def test_the_plan_has_what_the_deploy_goes_up_to(only: str, copies: bool, action: str | None) -> None:
    need = rollout.make_plan(run({"a": machine("a", deploy_only=only)}))["a"]
    assert (need.copy, need.action) == (copies, action)


def test_machines_that_are_lost_are_named_or_end_the_deploy() -> None:
    gone = {"prepare_result": {"msg": "b: the machine can't be reached\nno route", "unreachable": True}}
    hosts = {"a": machine("a"), "b": machine("b", **gone)}
    assert rollout.check_reached(run(hosts, lost=("b",))) == ["b: the machine can't be reached"]
    with pytest.raises(OpsError, match="--limit 'nixos:!b'"):
        rollout.check_reached(run(hosts, lost=("b",), play={"deploy_unreachable": "fail"}))
    assert list(rollout.make_plan(run(hosts, lost=("b",)))) == ["a"]
    with pytest.raises(OpsError, match=r"b failed \(deploy_any_errors_fatal\)"):
        rollout.make_plan(run(hosts, lost=("b",), play={"deploy_any_errors_fatal": True}))


def test_the_other_deployments_of_a_machine_are_told() -> None:
    prepared = {**STANDING, "owners": ["ours", "theirs"]}
    hosts = {"a": machine("a", nix_deployment_uuid="ours", prepare_result=prepared), "b": machine("b")}
    one = run(hosts)
    assert rollout.other_deployments(one, "a") == ["theirs"]
    # The machine was not asked.
    assert rollout.other_deployments(one, "b") == []


def test_machines_whose_host_key_is_not_checked_are_named() -> None:
    found = {"a": True, "b": False, "c": None}
    one = run({name: machine(name, prepare_result={"host_key_checked": value}) for name, value in found.items()})
    assert rollout.unchecked(one, ["a", "b", "c"]) == ["b"]


def previewed(hosts: dict[str, dict[str, Any]], lost: tuple[str, ...] = (), **extra: Any) -> dict[str, Any]:
    """What a preview with these extra variables passes on."""
    one = run(hosts, lost, extra=tuple(extra), ansible_check_mode=True, **extra)
    return rollout.pass_on(one, rollout.make_plan(one))


def test_only_what_was_previewed_is_deployed() -> None:
    hosts = {"a": machine("a"), "b": machine("b")}
    for preview in (None, previewed(hosts)):
        one = run(hosts, deploy_previewed=preview)
        rollout.check_previewed(one, rollout.make_plan(one))
    # The toplevel of one machine is not the other's.
    for toplevels in ({"a": OLD, "b": NEW}, {"b": NEW}):
        one = run(hosts, deploy_previewed={**previewed(hosts), "toplevels": toplevels})
        with pytest.raises(OpsError, match=f"not what was previewed:\na: {NEW}"):
            rollout.check_previewed(one, rollout.make_plan(one))
    one = run(hosts, deploy_previewed=[NEW])
    with pytest.raises(OpsError, match="deploy_previewed is not what a preview"):
        rollout.check_previewed(one, rollout.make_plan(one))


def refusal(hosts: dict[str, dict[str, Any]], preview: dict[str, Any], **more: Any) -> str:
    """What a deploy after a preview is refused for; empty if it is not."""
    one = run(hosts, deploy_previewed=preview, **more)
    try:
        rollout.check_previewed(one, rollout.make_plan(one))
    except OpsError as error:
        return str(error).split("not what was previewed:\n")[1].split("\nState")[0]
    return ""


KEYS = {"nix_deployment_keys": {"a": {"path": "/run/keys/a", "permissions": "0600"}}}


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"deploy_force": True}, "its settings changed"),
        ({"deploy_rollback": "never"}, "its settings changed"),
        ({"nix_health_checks": {"units": []}}, "its health checks changed"),
        ({"ansible_host": "10.0.0.2"}, "its connection changed"),
        ({"nix_deployment_keys": {"a": {"path": "/etc/shadow", "permissions": "0600"}}}, "its keys changed"),
    ],
)
def test_what_is_not_in_a_toplevel_is_as_it_was_previewed(variables: dict[str, Any], told: str) -> None:
    before = {"a": machine("a", ansible_host="10.0.0.1", **KEYS), "b": machine("b")}
    preview = previewed(before)
    assert refusal(before, preview) == ""
    assert refusal({**before, "a": {**before["a"], **variables}}, preview) == f"a: {told}"


def test_a_deploy_may_do_less_than_was_previewed_and_not_more() -> None:
    new, done = machine("a"), machine("a", prepare_result={**STANDING, "running": NEW, "profile": NEW, "booted": NEW})
    preview = previewed({"a": new})
    assert refusal({"a": done}, preview) == ""
    nothing = {**preview, "steps": {"a": []}}
    assert refusal({"a": new}, nothing) == "a: copy, switch"


def test_a_machine_that_was_previewed_and_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    preview = previewed({"a": machine("a"), "b": machine("b")})
    assert refusal({"a": machine("a")}, preview) == "b: the machine is missing"
    # Another slice has it.
    monkeypatch.setenv("AWX_PRIVATE_DATA_DIR", "/runner")
    assert refusal({"a": machine("a")}, preview, **SLICE) == ""


def test_values_that_are_not_json_are_compared() -> None:
    hosts = {"a": machine("a")}
    value = {1: "a", "1": "b", date(2026, 1, 1): {"x", "y"}, None: [date(2026, 1, 2)]}
    preview = previewed(hosts, given=value)
    one = run(hosts, extra=("given",), deploy_previewed=preview, given=dict(reversed(value.items())))
    rollout.check_approval(one)
    with pytest.raises(OpsError, match="not as they were in the preview: given"):
        rollout.check_approval(replace(one, variables={**one.variables, "given": {**value, 1: "b"}}))


def test_a_preview_in_awx_takes_no_variable_of_the_deploy_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWX_PRIVATE_DATA_DIR", raising=False)
    one = run({"a": machine("a")}, extra=("build_number",), ansible_check_mode=True, build_number=7)
    rollout.check_approval(one)
    monkeypatch.setenv("AWX_PRIVATE_DATA_DIR", "/runner")
    with pytest.raises(OpsError, match="would change what is previewed: build_number"):
        rollout.check_approval(one)


def test_a_machine_that_the_preview_could_not_reach_is_left_out() -> None:
    gone = machine("b", prepare_result={"unreachable": True})
    one = run({"a": machine("a"), "b": gone}, lost=("b",), ansible_check_mode=True)
    assert rollout.goes_on_without(one) == ["b"]
    refused = {"a": machine("a"), "b": gone, "c": machine("c", prepare_result={"failed": True})}
    assert rollout.goes_on_without(run(refused, lost=("b", "c"), ansible_check_mode=True)) == []
    assert rollout.goes_on_without(run({"a": machine("a"), "b": gone}, lost=("b",))) == []
    back = {"a": machine("a"), "b": machine("b")}
    deploy = run(back, deploy_previewed=rollout.pass_on(one, rollout.make_plan(one)))
    needs = rollout.make_plan(deploy)
    assert list(needs) == ["a"]
    rollout.check_previewed(deploy, needs)
    assert rollout.outcomes(deploy)["b"] == "not deployed: the preview left it out"


def test_a_machine_whose_system_does_not_evaluate_is_left_out() -> None:
    built = {"results": [{"item": "/net", "machines": {"a": {"out_path": NEW}}, "unevaluated": {"b": "b: wrong"}}]}
    hosts = {name: machine(name, build_result=built) for name in ("a", "b")}
    preview = run(hosts, ansible_check_mode=True)
    assert rollout.unevaluated(preview) == {"b": "b: wrong"}
    assert list(rollout.make_plan(preview)) == ["a"]
    assert rollout.outcomes(run(hosts))["b"] == "not deployed: its system does not evaluate"
    with pytest.raises(OpsError, match=r"b failed \(deploy_any_errors_fatal\)"):
        rollout.make_plan(run(hosts, play={"deploy_any_errors_fatal": True}))
    # Nobody has seen what a deploy would do there.
    back = {name: machine(name) for name in ("a", "b")}
    deploy = run(back, deploy_previewed=rollout.pass_on(preview, rollout.make_plan(preview)))
    assert list(rollout.make_plan(deploy)) == ["a"]


ANSWERS: dict[str, Any] = {"deploy_machines": "nixos", "deploy_action": "switch"}


@pytest.mark.parametrize(
    "name", ["build_result", "rollout_plan", "activate_action", "nix_health_checks", "deploy_others", "copy_toplevel"]
)
def test_extra_variables_can_not_change_what_was_previewed(name: str) -> None:
    hosts = {"a": machine("a")}
    preview = previewed(hosts, **ANSWERS)

    def check(**extra: Any) -> list[str]:
        return rollout.check(run(hosts, extra=tuple(extra), **extra), Chosen("a"), lambda _pattern: ["a"])

    assert check(**ANSWERS, **{name: "x"}) == ["a"]
    assert check(**ANSWERS, deploy_previewed=preview, awx_job_id=2) == ["a"]
    # Whether the preview had it or not: it wins over what the tasks of the deploy find.
    both: dict[str, Any] = {**ANSWERS, name: "x"}
    for passed in (preview, previewed(hosts, **both)):
        with pytest.raises(OpsError, match=f"would change what is previewed: {name}"):
            check(**ANSWERS, deploy_previewed=passed, **{name: "x"})


@pytest.mark.parametrize(
    "name",
    [*sorted(settings.SETTINGS.keys() - {"deploy_needs_preview"}), "ansible_ssh_common_args", "ansible_host", "domain"],
)
def test_a_deploy_has_the_extra_variables_of_its_preview(name: str) -> None:
    hosts = {"a": machine("a")}
    extra: dict[str, Any] = {**ANSWERS, name: "other"}
    given: dict[str, Any] = {"deploy_previewed": previewed(hosts, **ANSWERS), **extra}
    one = run(hosts, extra=tuple(extra), **given)
    told = "not what a preview" if name == "deploy_previewed" else f"not as they were in the preview: {name}"
    with pytest.raises(OpsError, match=told):
        rollout.check(one, Chosen("a"), lambda _pattern: ["a"])


def test_a_preview_is_not_told_what_was_previewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWX_PRIVATE_DATA_DIR", "/runner")
    hosts = {"a": machine("a")}
    one = run(hosts, extra=("deploy_previewed",), deploy_previewed=previewed(hosts), ansible_check_mode=True)
    with pytest.raises(OpsError, match="deploy_previewed is for the deploy after a preview"):
        rollout.check(one, Chosen("a"), lambda _pattern: ["a"])
    given: dict[str, Any] = {name: {"rolls_out": True} for name in ("deploy_needs_preview", "rollout_plan")}
    for name, told in (
        ("deploy_needs_preview", "deploy_needs_preview is for the deploy after a preview"),
        ("rollout_plan", "these variables would change what is previewed: rollout_plan"),
    ):
        with pytest.raises(OpsError, match=told):
            rollout.check(run(hosts, extra=(name,), ansible_check_mode=True, **given), Chosen("a"), lambda _: ["a"])


def test_a_deploy_that_needs_a_preview_fails_without_one() -> None:
    hosts = {"a": machine("a", deploy_needs_preview=True)}

    def check(**more: Any) -> list[str]:
        return rollout.check(run(hosts, **more), Chosen("a"), lambda _pattern: ["a"])

    with pytest.raises(OpsError, match="deploy_previewed is missing"):
        check()
    preview = previewed({"a": machine("a")})
    assert check(extra=("deploy_previewed", "deploy_needs_preview"), deploy_previewed=preview) == ["a"]
    wrong = run({"a": machine("a", deploy_needs_preview="perhaps")})
    with pytest.raises(OpsError, match="deploy_needs_preview"):
        rollout.check(wrong, Chosen("a"), lambda _pattern: ["a"])


def variables_of(document: object) -> Iterator[str]:
    """The variables that a playbook, its tasks or a role set, and the options of a role."""
    if isinstance(document, list):
        for one in document:
            yield from variables_of(one)
    if isinstance(document, dict):
        for name, value in document.items():
            if name == "register":
                yield value
            if name in ("vars", "options") and isinstance(value, dict):
                yield from value
            yield from variables_of(value)


def test_every_variable_of_the_deploy_is_internal_or_a_setting() -> None:
    collection = Path(rollout.__file__).parents[3]
    files = [collection / "playbooks/deploy.yml", *(collection / "playbooks/tasks").glob("[!a]*.yml")]
    for role in ("prepare", "build", "copy", "activate"):
        files += (collection / "roles" / role).rglob("*.yml")
    found = {name for file in files for name in variables_of(yaml.safe_load(file.read_text(encoding="utf-8")))}
    for file in (collection / "roles").glob("[!di]*/defaults/main.yml"):
        found |= yaml.safe_load(file.read_text(encoding="utf-8")).keys()
    assert {"build_result", "activate_reboot", "rollout_plan", "prepare_timeout"} <= found
    assert not {name for name in found if not approval.is_internal(name)}


NO_ROOM = {
    "failed": True,
    "msg": "b: no room\n  Next: a line of the machine\nState: old\nNext: Free room on the machine.",
}
UNREACHED = {"unreachable": True, "msg": "d: the machine can't be reached: no route\nNext: Check its power."}


def test_each_machine_has_an_outcome() -> None:
    done = {"action": "switch", "toplevel": NEW, "generation": 2, "changed": True, "running": NEW}
    plan = {"a": {"toplevel": NEW, "copy": True, "action": "switch", "reboot": [], "reasons": [], "keys": ""}}
    plan |= {"b": plan["a"], "c": {**plan["a"], "copy": False, "action": None}}
    hosts = {
        "a": machine("a", rollout_plan={"made": 2.0, "machines": plan}, activate_result=done),
        "b": machine("b", copy_result=NO_ROOM, activate_result={"skipped": True}),
        # It was lost in this deploy, and has the plan of the one before.
        "c": machine(
            "c",
            rollout_plan={"made": 1.0, "machines": {}},
            prepare_result={**STANDING, "running": NEW, "profile": NEW, "reboot_parts": ["kernel"]},
        ),
        "d": machine("d", prepare_result=UNREACHED),
    }
    assert rollout.outcomes(run(hosts, lost=("d",))) == {
        "a": f"runs and boots {NEW}, generation 2",
        "b": "failed: no room. Next: Free room on the machine.",
        "c": "up to date; needs a reboot for: kernel",
        "d": "not deployed: the machine can't be reached: no route. Next: Check its power.",
    }
    ending = rollout.end_batch(run(hosts, play={"deploy_revert": "run", "deploy_max_fail_percentage": "20%"}))
    assert (ending.ends, ending.failed, ending.goes_back) == (True, ("b",), ("a",))


def test_failed_units_of_a_machine_that_needs_nothing_are_named() -> None:
    prepared = {**STANDING, "running": NEW, "profile": NEW, "boot_default": NEW, "failed_units": ["a.service"]}
    prepared |= {"state": {"activations": [{"toplevel": NEW, "rolled_back": False}]}, "recorded": True}
    hosts = {
        "a": machine("a", prepare_result=prepared),
        "b": machine("b", prepare_result={**prepared, "failed_units": []}),
        # The activation tells its units itself.
        "c": machine("c", prepare_result={**STANDING, "failed_units": ["a.service"]}),
    }
    one = run(hosts)
    needs = rollout.make_plan(one)
    assert [host for host, need in needs.items() if need] == ["c"]
    assert rollout.failed_units(one, needs) == {"a": ["a.service"]}


DEPLOYED = "20260102-120000-0000"


def deployed(name: str, *, deploy: str | None = DEPLOYED, generations: bool = True, **more: Any) -> dict[str, Any]:
    """The variables of a machine that was deployed once after its installation, and was asked again."""
    activation = {
        "toplevel": NEW,
        "action": "switch",
        "generation": 2,
        "exit_code": 0,
        "time": 1767355260,
        "rolled_back": False,
        "revision": None,
        "modified": False,
        "origin": None,
        "deploy": deploy,
    }
    state = {
        "schema": 1,
        "uuid": UUID,
        "deployment": "net",
        "machine": name,
        "inputs": {},
        "revision": 1,
        "activations": [activation],
        "acknowledged": None,
        "members": [],
    }
    numbered = [{"number": 1, "toplevel": OLD, "created": 0, "reboot_parts": ["kernel"]}] if generations else []
    numbered.append({"number": 2, "toplevel": NEW, "created": 1767355260, "reboot_parts": []})
    stands = {"running": NEW, "profile": NEW, "generation": 2, "boot_default": NEW}
    prepared = {**STANDING, **stands, "state": state, "recorded": True, "generations": numbered, "sent_keys": ["a"]}
    return machine(name, prepare_result=prepared, build_result={}, nix_deployment_uuid=UUID, **more)


UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"


def test_what_machines_go_back_to_takes_the_place_of_what_was_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/nowhere")
    hosts = {"a": deployed("a"), "b": deployed("b", deploy=None), "c": machine("c", prepare_result=UNREACHED)}
    one = run(hosts, lost=("c",))
    chosen = rollout.as_build(one, rollout.choose(one, "previous"))
    assert chosen["results"] == [{"item": "/net", "machines": {"a": {"out_path": OLD}}}]
    assert chosen["stays"] == {"b": f"was no part of the deploy {DEPLOYED}"}
    hosts = {host: {**own, "build_result": chosen} for host, own in hosts.items()}
    one = run(hosts, lost=("c",))
    assert one.rolls_back
    assert {host: need.summary() for host, need in rollout.make_plan(one).items()} == {"a": "switch"}
    # Its toplevel is not on this controller.
    rebooting = run({**hosts, "a": {**hosts["a"], "deploy_reboot": "when_needed"}}, lost=("c",))
    assert rollout.make_plan(rebooting)["a"].summary() == "switch, keys, reboot (kernel)"
    # Units of the earlier system may wait for a key that is not there.
    lacking = {**hosts["a"]["prepare_result"], "missing_keys": ["b"]}
    assert rollout.make_plan(run({"a": {**hosts["a"], "prepare_result": lacking}}))["a"].summary() == "switch, keys"
    plan = {"a": {"toplevel": OLD, "copy": False, "action": "switch", "reboot": [], "reasons": [], "keys": False}}
    done = {"action": "switch", "toplevel": OLD, "generation": 1, "changed": True, "running": OLD}
    hosts["a"] |= {
        "rollout_plan": {"made": 2.0, "machines": plan},
        "activate_result": done,
        "nix_enable_rollback": True,
    }
    one = run(hosts, lost=("c",))
    assert rollout.outcomes(one) == {
        "a": f"runs and boots {OLD}, generation 1",
        "b": f"stays as it is: was no part of the deploy {DEPLOYED}",
        "c": "not deployed: d: the machine can't be reached: no route. Next: Check its power.",
    }
    assert rollout.to_keep(one) == {}


def test_the_controller_keeps_what_was_deployed_if_the_network_says_so() -> None:
    plan = {
        name: {"toplevel": NEW, "copy": True, "action": "switch", "reboot": [], "reasons": [], "keys": False}
        | {"deploy": DEPLOYED}
        for name in ("a", "b", "c")
    }
    done = {"action": "switch", "toplevel": NEW, "changed": True, "running": NEW}
    own = {"nix_deployment_uuid": UUID, "nix_enable_rollback": True, "rollout_plan": {"made": 1.0, "machines": plan}}
    hosts = {
        "a": machine("a", **own, activate_result=done),
        "b": machine("b", **own, activate_result={**done, "failed": True}),
        "c": machine("c", **{**own, "nix_enable_rollback": False}, activate_result=done),
    }
    assert rollout.to_keep(run(hosts)) == {UUID: {"a": NEW}}
    assert rollout.id_of_plan(run(hosts)) == DEPLOYED


def test_a_rollback_needs_nothing_that_only_a_build_needs() -> None:
    hosts = {"a": deployed("a", nix_deployment_keys={"key": {"source": None}})}
    one = run(hosts, ansible_skip_tags=["build"])
    assert rollout.check(one, Chosen("nixos", rollback_to="previous"), lambda _pattern: ["a"]) == ["a"]
    with pytest.raises(OpsError, match="no content"):
        rollout.check(one, Chosen("nixos"), lambda _pattern: ["a"])
    for wrong in ("", "next"):
        with pytest.raises(OpsError, match=f"rollback_to is '{wrong}'"):
            rollout.check(one, Chosen("nixos", rollback_to=wrong), lambda _pattern: ["a"])
    with pytest.raises(OpsError, match=r"wbe: .*rollback_machines"):
        rollout.check(one, Chosen("wbe", rollback_to="previous"), lambda _pattern: ["a"])
