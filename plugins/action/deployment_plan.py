# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans a rollout and reports its outcome."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible import constants

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import DEPLOYMENT_PLAN
from ansible_collections.nix.ops.plugins.plugin_utils import display
from ansible_collections.nix.ops.plugins.plugin_utils.action import OpsAction
from ansible_collections.nix.ops.plugins.plugin_utils.activation import plan, settings
from ansible_collections.nix.ops.plugins.plugin_utils.activation.plan import Need
from ansible_collections.nix.ops.plugins.plugin_utils.awx import job
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import history, rollout, ssh_config, toplevels
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.rollout import Chosen, Run
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.table import Column, table
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

_COLUMNS = (Column("Machine"), Column("Runs"), Column("Deployed from"), Column("Deploy does"))

_COLUMNS_BACK = (Column("Machine"), Column("Runs"), Column("Goes back to"), Column("Rollback does"))

_UNCHECKED = (
    "Another host could answer in a machine's place, and get its system and the sudo password. The variable"
    " ansible_host_key_checking, or StrictHostKeyChecking of ssh, switches the check off."
)


class ActionModule(OpsAction):
    """The action behind ``nix.ops.deployment_plan``."""

    SPECIFICATION = DEPLOYMENT_PLAN
    _requires_connection = False

    def perform(self, options: dict[str, Any]) -> dict[str, Any]:
        """Run one stage for all hosts of the play."""
        manager = self._task.get_variable_manager()
        run = Run(
            self.host,
            self.variables,
            of_play=self._task.play.get_vars().keys(),
            extra=manager.extra_vars.keys() if manager else (),
            defaults={
                "deploy_any_errors_fatal": constants.ANY_ERRORS_FATAL,
                "deploy_strategy": constants.DEFAULT_STRATEGY,
            },
            tags=self._task.tags,
            template=self._template,
        )
        if options["stage"] == "check":
            return {"changed": False, **self._check(run, options)}
        if options["stage"] == "choose":
            return {"changed": False, **rollout.as_build(run, rollout.choose(run, _text(options["rollback_to"]) or ""))}
        if options["stage"] == "fail":
            raise OpsError(options["reason"], machine=self.host)
        stages = {
            "variables": self._check_role,
            "reached": self._reached,
            "decide": self._decide,
            "begin": self._begin,
            "batch": self._batch,
            "outcome": self._outcome,
        }
        return {"changed": False, **stages[options["stage"]](run)}

    def _template(self, value: Any, host: str) -> Any:
        """Evaluate a variable of the play for a host. Ansible does so only for the host of the task."""
        if not self._templar.is_template(value):
            return value
        variables = {**self.variables, **self.variables["hostvars"].raw_get(host), **self._task.play.get_vars()}
        return self._templar.copy_with_new_env(available_variables=variables).template(value)

    def _check(self, run: Run, options: Mapping[str, Any]) -> dict[str, Any]:
        lookup = self._shared_loader_obj.lookup_loader.get(
            "ansible.builtin.inventory_hostnames", loader=self._loader, templar=self._templar
        )

        def match(pattern: str) -> list[str]:
            return [str(host) for host in lookup.run([pattern], variables=self.variables)]

        chosen = Chosen(options["pattern"], options["include"], options["exclude"], _text(options["rollback_to"]))
        machines = rollout.check(run, chosen, match)
        found = rollout.checkouts(run, machines)
        return {
            "machines": machines,
            "elsewhere": rollout.elsewhere(run, machines),
            "since": time.monotonic(),
            "checkouts": {
                network: {"revision": one.revision, "modified": one.modified} for network, one in found.items()
            },
        }

    def _check_role(self, run: Run) -> dict[str, Any]:
        # Of parameters beside "role:", Ansible itself refuses those that the role does not have.
        of_play = {*run.of_play, *self._task.get_vars(), *(self._task._role.vars if self._task._role else ())}
        settings.check_role({*run.of(run.host), *of_play}, of_play)
        return {}

    def _reached(self, run: Run) -> dict[str, Any]:
        reasons = rollout.check_reached(run)
        others = "The other machines are deployed (deploy_unreachable=warn)."
        return {"lost": run.lost, "msg": [*reasons, others]}

    def _decide(self, run: Run) -> dict[str, Any]:
        # Again, since --skip-tags may leave out the first check.
        rollout.check_approval(run)
        needs = rollout.make_plan(run)
        if not self.check:
            rollout.check_previewed(run, needs)
        self._show(run, needs)
        if unseen := rollout.left_out(run):
            self.warn(f"Left out, since the preview left them out: {', '.join(unseen)}")
        unevaluated = list(rollout.unevaluated(run))
        if unevaluated:
            self.warn(f"Left out, since their systems do not evaluate: {', '.join(unevaluated)}")
        for host, units in rollout.failed_units(run, needs).items():
            self.warn(f"{host}: units failed: {', '.join(units)}")
        if unchecked := rollout.unchecked(run, needs):
            self.warn(f"Machines whose host key is not checked: {', '.join(unchecked)}. {_UNCHECKED}")
        others = {host: rollout.other_deployments(run, host) for host in needs}
        for host, uuids in others.items():
            for uuid in uuids:
                self.live(host)(f"this machine belongs to the deployment {uuid} too")
        hosts = [host for host, one in needs.items() if one]
        if hosts and not self.check and run.setting("deploy_confirm", run.host):
            self._confirm(hosts)
        now = time.time()
        deploy, rolls_back = history.new_id(now), run.rolls_back
        return {
            "made": now,
            "check": (self.variables.get("rollout_check") or {}).get("since"),
            "machines": {
                host: {
                    **asdict(one),
                    "does": one.summary(),
                    "other_deployments": others[host],
                    "deploy": rollout.aim(run, host).get("deploy") if rolls_back else deploy,
                    "generation": rollout.aim(run, host).get("generation"),
                    "leaves_keys": rolls_back and not one.keys,
                }
                for host, one in needs.items()
            },
            "rollout": hosts,
            "unchecked": unchecked,
            # Even a play that ends at once needs a host.
            "hosts": hosts or [*needs, *run.alive][:1],
            # A preview succeeds without them.
            "unevaluated": [] if self.check else unevaluated,
            "rolls_out": bool(hosts)
            and (self.wants_diff or not self.check)
            and run.setting("deploy_only", run.host) in ("all", "copy"),
            **({"previewed": rollout.pass_on(run, needs)} if self.check else {}),
            "goes_on_without": rollout.goes_on_without(run),
        }

    def _confirm(self, hosts: Sequence[str]) -> None:
        count = "1 machine" if len(hosts) == 1 else f"{len(hosts)} machines"
        answer = display.ask(f"Deploy {count}? (y/N)")
        if answer is None:
            raise OpsError(
                "there is no terminal to ask on (deploy_confirm)",
                state=rollout.BUILT_ONLY,
                next_step="Run it in a terminal, or leave out deploy_confirm. Only the plan: deploy_only=plan.",
            )
        if answer.lower() not in ("y", "yes"):
            raise OpsError("the rollout was not confirmed", state=rollout.BUILT_ONLY)

    def _show(self, run: Run, needs: Mapping[str, Need]) -> None:
        if self._task.no_log:
            return
        if run.rolls_back:
            self._show_back(run, needs)
            return
        if not needs:
            return
        rows = [
            [host, rollout.release(run, host), rollout.deployed_from(run, host), need.summary()]
            for host, need in needs.items()
        ]
        display.show(table(_COLUMNS, rows))
        for network, one in rollout.planned_checkouts(run, needs).items():
            changes = ", with changes that are not committed" if one.modified else ""
            display.show(f"{network}: revision {one.short}{changes}")

    def _show_back(self, run: Run, needs: Mapping[str, Need]) -> None:
        rows = [
            [host, rollout.release(run, host), rollout.aim(run, host)["said"], need.summary()]
            for host, need in needs.items()
        ]
        rows += [[host, rollout.release(run, host), "", f"nothing: {why}"] for host, why in rollout.stays(run).items()]
        display.show(table(_COLUMNS_BACK, rows))

    def _begin(self, run: Run) -> dict[str, Any]:
        batch = [str(host) for host in run.variables["ansible_play_batch"]]
        number, count = plan.batch_number(batch, run.hosts, self._task.play.serial)
        if count > 1 and not self._task.no_log:
            display.show(f"batch {number} of {count}: {', '.join(batch)}")
        return {}

    def _batch(self, run: Run) -> dict[str, Any]:
        ending = rollout.end_batch(run)
        # Ansible would take a key "failed" for a failure of this task.
        told = {
            "failed_hosts": list(ending.failed),
            "goes_back": list(ending.goes_back),
            "stays_deployed": list(ending.stays_deployed),
            "untouched": list(ending.untouched),
        }
        if ending.ends and not self._task.no_log:
            for name, hosts in told.items():
                if hosts:
                    display.show(f"{name.replace('_', ' ')}: {', '.join(hosts)}")
        return {"made": rollout.time_of_plan(run), "ends": ending.ends, **told}

    def _outcome(self, run: Run) -> dict[str, Any]:
        if self.check:
            return self._preview(run)
        told = rollout.outcomes(run)
        for host, line in told.items():
            self.live(host)(line)
        ssh_config.refresh(self.variables["hostvars"], self.warn)
        self._keep(run)
        return {"machines": told}

    def _keep(self, run: Run) -> None:
        """Keep the systems of this deploy on the controller, if the network says so."""
        # The files of a job of AWX are gone at its end.
        if job.job_directory() is not None:
            return
        for uuid, machines in rollout.to_keep(run).items():
            try:
                toplevels.keep(uuid, rollout.id_of_plan(run), machines, self.environment)
            except OpsError as error:
                self.warn(f"the controller does not keep the systems of this deploy (network.enableRollback): {error}")

    def _preview(self, run: Run) -> dict[str, Any]:
        needs = rollout.planned(run)
        # The differences of the machines are shown after the plan, and the plan has to be the last that is shown.
        if self.wants_diff and any(needs.values()):
            self._show(run, needs)
        if lost := [host for host in run.hosts if host not in needs]:
            self.warn(f"A deploy of what this preview shows leaves out: {', '.join(lost)}")
        return {"machines": {host: one.summary() for host, one in needs.items()}, "lost": lost}


def _text(value: Any) -> str | None:
    """Return a value that YAML may have read as a number or a date as the user wrote it."""
    return None if value is None else str(value).strip()
