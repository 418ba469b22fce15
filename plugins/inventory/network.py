# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes an inventory of a network."""

from __future__ import annotations

DOCUMENTATION = r"""
name: network
short_description: Machines of a NixOps network
description:
  - Evaluates a NixOps network, or the C(nixosConfigurations) of a flake, and makes a host of each machine.
  - A source is a YAML file whose name ends in C(.network.yml), or a single C(.nix) file that is the whole network.
    The latter needs this plugin in C(enable_plugins) of the section C([inventory]) of C(ansible.cfg),
    before C(ansible.builtin.ini).
    In a directory of sources only files that end in C(.network.yml) count.
  - Every machine is in the groups C(nixos), C(deployment_NAME), and C(tag_TAG) for each of its C(deployment.tags).
    Two names that Ansible would give the same group, such as V(prod-eu) and V(prod.eu), are refused.
  - Another source can put the hosts into groups of its own, also before this one is read. A host that two networks
    define is refused.
  - The connection comes from C(deployment.targetHost), C(deployment.targetPort), C(deployment.targetUser),
    C(deployment.sshOptions) and C(deployment.privilegeEscalationCommand), the host keys from C(deployment.sshHostKeys).
  - A network that does not evaluate ends the run with Nix's own message. It is never an empty inventory. Only
    C(nix.ops.list), C(nix.ops.info), C(nix.ops.send_keys), C(nix.ops.generations), C(nix.ops.rollback), C(nix.ops.gc)
    and C(ansible HOST -m MODULE) go on, with the definitions that were good last, and say so.
author:
  - nix.ops contributors (@nix-ops)
version_added: 0.1.0
extends_documentation_fragment:
  - ansible.builtin.constructed
  - nix.ops.settings
options:
  plugin:
    description: Marks a source of this plugin.
    type: str
    required: true
    choices:
      - nix.ops.network
  name:
    description:
      - Name of the deployment.
      - By default the file's name without its suffix.
    type: str
  uuid:
    description:
      - UUID of the deployment.
      - By default derived from O(name), and so the same wherever the source is read.
    type: str
  files:
    description:
      - Network files, merged as NixOps merges them. Relative paths are relative to the source.
      - Exactly one of O(files) and O(flake) is needed.
    type: list
    elements: str
    default: []
  flake:
    description:
      - Reference of a flake whose C(nixosConfigurations) are the machines.
      - A reference that starts with C(.) is a path relative to the source.
    type: str
  arguments:
    description:
      - Arguments for network files that are functions, as JSON values.
      - They reach Nix in a file that only you can read, never on a command line.
    type: dict
    default: {}
  nix_path:
    description:
      - Entries of the Nix search path that come before E(NIX_PATH), such as V(nixpkgs=./nixpkgs).
      - Relative paths are relative to the source.
      - V(FILE#PIN) is a pinned source, where the file is C(npins/sources.json), C(nix/sources.json) (niv) or
        C(flake.lock), such as V(nixpkgs=flake.lock#nixpkgs). Nix fetches what its store lacks.
    type: list
    elements: str
    default: []
  ssh_keys:
    description:
      - Directory of the deployment's private SSH keys. The file of a key is named after its machine.
        Relative paths are relative to the source.
      - By default C($XDG_STATE_HOME/nix.ops/keys/UUID), or C(~/.local/state/nix.ops/keys/UUID) if that variable is not
        set. Set another directory for a team that shares the keys.
      - A key that is encrypted by C(ansible-vault), with any vault id, can be committed. Its public half has to be
        beside it, in a file with the machine's name and C(.pub) at the end.
      - Keep the directory out of everything that the network copies into the Nix store, such as a flake that is in no
        Git repository, or C(src = ./.), since all users can read the store.
        A network that would copy a key that is not encrypted is refused, and so is a directory inside the store.
    type: str
  hostname:
    description:
      - Jinja2 template of a host's name. It can use the host's variables, such as C(nix_machine).
      - By default a host has the name of its machine.
    type: str
  remember:
    description:
      - Whether to remember the evaluation as long as nothing that Nix can have read has changed.
      - C(--flush-cache) always evaluates anew.
      - The state version and SSH public key with which each machine was last built are always kept. With them the build
        usually needs no evaluation of its own. If they have changed, the build evaluates anew.
    type: bool
    default: true
notes:
  - C(nix_always_activate) is true if the network itself sets C(deployment.alwaysActivate) to true. The option's own
    default, which is true as in NixOps, does not count. A machine with nothing to do is left alone.
  - C(nix_enable_rollback) is true if the network sets C(network.enableRollback). Then the controller keeps the systems
    of the last 20 deploys, in C($XDG_STATE_HOME/nix.ops/deploys/UUID).
  - C(nix_has_fast_connection) is C(deployment.hasFastConnection), if the network itself sets it. With V(false) a copy
    is compressed, and the machine may fetch from its own substituters. The option's own default does not count.
  - C(nix_build_on_target) is true if the network sets C(deployment.buildOnTarget) to true.
  - C(nix_owners) is C(deployment.owners), if it is not empty. Nothing is sent to them; a play of yours can.
  - C(nix_health_checks) is C(deployment.healthChecks) of the network, if it has any check. It has C(units), with their
    suffixes, C(commands), C(tcp), C(http), C(stable), C(successes), C(interval) and C(deadline). Each entry of C(http)
    has C(url), C(status), C(contains), C(headers) and C(validate_certs). Store paths that a command refers to are in
    the machine's closure. All users of the inventory can read the checks, so don't put a secret into them.
  - C(ansible_user) is a variable of the host if the network itself sets C(deployment.targetUser). Otherwise anything of
    Ansible can name the user, such as C(-u), C(remote_user), or C(ansible_user) in C(group_vars). If nothing does, the
    user is V(root), by C(nix_user_options), which reaches ssh as C(nix_host_key_options) does. If ssh's own
    configuration names a user for the host, that is C(nix_ssh_user), and counts instead of V(root).
  - C(nix_deployment_keys) is C(deployment.keys) of the network without the contents. For each name it has C(path),
    C(user), C(group), C(permissions), C(after), C(file) and C(source). The contents that the network gives are
    evaluated only when keys are sent.
  - C(ansible_port) is set if the network sets C(deployment.targetPort) or C(services.openssh.ports). Otherwise the port
    is that of ssh's own configuration, or 22.
  - C(nix_ssh_key) is the path of the private key with which the deployment logs in to the machine, even if the key does
    not exist yet. It is not set if the network sets C(deployment.provisionSSHKey) to false.
  - If the private key exists when the source is read, C(nix_ssh_options) has the options by which ssh offers it. ssh
    offers all other keys as well, such as C(~/.ssh/id_*).
  - For a key that is encrypted by C(ansible-vault), C(nix_ssh_options) is a template with
    P(nix.ops.ssh_key_options#lookup). Each run decrypts the key with its own secrets, in memory only. The inventory
    never contains it.
  - C(nix_ssh_options) reaches ssh by C(ansible_ssh_common_args). If the network sets C(deployment.sshOptions), that is
    a variable of the host and has both. Otherwise it is a variable of the group C(deployment_NAME), as weak as
    C(ansible_user) there, and begins with the value of C(ssh_common_args) from C(ansible.cfg),
    E(ANSIBLE_SSH_COMMON_ARGS) or C(--ssh-common-args). The group has this variable once a machine has a key.
  - A C(ansible_ssh_common_args) of your own C(group_vars) or C(host_vars) wins, and the key is no longer offered.
    To offer it, add it there, as in V(-J bastion {{ nix_ssh_options | default(''\) }}).
  - C(nix_ssh_host_keys) has C(deployment.sshHostKeys) of the network, if it sets any.
  - C(ansible_host_key_checking) is true by a variable of the group C(deployment_NAME). So host keys are checked,
    whatever C(ansible.cfg) and E(ANSIBLE_HOST_KEY_CHECKING) say. Extra variables, C(group_vars) and C(host_vars) can
    set it to false, and so can C(StrictHostKeyChecking) of ssh. The plan of a deploy names such machines.
  - C(nix_host_key_options) has the options by which ssh knows the keys of C(nix_ssh_host_keys) and those that were
    accepted with C(deploy_accept_new_host_keys), in addition to your files of known hosts. It reaches ssh by
    C(ansible_ssh_extra_args), C(ansible_sftp_extra_args) and C(ansible_scp_extra_args), after the options of your
    C(ansible_ssh_common_args). The modules of this collection use it even if you set these variables yourself.
  - Values that come from Nix are never templated.
seealso:
  - plugin: nix.ops.command
    plugin_type: become
    description: Becomes root by any command.
"""

