#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.nixos_activate; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_activate
short_description: Activate a NixOS system on a machine
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Activates a toplevel that is in the machine's store, with its own C(switch-to-configuration).
  - The activation runs in a systemd unit of its own, detached from the connection. A dropped connection, a restarted
    C(sshd) or a killed controller does not stop it half way. Its output is followed live, over a new connection if the
    old one is lost.
  - V(switch) is done as test, profile, boot entry, so that a machine on which the activation fails still boots what it
    ran before.
  - A machine that runs and boots the toplevel already is left alone.
  - If the same activation is at work, since the run that began it was killed, it is followed to its end. If its process
    on the machine is killed, systemd cleans up. Before the acknowledgement the machine goes back; afterwards the
    profile is set and the boot entry is written.
  - Two activations never run at the same time on one machine.
extends_documentation_fragment: [nix.ops.attributes, nix.ops.expected, nix.ops.waits, nix.ops.variables]
attributes:
  diff_mode:
    support: full
    details:
      - Shows which packages change their version and which unit files differ. In check mode this compares the system
        that runs with the one in the controller's store; which units would be restarted is an estimate then.
options:
  toplevel:
    description: The store path of the system.
    type: path
    required: true
  action:
    description:
      - V(switch) makes it the running system and the one that boots.
      - V(boot) makes it the one that boots.
      - V(test) makes it the running system until the next reboot.
      - V(dry-activate) only shows what would be done, also in check mode.
    type: str
    choices: [switch, boot, test, dry-activate]
    default: switch
  specialisation:
    description:
      - The specialisation of the system to run. The boot entry is that of the system itself, so the machine runs the
        system without it after a reboot.
      - Not with O(action=boot), and only with O(reboot=never).
    type: str
  profile:
    description: The profile that becomes the toplevel, with O(action=switch) and O(action=boot).
    type: path
    default: /nix/var/nix/profiles/system
  generation:
    description:
      - The generation to set the profile to, if it still leads to O(toplevel). With it a machine goes back to an old
        generation and makes no new one.
    type: int
  force:
    description: Activate also if the machine runs and boots the toplevel already.
    type: bool
    default: false
  reconnect_timeout:
    description: Seconds in a row that the machine may be out of reach before the task stops following it.
    type: int
    default: 300
  rollback:
    description:
      - With V(auto) the machine waits, after the switch, for an acknowledgement over a new connection to
        C(ansible_host) and C(ansible_port). Only then the profile is set and the boot entry is written. If the switch
        fails, or the acknowledgement does not come, the machine itself goes back to the system that ran before, even if
        this run is gone.
      - With V(never) the profile is set and the boot entry is written right after a switch that succeeds.
      - With O(action=boot) there is no acknowledgement, since the running system stays.
      - The notes list the exit codes of C(switch-to-configuration) and their consequences.
    type: str
    choices: [auto, never]
    default: auto
  sync:
    description:
      - Whether the switch writes the machine's file systems to the disk. With V(false) it gets C(NIXOS_NO_SYNC=1).
    type: bool
    default: true
  switch_timeout:
    description:
      - Seconds until C(switch-to-configuration) is ended, and the machine goes back.
      - Going back has the same limit. The machine is rebooted into the old system after it.
      - With O(action=dry-activate) it limits the dry activation.
    type: int
    default: 1800
  boot_timeout:
    description:
      - Seconds until setting the profile, and then installing the boot entry, is ended. The task then fails, while the
        machine runs the new system and boots the old one, as after a boot loader that fails.
      - A boot loader that is ended in the middle may leave its menu unfinished. Leave it enough time.
    type: int
    default: 600
  confirm_timeout:
    description:
      - Seconds that the machine waits for the acknowledgement, from the end of the switch on, by the kernel's clock.
    type: int
    default: 60
  failed_units:
    description:
      - What to do if units fail while the new system runs, exit code 4 of C(switch-to-configuration).
      - Only units count that the old or the new system names, by a file in C(/etc/systemd/system) or in what another of
        its units wants or requires, and those of its C(fstab). Others, such as the service manager of a user
        (C(user@1000.service)), are a warning. To have one of them decide, name it in the O(health_checks).
      - V(rollback) goes back, V(fail) keeps the new system and fails, V(warn) keeps it and warns.
      - With O(rollback=never), V(rollback) fails; the new system keeps running, and its boot entry is not written.
    type: str
    choices: [fail, warn, rollback]
    default: rollback
  health_checks:
    description:
      - Checks of the machine's health. They run after the switch, once the controller has reached the machine over a
        new connection and before the profile is set, and after a reboot. If they fail, the machine goes back.
      - With O(rollback=never) they run at the end, and the task fails if they fail.
      - A round runs all checks. Rounds are repeated until one passes or the deadline is over.
    type: dict
    suboptions:
      units:
        description: Units that have to be active. A name without a suffix is that of a service.
        type: list
        elements: str
        default: []
      commands:
        description: Lines for C(/bin/sh) on the machine that have to succeed, as root. A line that fails is shown.
        type: list
        elements: str
        default: []
      tcp:
        description: Ports of the machine that the controller has to reach, at the address of its connection.
        type: list
        elements: int
        default: []
      http:
        description: URLs that have to answer to the controller.
        type: list
        elements: dict
        default: []
        suboptions:
          url:
            description: The URL. It is shown if it fails, so it must not have a secret.
            type: str
            required: true
          status:
            description: The status codes that are good. Redirects are followed unless one of these is 3xx.
            type: list
            elements: int
            default: [200]
          contains:
            description: A text that the first MiB of the answer has to contain.
            type: str
          headers:
            description: Headers of the request.
            type: dict
            default: {}
          validate_certs:
            description: Whether the certificate has to be valid.
            type: bool
            default: true
      stable:
        description: Seconds that a unit has to stay active without a restart.
        type: int
        default: 3
      successes:
        description: How many rounds in a row have to pass, for checks that flap.
        type: int
        default: 1
      interval:
        description: Seconds between two rounds.
        type: int
        default: 1
      deadline:
        description: Seconds before the checks fail.
        type: int
        default: 60
  keys:
    description:
      - The machine's keys, as M(nix.ops.nixos_keys) takes them. They are sent before the switch, before the health
        checks of a reboot, and also if the machine is at the goal already. Keys with C(after) are sent after the
        acknowledgement. Keys that left the network are removed then.
      - With O(action=dry-activate) and in check mode nothing is sent.
    type: dict
    suboptions:
      definitions:
        description: The keys, by name. By default those of the variable C(nix_deployment_keys) of the inventory.
        type: dict
      contents:
        description: The contents by name. They win over those of the network.
        type: dict
        default: {}
      network:
        description: The source of the network.
        type: path
      machine:
        description: The machine's name in the network; the host's name by default.
        type: str
      deployment:
        description: UUID of the deployment.
        type: str
        required: true
      commands:
        description: Whether the network may run commands on the controller.
        type: bool
        default: true
      files:
        description: With V(project), contents may come from files in the project of the network alone.
        type: str
        choices: [anywhere, project]
        default: anywhere
      compared:
        description: C(compared_keys) of the result of M(nix.ops.deployment_prepare).
        type: dict
        default: {}
      keep_old:
        description: Whether the keys that are replaced or removed are kept for a deploy that may take them back.
        type: bool
        default: false
  reboot:
    description:
      - Whether the machine is rebooted, with O(action=switch) and O(action=boot).
      - V(when_needed) reboots it if the kernel, the initrd, the kernel's modules or systemd differ from the booted
        ones, if C(switch-to-configuration) refuses to switch to the system while the current one runs (exit code 100,
        or a changed C(system.switch.inhibitors)), and after O(action=boot) if another system runs.
      - V(always) reboots it in any case, so the task always changes something.
      - The task waits until the machine has another boot id and runs the toplevel, checks its health again and
        acknowledges it over a new connection.
      - A system that is booted for the first time boots back to the earlier system by itself, unless it is
        acknowledged. The unit C(nix-ops-boot-guard.service), which a network adds to each machine, does that. A system
        without the unit gets a warning.
      - A kernel that never starts the unit does not boot back. The boot menu has the old generations.
    type: str
    choices: [never, when_needed, always]
    default: never
  reboot_timeout:
    description:
      - Seconds that the controller waits for a machine that reboots.
      - The machine waits as long for the acknowledgement, from its start on, before it boots back.
    type: int
    default: 600
  address:
    description:
      - The address of the machine after the activation, if it is not C(ansible_host).
    type: str
  port:
    description: The port of its SSH server after the activation, if it is not C(ansible_port).
    type: int
  replace_unknown:
    description:
      - Whether to replace a running system that no remembered activation has brought there. It may be somebody else's
        work.
      - V(false) needs O(remember), and refuses machines that were never deployed.
    type: bool
    default: true
  found:
    description:
      - The result of M(nix.ops.deployment_prepare) or M(nix.ops.nixos_info) for the machine.
      - With it, the machine is not asked again if it runs and boots the toplevel already.
    type: dict
    default: {}
  remember:
    description:
      - The machine's deployment. The activation is added to what is remembered of the machine, and
        written to its own record, C(/nix/var/nix/nix-ops/records) on it, which root alone can read. Then it becomes the
        fact C(nix_ops) of the host.
      - The machine itself notes how an activation ended, also if it failed or no run saw its end, and
        M(nix.ops.deployment_prepare) finds the note.
      - A record that can't be written is a warning. The fact cache has what it would say, and the next run writes it.
    type: dict
    suboptions:
      deployment:
        description: Name of the deployment, C(nix_deployment) of the machine's host.
        type: str
        required: true
      uuid:
        description: UUID of the deployment, C(nix_deployment_uuid) of the machine's host.
        type: str
        required: true
      machine:
        description: Name of the machine in the network, C(nix_machine) of its host.
        type: str
        required: true
      inputs:
        description:
          - The remembered inputs, as M(nix.ops.deployment_prepare) returned them.
          - By default those that are cached.
        type: dict
        default: {}
      recorded:
        description: Whether the machine's record is complete, as M(nix.ops.deployment_prepare) returned it.
        type: bool
        default: false
      checkout:
        description: The Git commit that the toplevel was built from, as M(nix.ops.deployment_prepare) returned it.
        type: dict
        suboptions:
          revision:
            description: The commit.
            type: str
            required: true
          modified:
            description: Whether the network had changes that were not committed.
            type: bool
            default: false
      deploy:
        description: The id of the deploy, which its machines share, as M(nix.ops.deployment_plan) returned it.
        type: str
      members:
        description: The hosts of all machines of the deployment, by which a machine is noticed that leaves the network.
        type: list
        elements: str
        default: []
