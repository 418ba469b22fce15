# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks, plans and ends the run of a deploy on all its hosts."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from shlex import quote
from typing import Any

from ansible_collections.nix.ops.plugins.plugin_utils.activation import difference, plan, settings, specialisation
from ansible_collections.nix.ops.plugins.plugin_utils.activation.plan import Ending, Found, Need, Wish
from ansible_collections.nix.ops.plugins.plugin_utils.awx import job
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import (
    approval,
    checkout,
    generations,
    history,
    patterns,
    toplevels,
)
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.checkout import Checkout
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.history import Choice, Target
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, first_line
from ansible_collections.nix.ops.plugins.plugin_utils.keys import contents
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description

# The names under which the playbook and its roles register results.
_PREPARED, _BUILT, _COPIED, _ACTIVATED = "prepare_result", "build_result", "copy_result", "activate_result"
_PLANNED, _ENDED = "rollout_plan", "rollout_end"

# The tags of the tasks of each step of the rollout.
_TAGS = {"copy": {"copy", "activate"}, "activate": {"activate"}}

# The settings that decide what a machine needs.
_OF_NEED = ("deploy_action", "deploy_reboot", "deploy_force", "deploy_specialisation")

# The variables of a host that decide what a deploy does there.
_BOUND = {
    "keys": ("nix_deployment_keys",),
    "health checks": ("nix_health_checks", "nix_always_activate"),
    "connection": ("ansible_host", "ansible_port", "nix_ssh_host_keys"),
}

_UNTOUCHED = "nothing was touched"
BUILT_ONLY = "the controller has built the systems, and no machine was touched"