EXAMPLES = r"""
# example.network.yml
plugin: nix.ops.network
name: example
files:
  - target.nix
  - config.nix

---
# A network that is a function, a pinned nixpkgs, and groups of your own.
plugin: nix.ops.network
name: production
uuid: 9e8652aa-e64a-11f1-b7ab-02fc00000001
files:
  - network.nix
arguments:
  domain: example.org
nix_path:
  - nixpkgs=./nixpkgs
hostname: "{{ nix_machine }}.{{ nix_deployment }}"
keyed_groups:
  - key: nix_tags
    prefix: role

---
# A team's network; its SSH keys are on a file system that the team shares.
plugin: nix.ops.network
name: shared
files:
  - network.nix
ssh_keys: /srv/team/ssh-keys

---
# The nixosConfigurations of a flake.
plugin: nix.ops.network
name: fleet
flake: .
"""

import os
import re
import shlex
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any, NoReturn

from ansible import constants, context
from ansible.inventory.group import to_safe_group_name
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.template import trust_as_template
from ansible.utils.path import unfrackpath

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import ssh_keys
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import connection as connections
from ansible_collections.nix.ops.plugins.plugin_utils.machine.ssh_configuration import DEFAULT_USER, configured_users
from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluation import (
    definitions,
    evaluate,
    keep_inputs,
    last_good,
    last_inputs,
)
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Definition, Evaluation, Network, check_name
from ansible_collections.nix.ops.plugins.plugin_utils.network.source import (
    FILE_SUFFIX,
    SOURCE_SUFFIX,
    network_of_file,
    network_of_source,
    unknown_options,
)