notes:
  - A machine of a deployment is reached where it was last acknowledged, and acknowledged where C(ansible_host) and
    C(ansible_port) say, so that both can be changed by the activation itself.
  - "Exit codes of C(switch-to-configuration), with O(rollback=auto). 0: the machine waits for the acknowledgement. 1,
    126, 127: it was refused or could not be run, and nothing was touched. 2, 3, 101 and all others: it goes back. 124:
    it did not end within O(switch_timeout), and goes back. 4: see O(failed_units). 11: another
    C(switch-to-configuration) is at work, nothing was touched. 100: nothing was touched, see O(reboot)."
  - With O(rollback=never), any exit code but 0 is a failure, and the boot entry is not written. With 4 it is written if
    O(failed_units) keeps the system.
  - Needs root on the machine, and systemd.
  - The keyword C(timeout) of the task ends the task, not the activation.
seealso:
  - module: nix.ops.nix_build
  - module: nix.ops.nix_copy_closure
"""

EXAMPLES = r"""
- name: Switch to a system
  nix.ops.nixos_activate:
    toplevel: "{{ toplevel }}"

- name: Ask the machine what a switch would do
  nix.ops.nixos_activate:
    toplevel: "{{ toplevel }}"
    action: dry-activate

- name: Take a new kernel with the next reboot
  nix.ops.nixos_activate:
    toplevel: "{{ toplevel }}"
    action: boot