@dataclass(frozen=True)
class Run:
    """A run of Ansible, as a task of it sees it.

    :param host: the host of the task.
    :param variables: the variables of the task.
    :param of_play: the names of the variables that the play sets.
    :param extra: the names of the extra variables.
    :param defaults: values of settings that neither the play nor the inventory sets.
    :param tags: the tags of the task, with those that it inherits.
    :param template: evaluates a variable of the play for a host.
    """

    host: str
    variables: Mapping[str, Any]
    of_play: Collection[str] = ()
    extra: Collection[str] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    tags: Collection[str] = ()
    template: Callable[[Any, str], Any] = lambda value, _host: value

    @property
    def hosts(self) -> list[str]:
        """All hosts of the play, including those that failed before."""
        return [str(host) for host in self.variables["ansible_play_hosts_all"]]

    @property
    def alive(self) -> list[str]:
        """The hosts that have not failed."""
        return [str(host) for host in self.variables["ansible_play_hosts"]]

    @property
    def lost(self) -> list[str]:
        """The hosts that failed before."""
        alive = set(self.alive)
        return [host for host in self.hosts if host not in alive]

    @cached_property
    def _hosts(self) -> dict[str, Mapping[str, Any]]:
        """The variables of the hosts so far. Ansible collects all variables of a host anew at each access."""
        return {}

    @cached_property
    def _untemplated(self) -> dict[str, Mapping[str, Any]]:
        """The same, as they were written."""
        return {}

    def of(self, host: str) -> Mapping[str, Any]:
        """Return the variables of a host, without those of the play."""
        if host not in self._hosts:
            self._hosts[host] = self.variables["hostvars"][host]
        return self._hosts[host]

    def untemplated(self, host: str) -> Mapping[str, Any]:
        """Return the variables of a host, without those of the play, as they were written."""
        if host not in self._untemplated:
            hosts = self.variables["hostvars"]
            self._untemplated[host] = hosts.raw_get(host) if hasattr(hosts, "raw_get") else hosts[host]
        return self._untemplated[host]

    def does(self, step: str) -> bool:
        """Return whether a step of the rollout is in this run, by the tags that the user has chosen.

        :param step: ``copy`` or ``activate``.
        """
        chosen, skipped = set(self.variables["ansible_run_tags"]), set(self.variables["ansible_skip_tags"])
        # --skip-tags activate does not skip the copy.
        own = _TAGS[step] - (skipped - {step})
        # Tags of the playbook's import are on all of its tasks.
        inherited = set(self.tags) - set(_TAGS)
        return own.isdisjoint(skipped) and not {*chosen, "always"}.isdisjoint({"all", "tagged", *own, *inherited})

    def result(self, host: str, name: str) -> Mapping[str, Any]:
        """Return what a task registered for a host; empty if the task was not run."""
        # A result is never a template, and Ansible would search all of it for templates at each access.
        found = self.untemplated(host).get(name)
        return found if isinstance(found, Mapping) else {}

    def keys(self, host: str) -> Mapping[str, Mapping[str, Any]]:
        """Return the keys of a host as the inventory has them, without contents."""
        # There may be hundreds, and Ansible would search each of them for templates at each access.
        found = self.untemplated(host).get("nix_deployment_keys")
        return found if isinstance(found, Mapping) else self.of(host).get("nix_deployment_keys") or {}

    @cached_property
    def chosen(self) -> Mapping[str, Any]:
        """What the machines go back to; empty in a deploy of what the network says."""
        found = (self.result(host, _BUILT) for host in self.hosts)
        return next((one for one in found if "targets" in one), {})

    @property
    def rolls_back(self) -> bool:
        """Whether this run takes machines back to what they had."""
        return bool(self.chosen)

    @property
    def is_preview(self) -> bool:
        """Whether this is a run in check mode."""
        return bool(self.variables.get("ansible_check_mode"))

    @property
    def previewed(self) -> Any:
        """What an earlier job has passed on; None if there was none."""
        return self.variables.get(approval.VARIABLE)

    @property
    def extra_values(self) -> dict[str, Any]:
        """The extra variables. They have the same values for all hosts."""
        return {name: self.variables.get(name) for name in self.extra}

    @cached_property
    def _settings_of_play(self) -> dict[str, Any]:
        """The variables of the deploy that the play sets. They win over those of the inventory."""
        own = self.of(self.host)
        names = [name for name in self.variables if settings.concerns(name) and name not in self.extra]
        return {name: self.variables[name] for name in names if name in self.of_play or name not in own}

    @cached_property
    def _settings(self) -> dict[str, dict[str, Any]]:
        """The variables of the deploy of the hosts so far."""
        return {}

    def settings(self, host: str, only: Collection[str] | None = None) -> dict[str, Any]:
        """Return the variables of the deploy that count for a host.

        :param only: the names of those to return, so that no other template is evaluated. Defaults of roles are
            variables of the play too, and may read the variables of all hosts.
        """
        if host in self._settings:
            return self._settings[host]
        own = self.of(host)
        of_host = {name: own[name] for name in own if settings.concerns(name) and (only is None or name in only)}
        given = self._settings_of_play.items()
        of_play = {name: self.template(value, host) for name, value in given if only is None or name in only}
        found = {**self.defaults, **of_host, **of_play}
        if only is None:
            self._settings[host] = found
        return found

    def setting(self, name: str, host: str) -> Any:
        """Return the value of a setting for a host."""
        return settings.read(name, self.settings(host, only=[name]))


@dataclass(frozen=True)
class Chosen:
    """Which hosts the user wants to deploy.

    :param pattern: the pattern of hosts, or a list of patterns.
    :param include: the names of the only ones of them; None for all.
    :param exclude: the names of those that are left out.
    :param rollback_to: what the machines shall go back to; None for a deploy of what the network says.
    """

    pattern: Any
    include: Any = None
    exclude: Any = None
    rollback_to: str | None = None