# The exit code of ansible-core for input that it can't parse.
_PARSER_ERROR = 4

# Playbooks that edit or show a source, and need none of its machines.
_SOURCES = (
    "nix.ops.clone",
    "nix.ops.delete",
    "nix.ops.modify",
    "nix.ops.rename",
    "nix.ops.set_args",
    "nix.ops.show_arguments",
    "nix.ops.show_option",
    "nix.ops.show_physical",
)

# Playbooks that build no system.
_REPORTS = (
    *_SOURCES,
    "nix.ops.check",
    "nix.ops.destroy",
    "nix.ops.gc",
    "nix.ops.generations",
    "nix.ops.info",
    "nix.ops.list",
    "nix.ops.reboot",
    "nix.ops.rollback",
    "nix.ops.send_keys",
    "nix.ops.ssh_config",
    "nix.ops.ssh_for_each",
    "nix.ops.unlock",
)
# Playbooks that read no system either.
_WITHOUT_SYSTEMS = (
    "nix.ops.create",
    "nix.ops.export",
    "nix.ops.import",
    "nix.ops.list",
    "nix.ops.send_keys",
    "nix.ops.check",
    "nix.ops.reboot",
    "nix.ops.ssh_config",
    "nix.ops.ssh_for_each",
)
_PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"

# Patterns that mean all machines of a network.
_WHOLE = re.compile(r"[*?~!&]|(?:^|[,:])(?:all|ungrouped|nixos|deployment_|tag_)")

