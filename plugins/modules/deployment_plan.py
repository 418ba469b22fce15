#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.deployment_plan; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_plan
short_description: Plan a rollout and report its outcome
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Decides for all machines of a play at once what a deploy does on each of them.
  - The playbook C(nix.ops.deploy) uses it between its plays. A playbook of your own can do the same with the roles
    P(nix.ops.prepare#role), P(nix.ops.build#role), P(nix.ops.copy#role) and P(nix.ops.activate#role), whose registered
    results it reads.
  - Works only on the controller, and connects to no machine. Use it with C(run_once), except for V(variables) and
    V(fail).
extends_documentation_fragment: [nix.ops.attributes]
attributes:
  platform:
    platforms: posix
options:
  stage:
    description:
      - V(check), before anything is touched, refuses a pattern or a limit with a name that matches nothing, variables
        C(deploy_*) with an invalid value, names that look like such a variable, and variables of the roles for which a
        deploy has its own. After a preview (C(deploy_previewed)) it refuses extra variables that the preview did not
        have. Without one it fails if C(deploy_needs_preview) is true. A preview refuses extra variables that belong to
        the deploy's own tasks, roles and inventory.
      - V(variables), in the role P(nix.ops.deploy#role), refuses such names for the task's own host.
      - V(reached), after the role P(nix.ops.prepare#role), names the machines that can't be reached, and fails if
        C(deploy_unreachable) is V(fail).
      - V(choose), after M(nix.ops.deployment_prepare) with its option O(nix.ops.deployment_prepare#module:generations),
        chooses what each machine goes back to (O(rollback_to)), without an evaluation or a build. Register its result
        as C(build_result). It fails if a machine has nothing of it any more, and names what there is.
      - V(decide), after the role P(nix.ops.build#role) or V(choose), makes the plan and shows it as a table. It fails
        if a machine failed before and C(deploy_any_errors_fatal) is true, or if the plan has a toplevel that is missing
        from C(deploy_previewed). Machines that the preview left out are left out here, too. If C(deploy_confirm) is
        true and there is something to do, it asks on the terminal whether to go on.
      - V(begin), in a rollout with C(serial), says which batch begins.
      - V(batch), in the rollout, decides whether too many machines of the batch failed, and which machines go back then
        (C(deploy_revert)).
      - V(outcome) prints a line for each machine with its outcome, and for a machine that failed the reason and what
        helps. In check mode it names the machines that a deploy would leave out, and shows the plan again if the
        differences of the machines were shown after it.
      - V(fail) fails for a host with a reason.
    type: str
    choices: [check, variables, reached, choose, decide, begin, batch, outcome, fail]
    required: true
  reason:
    description: Why the host fails, for the stage V(fail).
    type: str
  rollback_to:
    description:
      - What the machines go back to, for the stage V(choose). The stage V(check) refuses an invalid value.
      - V(previous) undoes the latest deploy of these machines. Machines that were no part of it stay.
      - The id of a deploy is what each machine booted after it. A date is what each machine booted then, and without a
        time the end of that day.
      - The number of a generation, or a toplevel, is for one machine.
    type: raw
  pattern:
    description: The pattern of hosts to deploy, for the stage V(check). A text or a list.
    type: raw
  include:
    description:
      - Names of the only machines to deploy, for the stage V(check). A list, or a text with spaces or commas between
        them. Wildcards are allowed. A name that matches no machine of O(pattern) is an error.
    type: raw
  exclude:
    description: Names of machines to leave out, for the stage V(check), in the same form.
    type: raw
seealso:
  - module: nix.ops.nixos_activate
"""

EXAMPLES = r"""
- name: Check the variables of the deploy
  nix.ops.deployment_plan:
    stage: check
    pattern: nixos
  run_once: true

- name: Plan the rollout
  nix.ops.deployment_plan:
    stage: decide
  run_once: true
  register: rollout_plan
"""

RETURN = r"""
machines:
  description:
    - For the stage V(decide), what the deploy does on each machine, by its host, the UUIDs of the other deployments
      that the machine belongs to, and the id of the deploy, which its machines share.
    - For the stage V(check), the hosts; for V(outcome), a line for each host.
  returned: for the stages check, decide and outcome
  type: raw
  sample:
    target:
      toplevel: /nix/store/hwdn5rjckz13a5zafjia3bk14f1rgacs-nixos-system-target-24.05
      copy: true
      action: switch
      reboot: [kernel]
      reasons: []
      does: copy, switch, reboot (kernel)
      other_deployments: []
      deploy: 20261122-165500-a1b2
      generation: null
      leaves_keys: false
results:
  description: What each machine goes back to, in the form of the result of P(nix.ops.build#role).
  returned: for the stage choose
  type: list
  elements: dict
  sample:
    - item: /home/alice/target.network.yml
      machines:
        target: {out_path: /nix/store/hwdn5rjckz13a5zafjia3bk14f1rgacs-nixos-system-target-24.05}
targets:
  description: What is known of it, by host. C(reboot_parts) need a reboot; V(null) if that is not known.
  returned: for the stage choose
  type: dict
  sample:
    target:
      generation: 3
      deploy: 20261122-165500-a1b2
      reboot_parts: []
      said: generation 3, 2026-11-22 16:55, deploy 20261122-165500-a1b2
stays:
  description: The hosts that stay as they are, each with the reason.
  returned: for the stage choose
  type: dict
  sample: {}
made:
  description: When the plan was made, in seconds since 1970. It tells the plans of a playbook that deploys twice apart.
  returned: for the stages decide and batch
  type: float
  sample: 1790000000.5
rollout:
  description: The hosts on which the deploy does anything.
  returned: for the stage decide
  type: list
  elements: str
  sample: [target]
unchecked:
  description: The hosts whose host key ssh does not check, by the user's own settings.
  returned: for the stage decide
  type: list
  elements: str
  sample: []
hosts:
  description: The hosts for the play of the rollout; one host that is up to date if there is nothing to do.
  returned: for the stage decide
  type: list
  elements: str
  sample: [target]
unevaluated:
  description: The hosts that are left out and fail later, since their systems do not evaluate (C(deploy_unevaluated)).
  returned: for the stage decide, empty in check mode
  type: list
  elements: str
  sample: []
checkouts:
  description: The Git commit of each network that is in a Git work tree, by the path of its source.
  returned: for the stage check
  type: dict
  sample:
    /home/alice/target.network.yml: {revision: 3f0c1c7d5f5f0b8b0c0f3a9d6a2c8f1e4b7d9a61, modified: false}
check:
  description: C(since) of the stage V(check) of the same deploy, so that the playbook knows its newest plan.
  returned: for the stage decide
  type: float
  sample: 51937.25
since:
  description:
    - When the run began, in seconds of the controller's monotonic clock.
    - For the option O(nix.ops.deployment_prepare#module:since).
  returned: for the stage check
  type: float
  sample: 51937.25
elsewhere:
  description: The hosts whose systems are not built on the controller, with the hosts that build; empty for itself.
  returned: for the stage check
  type: dict
  sample: {web: builder}
rolls_out:
  description: Whether the rollout continues after the plan. In check mode without C(--diff) it ends there.
  returned: for the stage decide
  type: bool
  sample: true
previewed:
  description: What the preview passes on to a deploy as C(deploy_previewed).
  returned: for the stage decide, in check mode
  type: dict
  sample:
    toplevels: {target: /nix/store/hwdn5rjckz13a5zafjia3bk14f1rgacs-nixos-system-target-24.05}
    plan: {target: "copy, switch"}
    left_out: []
    variables: {}
goes_on_without:
  description: The hosts that can't be reached and without which a preview succeeds.
  returned: for the stage decide
  type: list
  elements: str
  sample: []
lost:
  description: The hosts that failed or could not be reached.
  returned: for the stage reached, and for the stage outcome in check mode
  type: list
  elements: str
  sample: [gamma]
ends:
  description: Whether the rollout ends with this batch.
  returned: for the stage batch
  type: bool
  sample: false
failed_hosts:
  description: The hosts of the batch that failed or could not be reached.
  returned: for the stage batch
  type: list
  elements: str
  sample: [gamma]
goes_back:
  description: The hosts that go back to what they ran before.
  returned: for the stage batch
  type: list
  elements: str
  sample: [beta]
stays_deployed:
  description: The hosts that were activated and stay.
  returned: for the stage batch
  type: list
  elements: str
  sample: [alpha]
untouched:
  description: The hosts that were not activated yet.
  returned: for the stage batch
  type: list
  elements: str
  sample: [omega]
"""