def check(run: Run, chosen: Chosen, match: Callable[[str], Sequence[str]]) -> list[str]:
    """Refuse a deploy with invalid variables or hosts, before anything is touched.

    :param match: returns the hosts that a pattern matches.
    :returns: the hosts to deploy.
    :raises OpsError: naming what is not valid.
    """
    check_approval(run)
    if chosen.rollback_to is not None:
        history.check(chosen.rollback_to)
    pattern_of = "deploy_machines" if chosen.rollback_to is None else "rollback_machines"
    is_slice = job.may_be_slice(run.variables) and not run.is_preview
    if not is_slice and not any("nix_network" in run.of(host) for host in run.variables["groups"]["all"]):
        raise _no_network()
    matching = match(",".join(patterns.check(pattern_of, chosen.pattern, run.variables)))
    matching = patterns.choose(matching, chosen.include, chosen.exclude)
    hosts = set(run.hosts)
    machines = [host for host in matching if host in hosts]
    _check_machines(machines, run, pattern_of, may_be_none=is_slice)
    found = {host: run.settings(host) for host in machines}
    settings.check(found)
    if any(settings.read("deploy_revert", one) != "never" for one in found.values()):
        settings.check_revert(next(str(one["deploy_strategy"]) for one in found.values()))
    if job.job_directory() is not None and any(settings.read("deploy_confirm", one) for one in found.values()):
        raise OpsError(
            "nobody can answer deploy_confirm in a job of AWX",
            state=_UNTOUCHED,
            next_step="Launch the workflow, which asks for an approval between the preview and the deploy.",
        )
    if chosen.rollback_to is None:
        _check_build(run, machines)
    return machines


def _check_machines(machines: Sequence[str], run: Run, pattern_of: str, *, may_be_none: bool) -> None:
    strangers = [host for host in machines if "nix_network" not in run.of(host)]
    if strangers and strangers == machines:
        raise _no_network()
    if strangers:
        raise OpsError(
            f"not machines of a network: {', '.join(strangers)}",
            state=_UNTOUCHED,
            next_step=f"Leave them out with --limit or {pattern_of}, for example {_without(strangers)}.",
        )
    if not machines and not may_be_none:
        raise OpsError(
            "no machine is left to deploy: the pattern, or the limit, leaves out all of them",
            state=_UNTOUCHED,
            next_step=f"Correct {pattern_of} or --limit. This lists the machines: ansible nixos --list-hosts",
        )


def _check_build(run: Run, machines: Sequence[str]) -> None:
    if "keys" not in run.variables["ansible_skip_tags"]:
        for host in machines:
            _check_keys(run, host)
    if "build" in run.variables["ansible_skip_tags"]:
        raise OpsError(
            "what was not built can't be deployed", state=_UNTOUCHED, next_step="Leave build out of --skip-tags."
        )


def elsewhere(run: Run, hosts: Iterable[str]) -> dict[str, str]:
    """Return the hosts whose systems are not built on the controller, each with the host that builds; empty for itself.

    :raises OpsError: if the inventory lacks a build host.
    """
    found = {}
    for host in hosts:
        own = {"deploy_build_on_target": run.of(host).get("nix_build_on_target", False), **run.settings(host)}
        builder = settings.read("deploy_build_host", own)
        if builder or settings.read("deploy_build_on_target", own):
            found[host] = builder
    if missing := sorted({*filter(None, found.values())} - {*run.variables["groups"]["all"], "localhost"}):
        raise OpsError(
            f"{', '.join(missing)}: not a host of the inventory (deploy_build_host)",
            state=_UNTOUCHED,
            next_step="Name a host that this lists, or add it to an inventory: ansible-inventory --graph",
        )
    return found


def check_approval(run: Run) -> None:
    """Refuse a deploy that would not do what an earlier job has previewed, and a preview that is told the result.

    :raises OpsError: naming the variables that are the reason.
    """
    if run.is_preview:
        # Extra variables can change what AWX tells a job of itself, but not its environment.
        approval.check_preview(run.extra_values, is_job=job.job_directory() is not None)
    elif run.previewed is not None:
        approval.check(run.previewed, run.extra_values)
    else:
        settings.check({run.host: run.settings(run.host, only=[approval.NEEDED])})
        if run.setting(approval.NEEDED, run.host):
            raise approval.missing()