# Host keys are checked whatever ansible.cfg and the environment say. A variable of a group, so that the user's own
# variables win.
_GROUP_VARIABLES = {"ansible_host_key_checking": True}

# The user is an option of ssh: a variable would win over -u and remote_user. Templates of the source see the default.
_DEFAULTS = {"ansible_user": DEFAULT_USER, **_GROUP_VARIABLES}

# Gives ssh the host keys that the deployment knows. A template, since a run may accept keys.
# Short, since each task compiles it three times for each host.
_KNOWING = "{{ lookup('nix.ops.host_key_options', nix_machine | default([])) }}"

# Offers the keys of the machines that have one, in addition to the user's own options.
_OFFERING = trust_as_template("{{ nix_ssh_common_args }} {{ nix_ssh_options | default('') }}")

# A template, so that a key is decrypted in the run that needs it and not when the inventory is listed.
_DECRYPTING = trust_as_template("{{ lookup('nix.ops.ssh_key_options', nix_ssh_key) }}")

# Options of sudo that take no value, so that Ansible's own plugin can take them over.
_PLAIN_SUDO_OPTIONS = frozenset(
    {"-H", "--set-home", "-E", "--preserve-env", "-n", "--non-interactive", "-S", "--stdin", "-k", "-P", "-B"}
)