- name: Switch to a system and go back unless it answers
  nix.ops.nixos_activate:
    toplevel: "{{ toplevel }}"
    health_checks:
      units: [sshd]
      commands: ["test -e /etc/NIXOS"]
      tcp: [22]
      deadline: 20

- name: Switch to a system, and reboot for a new kernel
  nix.ops.nixos_activate:
    toplevel: "{{ toplevel }}"
    reboot: when_needed

- name: Switch to a system and remember it
  nix.ops.nixos_activate:
    toplevel: "{{ toplevel }}"
    remember:
      deployment: example
      uuid: 9e8652aa-e64a-11f1-b7ab-02fc00000001
      machine: target
"""

RETURN = r"""
specialisation:
  description: The specialisation that runs, or would.
  type: str
  returned: with O(specialisation)
  sample: small
ansible_facts:
  description: The fact in which the deployment state is kept. With O(remember), and not in check mode.
  type: dict
  returned: with O(remember), not in check mode
  contains:
    nix_ops:
      description:
        - For the UUID of each deployment that the host is a machine of, what is remembered of it.
        - It holds no secret. Its layout may change; read it through M(nix.ops.deployment_info).
      type: dict
      sample:
        9e8652aa-e64a-11f1-b7ab-02fc00000001:
          schema: 1
          uuid: 9e8652aa-e64a-11f1-b7ab-02fc00000001
          deployment: example
          machine: target
          inputs:
            state_version: "24.05"
            ssh_public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAgi nix.ops key of target in example
          revision: 1
          activations:
            - toplevel: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
              action: switch
              generation: 12
              exit_code: 0
              time: 1767225600
              rolled_back: false
              revision: 3f0c1c7d5f5f0b8b0c0f3a9d6a2c8f1e4b7d9a61
              modified: false
              origin: alice@controller
              deploy: 20261122-165500-a1b2
          acknowledged: {address: target.example.org, port: 22, time: 1767225600}
          members: [target]