def _check_keys(run: Run, host: str) -> None:
    """Refuse keys that nobody gives a content, and contents without a key."""
    # Only the names count here, and a lookup of a secret may take a while.
    given = run.untemplated(host).get("nix_keys", {})
    keys = run.keys(host)
    if isinstance(given, Mapping) and (keys or given):
        contents.check_names(host, {name: key.get("source") for name, key in keys.items()}, list(given))


def checkouts(run: Run, hosts: Iterable[str]) -> dict[str, Checkout]:
    """Return the Git work trees of the networks of these hosts, by network; without those that are in none."""
    networks = dict.fromkeys(str(run.of(host)["nix_network"]) for host in hosts)
    found = {network: checkout.find(os.path.dirname(network)) for network in networks}
    return {network: one for network, one in found.items() if one}


def planned_checkouts(run: Run, hosts: Iterable[str]) -> dict[str, Checkout]:
    """Return the same, as the preparation of the hosts found it."""
    found = {str(run.of(host)["nix_network"]): run.result(host, _PREPARED).get("checkout") for host in hosts}
    return {network: Checkout(os.path.dirname(network), **one) for network, one in found.items() if one}


def check_reached(run: Run) -> list[str]:
    """Return a line for each lost host, with the reason.

    :raises OpsError: if a host was lost and ``deploy_unreachable`` is ``fail``.
    """
    reasons = [f"{host}: {_reason(run, host)}" for host in run.lost]
    if reasons and any(run.setting("deploy_unreachable", host) == "fail" for host in run.hosts):
        raise OpsError(
            "\n".join(reasons),
            state="nothing was built, and no machine was touched",
            next_step=f"Correct that, or leave them out: {_without(run.lost)}, or deploy_unreachable=warn.",
        )
    return reasons


def choose(run: Run, to: str) -> Choice:
    """Choose what each host goes back to, without an evaluation or a build.

    :param to: as :func:`history.choose` takes it.
    :raises OpsError: if it is not valid, or a machine has nothing of it any more.
    """
    pasts = {}
    for host in run.alive:
        own = run.of(host)
        kept = toplevels.kept(str(own["nix_deployment_uuid"]), str(own["nix_machine"]))
        past = generations.past_of(run.result(host, _PREPARED), kept)
        if past is not None:
            pasts[host] = past
    return history.choose(to, pasts)


def as_build(run: Run, choice: Choice) -> dict[str, Any]:
    """Return a choice in the form of what the role ``build`` registers, with what is known of each target."""
    networks: dict[str, dict[str, dict[str, str]]] = {}
    for host, target in choice.targets.items():
        own = run.of(host)
        networks.setdefault(str(own["nix_network"]), {})[str(own["nix_machine"])] = {"out_path": target.toplevel}
    return {
        "results": [{"item": network, "machines": machines} for network, machines in networks.items()],
        "targets": {host: _target_as_json(target) for host, target in choice.targets.items()},
        "stays": dict(choice.stays),
    }


def _target_as_json(target: Target) -> dict[str, Any]:
    made = target.generation
    parts = None if made is None or made.reboot_parts is None else list(made.reboot_parts)
    return {
        "generation": made.number if made else None,
        "deploy": target.deploy,
        "reboot_parts": parts,
        "said": str(target),
    }


def aim(run: Run, host: str) -> Mapping[str, Any]:
    """Return what is known of what a host goes back to; empty in a deploy of what the network says."""
    found: Mapping[str, Any] = run.chosen.get("targets", {}).get(host, {})
    return found


def stays(run: Run) -> dict[str, str]:
    """Return the hosts that a rollback leaves as they are, each with the reason."""
    return dict(run.chosen.get("stays", {}))


def to_keep(run: Run) -> dict[str, dict[str, str]]:
    """Return the toplevels that this deploy has activated and that the controller keeps, by deployment and machine.

    A network says so by ``network.enableRollback``.
    """
    found: dict[str, dict[str, str]] = {}
    for host, need in ({} if run.rolls_back else planned(run)).items():
        own = run.of(host)
        if (
            own.get("nix_enable_rollback")
            and run.result(host, _ACTIVATED).get("changed")
            and not _has_failed(run, host)
        ):
            found.setdefault(str(own["nix_deployment_uuid"]), {})[str(own["nix_machine"])] = need.toplevel
    return found