class InventoryModule(BaseInventoryPlugin, Constructable):
    """Machines of a network as hosts."""

    NAME = "nix.ops.network"

    def verify_file(self, path: str) -> bool:
        """Return whether a source is a network."""
        return bool(super().verify_file(path)) and path.endswith((SOURCE_SUFFIX, FILE_SUFFIX))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Evaluate the network of a source and add its machines.

        ansible-core turns an inventory plugin's exception into a warning, lets other plugins
        misread the file and goes on with the hosts that are left. Nothing may be deployed
        then, so an error ends the run here. Only a run that can't deploy goes on, with the
        definitions that were good last.
        """
        super().parse(inventory, loader, path)
        # Return silently so that the ini plugin does not parse it.
        if path.endswith(FILE_SUFFIX) and not _is_given_itself(path):
            return
        network = evaluation = None
        try:
            network = self._network(path)
            evaluation = self._evaluation(network, cache and self.get_option("remember"))
        except Exception as error:
            evaluation = self._last_good(network)
            needs_machines = evaluation is None and not (_is_of_others() or _runs_only(_SOURCES))
            if not _deploys_nothing() or needs_machines:
                self._end_run(path, error)
            self._tell(path, error)
        if network is None or evaluation is None:
            self.display.error("The machines of this network are missing in this run.")
            return
        try:
            self._populate(network, str(Path(path).absolute()), evaluation)
        except Exception as error:
            self._end_run(path, error)

    def _last_good(self, network: Network | None) -> Evaluation | None:
        last = last_good(network) if network is not None else None
        if network is None or last is None:
            return None
        if _deploys_nothing():
            self.display.error(
                f"This run uses the definitions of {network.name} from {last}, the last that could be evaluated."
                " Nothing can be deployed until the following error is corrected.",
                wrap_text=False,
            )
        return last.evaluation

    def _end_run(self, path: str, error: Exception) -> NoReturn:
        self._tell(path, error)
        raise SystemExit(_PARSER_ERROR) from error

    def _tell(self, path: str, error: Exception) -> None:
        if isinstance(error, OpsError):
            place = f"Name its place in {path}: nix_path: [{{entry}}]"
            if path.endswith(FILE_SUFFIX):
                place = "Name its place in NIX_PATH={entry}, or create a source with nix.ops.create -e nix_path={entry}"
            nix.explain_search_path(error, place)
        self.display.error(f"The network {path} can't be read: {error}", wrap_text=False)

    def _network(self, path: str) -> Network:
        if path.endswith(FILE_SUFFIX):
            self.set_options(direct={"plugin": self.NAME})
            return network_of_file(path)
        config = self._read_config_data(path)
        known = ("name", "uuid", "files", "flake", "arguments", "nix_path", "options", "ssh_keys")
        documented = {*known, "plugin", "hostname", "remember", *self._constructed_options()}
        if unknown := sorted(map(str, set(config) - documented)):
            raise unknown_options(unknown, sorted(documented))
        return network_of_source(path, {option: self.get_option(option) for option in known})

    @staticmethod
    def _constructed_options() -> tuple[str, ...]:
        return ("strict", "compose", "groups", "keyed_groups", "use_extra_vars", "leading_separator")

    def _populate(self, network: Network, source: str, evaluation: Evaluation) -> None:
        hosts: dict[str, tuple[str, ...]] = {}
        found: set[str] = set()
        users = _users_of_ssh(evaluation.definitions.values())
        for definition in evaluation.definitions.values():
            variables = _variables(definition, network, source, users.get(definition.name))
            variables.update(self._key_variables(definition, network, source))
            if evaluation.enable_rollback:
                variables["nix_enable_rollback"] = True
            found |= variables.keys()
            host = self._host_name(definition, variables)
            self._claim(host, definition)
            self.inventory.add_host(host)
            for name, value in variables.items():
                self.inventory.set_variable(host, name, _trusted(value))
            hosts[host] = definition.tags
        self._group(hosts, network, found)
        for host in hosts:
            self._construct(host)

    def _evaluation(self, network: Network, remember: bool) -> Evaluation:
        def show(line: str) -> None:
            self.display.display(line, stderr=True)

        # With the inputs of the last build, systems are evaluated here as the build will ask for them. Without inputs
        # the build could not use any of these systems.
        guess = last_inputs(network) if _needs_systems() else None
        if guess is None:
            return definitions(network, on_line=show, remember=remember)
        evaluation = evaluate(network, remembered=guess, on_line=show, remember=remember)
        if guess.keys() - evaluation.definitions.keys():
            keep_inputs(network, {name: one for name, one in guess.items() if name in evaluation.definitions})
        return evaluation

    def _key_variables(self, definition: Definition, network: Network, source: str) -> dict[str, Any]:
        if not definition.provision_ssh_key:
            return {}
        path = ssh_keys.path_of(network.uuid, definition.name, network.ssh_keys)
        variables = {"nix_ssh_key": path}
        if ssh_keys.vault_id(path):
            variables["nix_ssh_options"] = _DECRYPTING
        elif options := ssh_keys.ssh_options(path):
            variables["nix_ssh_options"] = shlex.join(options)
        if "nix_ssh_options" in variables and definition.ssh_options:
            variables["nix_ssh_common_args"] = shlex.join(definition.ssh_options)
            variables["ansible_ssh_common_args"] = _OFFERING
        return variables

    def _host_name(self, definition: Definition, variables: dict[str, Any]) -> str:
        template = self.get_option("hostname")
        if not template:
            return definition.name
        self.templar.available_variables = {**_DEFAULTS, **variables}
        host = str(self.templar.template(template))
        check_name(host, "name of a host")
        return host

    def _claim(self, host: str, definition: Definition) -> None:
        # A host that another source only puts into a group is the same host.
        source = self.inventory.hosts[host].vars.get("nix_network") if host in self.inventory.hosts else None
        if source is not None:
            raise OpsError(
                f"the host name {host!r} of machine {definition.name!r} is already taken, by {source}",
                next_step="Give the hosts of the sources different names, for example with the option 'hostname'.",
            )

    def _check_groups(self, network: Network, tags: Iterable[str]) -> None:
        """Refuse names that Ansible would give the same group: one could be deployed for the other."""
        deployments, others = {network.name}, set(tags)
        for host in self.inventory.hosts.values():
            deployments.add(host.vars.get("nix_deployment", network.name))
            others.update(host.vars.get("nix_tags", ()))
        for prefix, what, names in (("deployment_", "deployments", deployments), ("tag_", "tags", others)):
            groups: dict[str, str] = {}
            for name in sorted(map(str, names)):
                group = _group_name(prefix + name)
                if (other := groups.setdefault(group, name)) != name:
                    raise OpsError(
                        f"the {what} {other!r} and {name!r} would be the same group, {group}",
                        next_step="Rename one of them: in a group's name, all but letters and digits is '_'.",
                    )

    def _group(self, hosts: dict[str, tuple[str, ...]], network: Network, found: Container[str]) -> None:
        self._check_groups(network, (tag for tags in hosts.values() for tag in tags))
        for host, tags in hosts.items():
            for group in ("nixos", _deployment_group(network), *(_group_name(f"tag_{tag}") for tag in tags)):
                if group in self.inventory.hosts:
                    raise OpsError(
                        f"{group!r} is the name of a host and of a group",
                        next_step="Rename the machine, or give its host another name with the option 'hostname'.",
                    )
                self.inventory.add_group(group)
                self.inventory.add_child(group, host)
        if hosts:
            # Priority 0, so that groups of other sources win, whatever their names.
            variables = {**_GROUP_VARIABLES, "ansible_group_priority": 0, **_ssh_variables()}
            if "nix_ssh_options" in found:
                variables |= {
                    "nix_ssh_common_args": connections.setting("ssh_common_args"),
                    "ansible_ssh_common_args": _OFFERING,
                }
            for name, value in variables.items():
                self.inventory.set_variable(_deployment_group(network), name, _trusted(value))

    def _construct(self, host: str) -> None:
        strict = self.get_option("strict")
        variables = {**_DEFAULTS, **self.inventory.get_host(host).get_vars()}
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)


def _is_given_itself(path: str) -> bool:
    """Return whether the user named this source itself, not only its directory."""
    sources = context.CLIARGS.get("inventory") or constants.DEFAULT_HOST_LIST or ()
    given = [unfrackpath(source, follow=False) for source in sources if "," not in source]
    return path in given or not any(Path(one).is_dir() and path.startswith(one + "/") for one in given)


def _is_of_others() -> bool:
    """Return whether this run may be about machines of other sources alone, and names no group of networks."""
    sources = context.CLIARGS.get("inventory") or constants.DEFAULT_HOST_LIST or ()
    if len(sources) < 2 and not any(Path(source).is_dir() for source in sources):
        return False
    pattern = context.CLIARGS.get("args") if context.CLIARGS.get("module_name") else ""
    return not _WHOLE.search(str(pattern))


def _deploys_nothing() -> bool:
    """Return whether this run is a module alone, or only playbooks that list and report."""
    return bool(context.CLIARGS.get("module_name")) or _runs_only(_REPORTS)


def _runs_only(names: tuple[str, ...]) -> bool:
    """Return whether this run is of these playbooks of the collection alone."""
    # ansible-inventory has another kind of arguments: what it lists can be deployed later, by AWX.
    return "start_at_task" in context.CLIARGS and _are_all_of(names)


def _needs_systems() -> bool:
    """Return whether this run may ask for the systems of the machines."""
    return "start_at_task" in context.CLIARGS and not _are_all_of(_WITHOUT_SYSTEMS)


def _are_all_of(names: tuple[str, ...]) -> bool:
    """Return whether all playbooks of this run are some of the collection's."""
    playbooks = [str(one) for one in context.CLIARGS.get("args") or ()]
    files = [str(_PLAYBOOKS / f"{name.rpartition('.')[2]}.yml") for name in names]
    return bool(playbooks) and all(one in names or os.path.realpath(one) in files for one in playbooks)


