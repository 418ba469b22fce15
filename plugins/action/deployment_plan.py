# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans a rollout, and tells what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from shlex import quote
from typing import Any

from ansible import constants
from ansible.inventory.manager import split_host_pattern

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_PLAN
from ansible_collections.nix.ops.plugins.plugin_utils import display
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.activation import difference, plan, settings
from ansible_collections.nix.ops.plugins.plugin_utils.activation.plan import Found, Need, Wish
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.table import Column, table
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, first_line
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description

# The names under which the playbook and its roles register results.
_PREPARED, _BUILT, _COPIED, _ACTIVATED = "prepare_result", "build_result", "copy_result", "activate_result"
_PLANNED, _ENDED = "rollout_plan", "rollout_end"

_COLUMNS = (Column("Machine"), Column("Runs"), Column("Deploy does"))


class ActionModule(OpsAction):
    """The action behind ``nix.ops.deployment_plan``."""

    SPECIFICATION = DEPLOYMENT_PLAN
    _requires_connection = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Do one stage, for all hosts of the play at once."""
        stages = {
            "check": lambda: self._check(options["pattern"]),
            "reached": self._reached,
            "decide": self._decide,
            "batch": self._batch,
            "outcome": self._outcome,
        }
        return {"changed": False, **stages[options["stage"]]()}

    # What is known of the hosts

    @property
    def _all(self) -> list[str]:
        """All hosts of the play, those that failed before included."""
        return [str(host) for host in self.variables["ansible_play_hosts_all"]]

    @property
    def _alive(self) -> list[str]:
        return [str(host) for host in self.variables["ansible_play_hosts"]]

    def _of(self, host: str) -> Mapping[str, Any]:
        """The variables of a host, but for those of the play."""
        found: Mapping[str, Any] = self.variables["hostvars"][host]
        return found

    def _result(self, host: str, name: str) -> Mapping[str, Any]:
        """What a task registered for a host; empty if it was not run."""
        found = self._of(host).get(name)
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def _of_play(self) -> dict[str, Any]:
        """The deploy's variables that the play sets for all hosts. They win over those of the inventory."""
        own, given = self._of(self.host), self._task.play.get_vars()
        # Extra variables win over all, and are among those of each host.
        manager = self._task.get_variable_manager()
        extra = manager.extra_vars if manager else {}
        names = [name for name in self.variables if name.startswith(settings.PREFIX) and name not in extra]
        return {name: self.variables[name] for name in names if name in given or name not in own}

    def _settings(self, host: str) -> dict[str, Any]:
        """The deploy's variables that count for a host."""
        own = self._of(host)
        return {name: own[name] for name in own if name.startswith(settings.PREFIX)} | self._of_play

    # Before anything is touched

    def _check(self, given: Any) -> dict[str, Any]:
        parts = [str(one) for one in (given if isinstance(given, list) else [given])]
        pattern = ",".join(parts)
        groups: Mapping[str, list[str]] = self.variables["groups"]
        known = set(groups["all"])
        if not any("nix_network" in self._of(host) for host in known):
            raise self._no_network()
        if missing := settings.unmatched(split_host_pattern(parts), known, groups):
            raise self._no_machine(pattern, missing, groups)
        machines = [host for host in self._matching(parts) if host in self._all]
        strangers = [host for host in machines if "nix_network" not in self._of(host)]
        if strangers and strangers == machines:
            raise self._no_network()
        if strangers:
            left_out = ":!".join(["nixos", *strangers])
            raise OpsError(
                f"not machines of a network: {', '.join(strangers)}",
                state="nothing was touched",
                next_step=f"Leave them out with --limit or deploy_machines, for example --limit {quote(left_out)}.",
            )
        found = {host: self._settings(host) for host in machines}
        settings.check(found)
        if any(settings.read("deploy_revert", one) != "never" for one in found.values()):
            strategy = next((one["deploy_strategy"] for one in found.values() if "deploy_strategy" in one), None)
            settings.check_revert(str(strategy or constants.DEFAULT_STRATEGY))
        if "build" in self.variables["ansible_skip_tags"]:
            raise OpsError(
                "what was not built can't be deployed",
                state="nothing was touched",
                next_step="Leave build out of --skip-tags.",
            )
        return {"machines": machines}

    def _matching(self, pattern: Sequence[str]) -> list[str]:
        """The hosts that a pattern matches, by Ansible's own rule."""
        lookup = self._shared_loader_obj.lookup_loader.get(
            "ansible.builtin.inventory_hostnames", loader=self._loader, templar=self._templar
        )
        return [str(host) for host in lookup.run([",".join(pattern)], variables=self.variables)]

    def _no_network(self) -> OpsError:
        return OpsError(
            "the inventory has no machine of a network",
            state="nothing was touched",
            next_step="Name a network with -i, and read the warnings above.",
        )

    def _no_machine(self, pattern: str, missing: Sequence[str], groups: Iterable[str]) -> OpsError:
        there = ", ".join(sorted(set(groups) - {"all", "ungrouped"}))
        return OpsError(
            f"{', '.join(missing)}: not a machine and not a group of the inventory"
            + (f", in {pattern} (deploy_machines)" if pattern not in missing else " (deploy_machines)"),
            state="nothing was touched",
            next_step=f"Name machines or groups. Groups are: {there}.",
        )

    def _reached(self) -> dict[str, Any]:
        """Name the machines that were lost on the way so far."""
        silent = [host for host in self._all if host not in self._alive]
        reasons = [self._reason(host) for host in silent]
        if silent and any(settings.read("deploy_unreachable", self._settings(host)) == "fail" for host in self._all):
            left_out = ":!".join(["nixos", *silent])
            raise OpsError(
                "\n".join(reasons),
                state="nothing was built, and no machine was touched",
                next_step=f"Mend that, or leave them out: --limit {quote(left_out)}, or deploy_unreachable=warn.",
            )
        return {"unreachable": silent, "msg": [*reasons, "The other machines are deployed (deploy_unreachable=warn)."]}

    def _reason(self, host: str) -> str:
        message = first_line(self._result(host, _PREPARED).get("msg", "failed"))
        return message if message.startswith(f"{host}: ") else f"{host}: {message}"

    # After the build

    def _decide(self) -> dict[str, Any]:
        lost = [host for host in self._all if host not in self._alive]
        if lost and any(settings.read("deploy_any_errors_fatal", self._settings(host)) for host in self._all):
            raise OpsError(
                f"{', '.join(lost)} failed (deploy_any_errors_fatal)",
                state="the controller has built the systems, and no machine was touched",
                next_step="Mend that, or leave them out with --limit.",
            )
        built = self._toplevels()
        needs = {host: self._need(host, built[host]) for host in self._alive if host in built}
        self._check_previewed([one.toplevel for one in needs.values()])
        self._show(needs)
        rollout = [host for host, one in needs.items() if one]
        return {
            "machines": {host: {**asdict(one), "does": one.summary()} for host, one in needs.items()},
            "rollout": rollout,
            # A play needs a host, also to end at once.
            "hosts": rollout or list(needs)[:1],
            "rolls_out": bool(rollout) and (self.wants_diff or not self.check),
            "toplevels": sorted({one.toplevel for one in needs.values()}),
        }

    def _toplevels(self) -> dict[str, str]:
        """The toplevel of each host that was built."""
        found: dict[str, str] = {}
        for host in self._alive:
            own = self._of(host)
            for one in self._result(host, _BUILT).get("results", ()):
                machine = one.get("machines", {}).get(own["nix_machine"])
                if one.get("item") == own["nix_network"] and machine:
                    found[host] = str(machine["out_path"])
        return found

    def _need(self, host: str, toplevel: str) -> Need:
        given, found = self._settings(host), self._result(host, _PREPARED)
        standing = description.standing_of(found)
        force = self._of(host).get("nix_always_activate", False)
        wish = Wish(
            toplevel,
            settings.read("deploy_action", given),
            settings.read("deploy_reboot", given),
            bool(given.get("activate_force", force)),
        )
        if standing is None:
            # It was not asked: the rollout does.
            return Need(toplevel, True, wish.action)
        activations = (found.get("state") or {}).get("activations") or ()
        known = [one["toplevel"] for one in activations if not one["rolled_back"]]
        parts = difference.reboot_parts(found.get("booted_parts") or {}, toplevel)
        return plan.need(
            wish, Found(standing, bool(found.get("activating")), parts, known, bool(found.get("recorded")))
        )

    def _check_previewed(self, toplevels: Sequence[str]) -> None:
        previewed = self.variables.get("deploy_previewed")
        if previewed is None or self.check:
            return
        if others := sorted(set(toplevels) - set(previewed)):
            raise OpsError(
                f"this is not what was previewed: {', '.join(others)}",
                state="the controller has built it, and no machine was touched",
                next_step="Preview it again.",
            )

    def _show(self, needs: Mapping[str, Need]) -> None:
        if self._task.no_log or not needs:
            return
        rows = [
            [host, str(self._result(host, _PREPARED).get("nixos_version") or ""), need.summary()]
            for host, need in needs.items()
        ]
        display.show(table(_COLUMNS, rows))

    # The rollout

    def _planned(self) -> dict[str, Need]:
        """The plan that was made, by host."""
        for host in self._all:
            if machines := self._result(host, _PLANNED).get("machines"):
                return {
                    name: Need(one["toplevel"], one["copy"], one["action"], tuple(one["reboot"]), tuple(one["reasons"]))
                    for name, one in machines.items()
                }
        return {}

    def _bad(self, host: str) -> bool:
        """Whether a host failed or was lost in the rollout."""
        results = [self._result(host, name) for name in (_COPIED, _ACTIVATED)]
        # A result can be unreachable and a success.
        return any(one.get("failed") or one.get("unreachable") for one in results)

    def _batch(self) -> dict[str, Any]:
        batch = [str(host) for host in self.variables["ansible_play_batch"]]
        given = self._settings(self.host)
        done = {host: self._result(host, _ACTIVATED) for host in self._all}
        ending = plan.ending(
            batch,
            self._all,
            {host for host in batch if self._bad(host)},
            {host for host, one in done.items() if "running" in one and one.get("changed") and not self._bad(host)},
            allowed=float(str(settings.read("deploy_max_fail_percentage", given)).rstrip("%")),
            fatal=settings.read("deploy_any_errors_fatal", given),
            revert=settings.read("deploy_revert", given),
        )
        found: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(ending).items()
        }
        if ending.ends:
            for name in ("failed", "goes_back", "stays_deployed", "untouched"):
                if found[name]:
                    display.show(f"{name.replace('_', ' ')}: {', '.join(found[name])}")
        return found

    def _outcome(self) -> dict[str, Any]:
        """Tell in a line what became of each machine."""
        planned = self._planned()
        ended = next((end for host in self._all if (end := self._result(host, _ENDED)).get("ends")), {})
        told = {}
        for host in self._all:
            if host not in planned:
                told[host] = f"not deployed: {self._reason(host).removeprefix(f'{host}: ')}"
                continue
            result = (
                self._result(host, _COPIED)
                if self._result(host, _COPIED).get("failed")
                else self._result(host, _ACTIVATED)
            )
            told[host] = plan.outcome(planned[host], result, reverted=host in ended.get("goes_back", ()))
        for host, line in told.items():
            self.live(host)(line)
        return {"machines": told}