def id_of_plan(run: Run) -> str:
    """Return the id of the deploy that was planned; empty if nothing was."""
    machines = _newest_plan(run).get("machines", {})
    return next((str(one["deploy"]) for one in machines.values()), "")


def make_plan(run: Run) -> dict[str, Need]:
    """Decide what the deploy does on each host whose system was built.

    :raises OpsError: if a host was lost or left out and ``deploy_any_errors_fatal`` is true.
    """
    failed = [*run.lost, *unevaluated(run)]
    if failed and any(run.setting("deploy_any_errors_fatal", host) for host in run.hosts):
        raise OpsError(
            f"{', '.join(failed)} failed (deploy_any_errors_fatal)",
            state=BUILT_ONLY,
            next_step="Correct that, or leave them out with --limit.",
        )
    leaves_out = set(left_out(run))
    built = {host: one for host in run.alive if host not in leaves_out and (one := _toplevel(run, host))}
    only = run.setting("deploy_only", run.host)
    steps = {"copies": run.does("copy"), "activates": run.does("activate") and only in ("all", "plan")}
    return {host: plan.leave_out(_need(run, host, toplevel), **steps) for host, toplevel in built.items()}


def unevaluated(run: Run) -> dict[str, str]:
    """Return the hosts whose system does not evaluate, with the reasons."""
    found = {host: _built(run, host, "unevaluated") for host in run.alive}
    return {host: str(why) for host, why in found.items() if why}


def left_out(run: Run) -> list[str]:
    """Return the hosts that an earlier job could not preview, so that this one leaves them out."""
    hosts = set(run.alive)
    return [host for host in approval.left_out(run.previewed) if host in hosts]


def check_previewed(run: Run, needs: Mapping[str, Need]) -> None:
    """Refuse to do what an earlier job has not previewed, if there was one.

    :raises OpsError: naming it.
    """
    if run.previewed is None:
        return
    # A slice does not have the hosts of the others.
    hosts = set(run.hosts)
    missing = [] if job.may_be_slice(run.variables) else approval.previewed_hosts(run.previewed)
    missing = [host for host in missing if host not in hosts]
    approval.check_hosts(run.previewed, _deployed(run, needs), missing, BUILT_ONLY)


def pass_on(run: Run, needs: Mapping[str, Need]) -> dict[str, Any]:
    """Return what a preview passes on to the deploy that follows it."""
    return approval.pass_on(_deployed(run, needs), [*run.lost, *unevaluated(run)], run.extra_values)


def _deployed(run: Run, needs: Mapping[str, Need]) -> dict[str, approval.Deployed]:
    return {
        host: approval.Deployed(one.toplevel, one.steps, one.summary(), _bound(run, host))
        for host, one in needs.items()
    }


def _bound(run: Run, host: str) -> dict[str, dict[str, Any]]:
    """Return what decides what a deploy does on a host, beside its toplevel."""
    own = run.of(host)
    binding = settings.SETTINGS.keys() - {approval.VARIABLE, approval.NEEDED}
    given = run.settings(host, only=binding)
    return {
        "settings": {name: value for name, value in given.items() if name in binding},
        **{word: {name: own[name] for name in names if name in own} for word, names in _BOUND.items()},
    }


def goes_on_without(run: Run) -> list[str]:
    """Return the hosts without which a preview succeeds: all that were lost, if none of them failed."""
    unreachable = all(run.result(host, _PREPARED).get("unreachable") for host in run.lost)
    return run.lost if run.is_preview and unreachable else []


def end_batch(run: Run) -> Ending:
    """Decide whether the rollout ends with the batch that was just done."""
    batch = [str(host) for host in run.variables["ansible_play_batch"]]

    def is_activated(host: str) -> bool:
        done = run.result(host, _ACTIVATED)
        return "running" in done and bool(done.get("changed")) and not _has_failed(run, host)

    return plan.ending(
        batch,
        run.hosts,
        {host for host in batch if _has_failed(run, host)},
        is_activated,
        allowed=float(str(run.setting("deploy_max_fail_percentage", run.host)).rstrip("%")),
        fatal=run.setting("deploy_any_errors_fatal", run.host),
        revert=run.setting("deploy_revert", run.host),
    )