toplevel:
  description: The toplevel that was to be activated.
  type: str
  returned: unless the activation was refused
  sample: /nix/store/7nwlqk9c9q8fyhr0ycbz5ha4kny4dmsb-nixos-system-target-24.05
action:
  description: What was to be done with it.
  type: str
  returned: unless the activation was refused
  sample: switch
acknowledged:
  description:
    - Where the machine was reached over a new connection, with O(rollback=auto).
    - V(null) if the connection is not C(ssh).
  type: dict
  returned: when another system runs
  contains:
    address:
      description: Name or address.
      type: str
      sample: target.example.org
    port:
      description: Port of the SSH server.
      type: int
      sample: 22
old_toplevel:
  description: The toplevel that ran before.
  type: str
  returned: unless the activation was refused
  sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
generation:
  description: The generation of the profile now.
  type: int
  returned: unless the activation was refused
  sample: 13
old_generation:
  description: The number that it stood at before.
  type: int
  returned: unless the activation was refused
  sample: 12
running:
  description: The toplevel that runs now, asked from the machine.
  type: str
  returned: when something was activated
  sample: /nix/store/7nwlqk9c9q8fyhr0ycbz5ha4kny4dmsb-nixos-system-target-24.05
boots:
  description: The toplevel that boots now, asked from the machine; V(null) where its boot menu can't be read.
  type: str
  returned: when something was activated
  sample: /nix/store/7nwlqk9c9q8fyhr0ycbz5ha4kny4dmsb-nixos-system-target-24.05
exit_code:
  description: The exit code of C(switch-to-configuration), or of the step that failed.
  type: int
  returned: when something was activated
  sample: 0
step:
  description: The last step that was begun.
  type: str
  choices: [activate, acknowledge, check, rollback, profile, boot, reboot]
  returned: when something was activated
  sample: boot
rolled_back:
  description: Whether the machine has gone back to what ran before.
  type: bool
  returned: when something was activated
  sample: false
unhealthy:
  description: The health checks that failed.
  type: list
  elements: str
  returned: when something was activated
  sample: ["web.service is activating (auto-restart)"]
rebooted:
  description: Whether the machine was rebooted and has booted the toplevel.
  type: bool
  returned: when something was activated
  sample: false
reboot_needed:
  description: Whether a reboot is needed for all of the system to run.
  type: bool
  returned: when something was activated
  sample: false
reboot_parts:
  description: The parts of the profile that were not booted and need a reboot.
  type: list
  elements: str
  returned: when something was activated
  sample: [kernel, initrd]
units:
  description: What was done with units, as C(switch-to-configuration) said it.
  type: dict
  returned: when something was activated
  contains:
    stopped:
      description: Units that were stopped and not started again.
      type: list
      elements: str
      sample: [old.service]
    started:
      description: Units that were started.
      type: list
      elements: str
      sample: [new.service]
    restarted:
      description: Units that were restarted.
      type: list
      elements: str
      sample: [web.service]
    reloaded:
      description: Units that were reloaded.
      type: list
      elements: str
      sample: [dbus.service]
    not_restarted:
      description: Units that changed and were left running, as their definition says.
      type: list
      elements: str
      sample: [getty@tty1.service]
    failed:
      description: Units that failed.
      type: list
      elements: str
      sample: []
key_changes:
  description: What became of the keys, as M(nix.ops.nixos_keys) returns it.
  type: dict
  returned: when O(keys) is given
  contains:
    added:
      description: The keys that were missing.
      type: list
      elements: str
      sample: [db-password]
    replaced:
      description: The keys that were replaced.
      type: list
      elements: str
      sample: []
    removed:
      description: The keys that were removed.
      type: list
      elements: str
      sample: []
    left:
      description: The keys that left the network and are still there, since what runs may need them.
      type: list
      elements: str
      sample: []
    restarted:
      description: The units of keys that were restarted.
      type: list
      elements: str
      sample: []
    unknown:
      description: In check mode the keys whose command was not run.
      type: list
      elements: str
      sample: []
failed_units:
  description: Units in the state C(failed) after the activation, whatever the reason.
  type: list
  elements: str
  returned: when something was activated
  sample: []
foreign_units:
  description:
    - Units that failed in this activation and do not count, since neither the old nor the new system names them.
    - If no other units failed, RV(exit_code) is 0.
  type: list
  elements: str
  returned: when something was activated
  sample: [user@1000.service]
journal:
  description: For each unit that failed in this activation the last lines of its journal.
  type: dict
  returned: when something was activated
  sample:
    web.service: ["nginx: [emerg] bind() to 0.0.0.0:80 failed"]
output:
  description: All that was said.
  type: str
  returned: when something was activated
  sample: "stopping the following units: web.service\nactivating the configuration...\n"
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_ACTIVATE


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **NIXOS_ACTIVATE)
    module.fail_json(msg="nixos_activate runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