def _ssh_variables() -> dict[str, Any]:
    """Return the variables by which ssh's commands know the host keys and the user, after the user's own options."""
    found: dict[str, Any] = {
        "nix_host_key_options": trust_as_template(_KNOWING),
        "nix_user_options": _user_options(DEFAULT_USER),
    }
    for option in ("ssh_extra_args", "sftp_extra_args", "scp_extra_args"):
        # A variable that is a template itself would be compiled in addition.
        template = f"{_KNOWING} {{{{ nix_user_options }}}}"
        if own := connections.setting(option):
            found[f"nix_{option}"] = own
            template = f"{{{{ nix_{option} }}}} {template}"
        found[f"ansible_{option}"] = trust_as_template(template)
    return found


def _user_options(user: str) -> str:
    """Return the options by which ssh logs in as a user unless Ansible names one. ssh takes the first that it gets."""
    return shlex.join(["-o", f"User={user}"])


def _deployment_group(network: Network) -> str:
    return _group_name(f"deployment_{network.name}")


def _group_name(name: str) -> str:
    return str(to_safe_group_name(name, force=True, silent=True))


def _users_of_ssh(definitions: Iterable[Definition]) -> dict[str, str]:
    """Return the users that ssh's own configuration has for machines whose network names none."""
    asked = {one.name: one for one in definitions if one.target_user is None}
    settings = [connections.setting("ssh_args"), connections.setting("ssh_common_args")]
    words = [word for value in settings for word in shlex.split(value)]
    users = configured_users(dict.fromkeys(one.target_host for one in asked.values()), words)
    return {name: users[one.target_host] for name, one in asked.items() if one.target_host in users}