def outcomes(run: Run) -> dict[str, str]:
    """Return the outcome of each host as one line."""
    needs, made = planned(run), float(_newest_plan(run).get("made", 0))
    endings = [run.result(host, _ENDED) for host in run.hosts]
    ended = next((one for one in endings if one.get("ends") and one.get("made") == made), {})
    told, unseen, wrong, left_alone = {}, set(left_out(run)), unevaluated(run), stays(run)
    for host in run.hosts:
        if host in left_alone:
            told[host] = f"stays as it is: {left_alone[host]}"
            continue
        if host not in needs:
            why = "the preview left it out" if host in unseen else _why(host, run.result(host, _PREPARED))
            told[host] = f"not deployed: {'its system does not evaluate' if host in wrong else why}"
            continue
        copied = run.result(host, _COPIED)
        result = copied if copied.get("failed") or copied.get("unreachable") else run.result(host, _ACTIVATED)
        told[host] = plan.outcome(
            needs[host],
            result,
            standing=description.standing_of(run.result(host, _PREPARED)),
            reverted=host in ended.get("goes_back", ()),
        )
        if told[host] == "failed":
            told[host] = f"failed: {_why(host, result)}"
    return told


def failed_units(run: Run, needs: Mapping[str, Need]) -> dict[str, list[str]]:
    """Return the failed units of each host that has some and needs nothing, so that no activation tells them."""
    found = {host: run.result(host, _PREPARED).get("failed_units") for host, need in needs.items() if not need}
    return {host: [str(unit) for unit in units] for host, units in found.items() if units}


def unchecked(run: Run, hosts: Iterable[str]) -> list[str]:
    """Return the hosts whose host key is not checked, so that another host could answer in their place."""
    return [host for host in hosts if run.result(host, _PREPARED).get("host_key_checked") is False]


def release(run: Run, host: str) -> str:
    """Return which NixOS a host ran when it was asked; empty if that is not known."""
    return str(run.result(host, _PREPARED).get("nixos_version") or "")


def deployed_from(run: Run, host: str) -> str:
    """Return from which revision and by whom a machine was deployed last; empty if that is not known."""
    activations = (run.result(host, _PREPARED).get("state") or {}).get("activations") or ()
    stays: Mapping[str, Any] = next((one for one in activations if not one["rolled_back"]), {})
    return checkout.describe(stays.get("revision"), bool(stays.get("modified")), stays.get("origin"))


def other_deployments(run: Run, host: str) -> list[str]:
    """Return the UUIDs of the deployments that have a record on a machine, without that of this run."""
    own = run.of(host).get("nix_deployment_uuid")
    return [str(uuid) for uuid in run.result(host, _PREPARED).get("owners", ()) if uuid != own]


def _reason(run: Run, host: str) -> str:
    """Return why a host was lost. Most messages name the host themselves."""
    return first_line(run.result(host, _PREPARED).get("msg", "failed")).removeprefix(f"{host}: ")


def _why(host: str, result: Mapping[str, Any]) -> str:
    """Return in one line why a task failed for a host, and what helps."""
    what, *lines = str(result.get("msg", "failed")).split("\n")
    # Lines of a machine are indented.
    helps = [line for line in lines if line.startswith("Next: ")][-1:]
    return ". ".join([what.removeprefix(f"{host}: ").rstrip("."), *helps])


def _toplevel(run: Run, host: str) -> str | None:
    machine = _built(run, host, "machines")
    return str(machine["out_path"]) if machine else None


