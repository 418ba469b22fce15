#!/usr/bin/python
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of nix.ops.nix_build; the work is done by the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nix_build
short_description: Build the machines of a network, or any Nix expression
version_added: 0.1.0
author: nix.ops contributors (@nix-ops)
description:
  - Evaluates on the controller and builds on the task's host, which is the controller with C(delegate_to=localhost) or
    C(connection=local), and a build host otherwise. Derivations are copied to a build host first; what it builds stays
    in its store.
  - All derivations are built by one call of Nix, so that independent ones are built in parallel.
  - If evaluating machines takes longer than a second, the controller builds the first ones while it evaluates the
    others. If one of them fails to build, the evaluation ends, unless C(keep-going) of Nix is set. Check mode and
    O(dry_run) build nothing before all machines are evaluated.
  - Nix's output is shown live.
extends_documentation_fragment: [nix.ops.attributes, nix.ops.waits, nix.ops.waits.copy]
attributes:
  platform:
    platforms: posix
options:
  network:
    description:
      - The network whose machines are built, either one C(*.network.yml) or the C(.nix) files of the network.
      - Relative paths start at the playbook's directory.
    type: list
    elements: path
  deployment:
    description: The deployment's name. By default that of the first file of O(network). Not with a C(*.network.yml).
    type: str
  uuid:
    description: The deployment's UUID. By default derived from its name. Not with a C(*.network.yml).
    type: str
  machines:
    description: The machines to build. By default all of the network.
    type: list
    elements: str
  elsewhere:
    description:
      - Machines whose systems are not built on the task's host, with the name of the host of the inventory that builds
        each of them. If the name is empty, the machine's system is only evaluated.
      - The variables of a build host say how it is reached, and whether commands become root there. What it builds
        stays in its store, with a GC root C(~/.local/state/nix.ops/built/UUID/MACHINE).
    type: dict
    default: {}
  remembered:
    description:
      - The remembered inputs of each machine's system.
      - A dictionary by machine with the optional keys C(state_version) and C(ssh_public_key).
    type: dict
    default: {}
  expression:
    description: The text of a Nix expression.
    type: str
  file:
    description: A file with a Nix expression. A relative path starts at the playbook's directory.
    type: path
  flake:
    description: A reference to a flake, such as V(path:/srv/infra) or V(github:owner/name).
    type: str
  attribute:
    description: The path of the attribute to build, one element each, in O(expression), O(file) or O(flake).
    type: list
    elements: str
    aliases: [attributes]
  arguments:
    description: Values for the arguments of an expression or of network files that are functions.
    type: dict
    default: {}
  nix_path:
    description:
      - Entries of Nix's search path that come before C(NIX_PATH), such as V(nixpkgs=/srv/nixpkgs).
      - V(FILE#PIN) is a pinned source, see P(nix.ops.network#inventory). The path of FILE has to be absolute.
    type: list
    elements: str
    default: []
  options:
    description: Settings of Nix, as in C(nix.conf). They override those of a C(*.network.yml).
    type: dict
    default: {}
  out_link:
    description:
      - A link to the output on the host that builds, which keeps it from being collected as garbage.
      - With O(network), a directory that gets a link for each machine. The default on the controller is
        C($XDG_STATE_HOME/nix.ops/toplevels/UUID), and C(~/.local/state/nix.ops/toplevels/UUID) if that variable is not
        set. On another host there is no default.
      - With several derivations, the links are numbered from the second on.
      - In a job of AWX a link on the controller does not count as a change, since the job loses it when it ends. There
        the default is C(.nix-ops/toplevels/NAME) beside the network.
    type: path
  dry_run:
    description: Only return what would be built and fetched.
    type: bool
    default: false
  repair:
    description:
      - Whether to check what was built before, and to build or fetch it again if it is damaged.
      - Nix does that only for root, or for a user that it trusts. Check mode and O(dry_run) repair nothing.
    type: bool
    default: false
  push_to:
    description:
      - A binary cache to push to what was built on the controller, with everything it references, such as
        V(file:///srv/cache), V(https://cache.example.org) or V(s3://bucket?region=eu-west-1).
      - What the cache has already is not pushed again. Check mode and O(dry_run) push nothing.
      - A name and password for HTTP belong into a file that C(netrc-file) of Nix names, those for S3 into the
        environment or into C(~/.aws).
    type: str
  push_key_file:
    description:
      - A file on the controller with the secret key that signs what is pushed.
      - C(nix-store --generate-binary-cache-key) makes one. Machines fetch only what a key of their
        C(trusted-public-keys) has signed.
    type: path
  on_controller:
    description:
      - Whether to build on the controller as the user of this run, whatever the task's connection and become are.
      - Variables such as C(ansible_connection) and C(ansible_become) win over the keywords of a task. If they are set
        for all hosts or by C(-e), they hold for a task that is delegated to localhost, too.
    type: bool
    default: false
  unevaluated:
    description:
      - What to do if systems of O(network) do not evaluate. V(fail) builds nothing, V(warn) builds the others.
      - An error in a machine's definition, such as in C(deployment.targetHost), always fails.
    type: str
    choices: [fail, warn]
    default: fail
  build_timeout:
    description:
      - Seconds until a build on another host than the controller is ended.
      - For a build on the controller set C(timeout) or C(max-silent-time) of Nix in O(options).
    type: int
    default: 86400
  reconnect_timeout:
    description: Seconds in a row that a build host may be out of reach before the task stops following the build.
    type: int
    default: 300
notes:
  - In check mode a build on the controller is made, without O(out_link), since a preview of a deployment needs its
    result. On a build host check mode is a dry run.
seealso:
  - module: nix.ops.nix_copy_closure
  - module: nix.ops.nixos_activate
"""

EXAMPLES = r"""
- name: Build the machines of a network on the controller
  nix.ops.nix_build:
    network: [target.nix, config.nix]
  delegate_to: localhost
  run_once: true
  register: built

- name: Build a package from a file
  nix.ops.nix_build:
    file: default.nix
    attribute: [tools, backup]
    arguments:
      verbose: true
    out_link: /srv/tools/backup
  delegate_to: localhost

- name: Build a package and push it to a binary cache
  nix.ops.nix_build:
    expression: (import <nixpkgs> { }).hello
    push_to: file:///srv/cache
  delegate_to: localhost

- name: Show what a build would do
  nix.ops.nix_build:
    expression: (import <nixpkgs> { }).hello
    dry_run: true
  delegate_to: localhost

- name: Build a flake's package on the build host
  nix.ops.nix_build:
    flake: path:/srv/infra
    attribute: [packages, x86_64-linux, default]
  delegate_to: builder
"""

RETURN = r"""
unevaluated:
  description: For each machine whose system does not evaluate the reason.
  returned: with O(network)
  type: dict
  sample: {}
machines:
  description: For each machine its derivation and its toplevel.
  type: dict
  returned: with O(network)
  sample:
    target:
      drv_path: /nix/store/3y2cd7v3r7hgvdl0zyqdmyj4qwpslpl1-nixos-system-target-24.05.drv
      out_path: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-nixos-system-target-24.05
derivations:
  description: Each derivation with its output.
  type: list
  elements: dict
  returned: success
  contains:
    drv_path:
      description: The derivation.
      type: str
      sample: /nix/store/3y2cd7v3r7hgvdl0zyqdmyj4qwpslpl1-hello-2.12.drv
    out_path:
      description: Its output.
      type: str
      sample: /nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-hello-2.12
outputs:
  description: The outputs alone.
  type: list
  elements: str
  returned: success
  sample: [/nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-hello-2.12]
built:
  description: Derivations that were built, or would be.
  type: list
  elements: str
  returned: success
  sample: [/nix/store/3y2cd7v3r7hgvdl0zyqdmyj4qwpslpl1-hello-2.12.drv]
pushed:
  description: Paths that were pushed to O(push_to), which lacked them.
  type: list
  elements: str
  returned: success
  sample: [/nix/store/0c2r9i2bprfm1bvlwxh2fzgbqdjqbzws-hello-2.12]
fetched:
  description: Paths that came from a cache, or would.
  type: list
  elements: str
  returned: success
  sample: []
exit_code:
  description: The exit code of the command of Nix that failed.
  type: int
  returned: failure
  sample: 1
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIX_BUILD


def main() -> None:
    """Refuse to run on a host: the action plugin does the work from the controller."""
    module = AnsibleModule(supports_check_mode=True, **NIX_BUILD)
    module.fail_json(msg="nix_build runs as an action plugin on the controller")


if __name__ == "__main__":
    main()