def _variables(definition: Definition, network: Network, source: str, ssh_user: str | None) -> dict[str, Any]:
    variables: dict[str, Any] = {
        "ansible_host": definition.target_host,
        "nix_machine": definition.name,
        "nix_deployment": network.name,
        "nix_deployment_uuid": network.uuid,
        "nix_network": source,
        "nix_tags": list(definition.tags),
    }
    keys = {key.name: key.as_json() for key in definition.keys}
    optional = {
        "ansible_port": definition.target_port,
        "ansible_ssh_common_args": shlex.join(definition.ssh_options) or None,
        "nix_ssh_host_keys": list(definition.ssh_host_keys) or None,
        "nix_always_activate": definition.always_activate or None,
        "nix_has_fast_connection": definition.has_fast_connection,
        "nix_build_on_target": definition.build_on_target or None,
        "nix_owners": list(definition.owners) or None,
        "nix_health_checks": None if definition.health_checks is None else dict(definition.health_checks),
        "nix_deployment_keys": keys or None,
    }
    variables |= {name: value for name, value in optional.items() if value is not None}
    if definition.target_user is not None:
        variables["ansible_user"] = definition.target_user
    elif ssh_user is not None:
        variables |= {"nix_ssh_user": ssh_user, "nix_user_options": _user_options(ssh_user)}
    if (definition.target_user or ssh_user or DEFAULT_USER) != DEFAULT_USER:
        variables.update(_become(definition.privilege_escalation_command))
    return variables


def _trusted(value: Any) -> Any:
    """Mark strings that can't be templates as trusted: ansible-inventory lists all others wrapped."""
    if isinstance(value, list):
        return [_trusted(one) for one in value]
    if isinstance(value, dict):
        return {name: _trusted(one) for name, one in value.items()}
    if isinstance(value, str) and "{" not in value and "#" not in value:
        return trust_as_template(value)
    return value


def _become(command: tuple[str, ...]) -> dict[str, Any]:
    program, *words = command
    plain = words[:-1] if words[-1:] == ["--"] else words
    if program != "sudo" or not _PLAIN_SUDO_OPTIONS.issuperset(plain):
        return {
            "ansible_become": True,
            "ansible_become_method": "nix.ops.command",
            "nix_privilege_escalation_command": list(command),
        }
    # Without these options sudo would wait for a terminal.
    unattended = [flag for flag in ("-S", "-n") if flag not in plain]
    return {
        "ansible_become": True,
        "ansible_become_method": "sudo",
        "ansible_become_flags": shlex.join([*plain, *unattended]),
    }