def _built(run: Run, host: str, key: str) -> Any:
    """Return what the build says of a host's machine under a key of its result; None if it says nothing."""
    own = run.of(host)
    results = run.result(host, _BUILT).get("results", ())
    of_network = [one.get(key, {}) for one in results if one.get("item") == own.get("nix_network")]
    return next((found[own["nix_machine"]] for found in of_network if found.get(own["nix_machine"])), None)


def _need(run: Run, host: str, toplevel: str) -> Need:
    own, found = run.of(host), run.result(host, _PREPARED)
    standing = description.standing_of(found)
    chosen = run.settings(host, only=_OF_NEED)
    action, reboot = (settings.read(name, chosen) for name in ("deploy_action", "deploy_reboot"))
    force = settings.read("deploy_force", {"deploy_force": own.get("nix_always_activate", False), **chosen})
    special = settings.read("deploy_specialisation", chosen)
    runs = specialisation.find_here(toplevel, special, host) if special else None
    wish = Wish(toplevel, action, reboot, force, special, runs)
    if standing is None:
        # The machine was not asked: the rollout asks.
        return Need(toplevel, True, wish.action)
    activations = (found.get("state") or {}).get("activations") or ()
    known = [one["toplevel"] for one in activations if not one["rolled_back"]]
    # What a machine goes back to may never have been on this controller.
    parts = aim(run, host).get("reboot_parts")
    if parts is None:
        parts = difference.reboot_parts(found.get("booted_parts") or {}, toplevel)
        if not os.path.exists(toplevel) and standing.running != toplevel:
            # It was built elsewhere, and only the machine can tell.
            parts = ("if it needs one",)
    machine = Found(
        standing,
        bool(found.get("activating")),
        tuple(parts),
        known,
        bool(found.get("recorded")),
        _keys(run, host),
        [one["toplevel"] for one in found.get("generations") or ()],
    )
    return plan.need(wish, machine)


def _keys(run: Run, host: str) -> str:
    """Return ``keys`` if keys of a host are to be sent or removed, ``keys?`` if that is not known; else nothing."""
    if "keys" in run.variables["ansible_skip_tags"]:
        return ""
    found = run.result(host, _PREPARED)
    compared, missing = found.get("compared_keys"), set(found.get("missing_keys") or ())
    # The keys on the machine stay. A reboot takes them away, and without them units of the earlier system do not start.
    if run.rolls_back and not missing and run.setting("deploy_reboot", host) == "never":
        return ""
    if not run.keys(host):
        return "keys" if found.get("sent_keys") or missing else ""
    if not isinstance(compared, Mapping):
        return "keys?"
    # Of keys that left the network and are not there, the machine still has the names.
    if compared["differing"] or compared["gone"] or missing - set(compared["differing"]):
        return "keys"
    return "keys?" if compared["unknown"] else ""


def time_of_plan(run: Run) -> float:
    """Return when the plan was made that has the host of the task, in seconds since 1970; 0 before a plan was made."""
    return float(run.result(run.host, _PLANNED).get("made", 0))


def _newest_plan(run: Run) -> Mapping[str, Any]:
    # A playbook may deploy several times: hosts that were lost since have an older plan.
    return max((run.result(host, _PLANNED) for host in run.hosts), key=lambda one: float(one.get("made", 0)))


def planned(run: Run) -> dict[str, Need]:
    """Return the plan that was made, by host."""
    return {
        name: Need(
            one["toplevel"], one["copy"], one["action"], tuple(one["reboot"]), tuple(one["reasons"]), one["keys"]
        )
        for name, one in _newest_plan(run).get("machines", {}).items()
    }


def _has_failed(run: Run, host: str) -> bool:
    # A result can be unreachable and a success.
    results = [run.result(host, name) for name in (_COPIED, _ACTIVATED)]
    return any(one.get("failed") or one.get("unreachable") for one in results)


def _without(hosts: Sequence[str]) -> str:
    return f"--limit {quote(':!'.join(['nixos', *hosts]))}"


def _no_network() -> OpsError:
    return OpsError(
        "the inventory has no machine of a network",
        state=_UNTOUCHED,
        next_step="Name a network with -i, and read the warnings above.",
    )
