# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of networks: a network, its machines, their remembered inputs, and what is built."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

_MACHINE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*")
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]*\$?")
# A part of a key's unit, NAME-key.service (systemd.unit(5)).
_KEY_NAME = re.compile(r"[A-Za-z0-9:_.][A-Za-z0-9:_.-]{0,199}")
# Without control characters, parts that lead elsewhere, and what systemd expands or unquotes in a path.
_KEY_PATH = re.compile(r"""(?:/(?!\.\.?(?:/|$))[^/\x00-\x20\x7f\\%"']{1,200})+""")
_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?")
# As chmod takes them: octal or symbolic.
_PERMISSIONS = re.compile(r"[0-7]{3,4}|[ugoa]*[-+=][rwxXst]*(?:,[ugoa]*[-+=][rwxXst]*)*")
# The forms of remembered inputs.
STATE_VERSION = re.compile(r"[0-9]{2}\.[0-9]{2}")
PUBLIC_KEY = re.compile(r"[a-z0-9@.-]+ [A-Za-z0-9+/=]{40,2000}( [ -~]*)?")

# Names become names of files, of which Linux allows 255 bytes.
_LONGEST_NAME = 200

_DEPLOYMENT_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{_LONGEST_NAME - 1}}}")

# Names with a special meaning for Ansible.
_RESERVED = frozenset({"all", "ungrouped", "localhost", "omit"})


@dataclass(frozen=True)
class Network:
    """A network to evaluate.

    :param name: the deployment's name.
    :param uuid: the deployment's UUID.
    :param files: absolute paths of the network files; empty for a flake.
    :param flake: reference of a flake whose nixosConfigurations are the machines.
    :param arguments: JSON values for network files that are functions.
    :param nix_path: search path entries that come before NIX_PATH.
    :param options: settings of Nix.
    :param ssh_keys: absolute path of the directory of the private SSH keys, if the source names one.
    """

    name: str
    uuid: str
    files: tuple[str, ...] = ()
    flake: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    nix_path: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    ssh_keys: str | None = None

    def __post_init__(self) -> None:
        if not _DEPLOYMENT_NAME.fullmatch(self.name):
            raise OpsError(
                f"{self.name!r} is not a valid name of a deployment",
                next_step=f"Use at most {_LONGEST_NAME} letters, digits, '_', '-' and '.', beginning with a letter, a"
                " digit or '_'.",
            )
        if bool(self.files) == bool(self.flake):
            raise OpsError(f"deployment {self.name} needs either files or a flake")


@dataclass(frozen=True)
class Remembered:
    """The remembered inputs of one machine.

    :param state_version: the NixOS release the machine was first seen with.
    :param ssh_public_key: the key of the deployment that may log in as root.
    """

    state_version: str | None = None
    ssh_public_key: str | None = None

    def as_json(self) -> dict[str, str]:
        """Return the known inputs, named as in the Nix expressions."""
        known = {"stateVersion": self.state_version, "sshPublicKey": self.ssh_public_key}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True)
class Derivation:
    """A derivation and its output path."""

    drv_path: str
    out_path: str


@dataclass(frozen=True)
class Key:
    """A key of deployment.keys, without its content.

    :param path: its path on the machine.
    :param permissions: its mode, as chmod takes it.
    :param after: whether a deploy sends it after the acknowledgement instead of before the switch.
    :param file: the file on the controller with its content, if the network names one.
    :param source: which option of the network gives its content: ``text``, ``keyFile`` or ``keyCommand``; None if the
        network gives none.
    """

    name: str
    path: str
    user: str = "root"
    group: str = "root"
    permissions: str = "0600"
    after: bool = False
    file: str | None = None
    source: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the key as the host variable ``nix_deployment_keys`` has it."""
        return {name: value for name, value in asdict(self).items() if name != "name"}


@dataclass(frozen=True)
class Definition:
    """What the network says about one machine, except its system.

    :param target_port: None if the network does not set it, so that ssh's own configuration counts.
    :param target_user: None if the network does not set it.
    :param ssh_host_keys: public keys of the machine's SSH server, in one line each.
    :param always_activate: whether the network sets deployment.alwaysActivate; its default does not count.
    :param has_fast_connection: None if the network does not set deployment.hasFastConnection.
    :param build_on_target: whether the machine builds its own system.
    :param health_checks: deployment.healthChecks as JSON values, named as in the host variable
        ``nix_health_checks``; None if there are no checks.
    :param keys: deployment.keys without their contents.
    :param address: networking.publicIPv4, if the network sets it.
    """

    name: str
    target_env: str
    target_host: str
    target_port: int | None
    target_user: str | None
    ssh_options: tuple[str, ...]
    ssh_host_keys: tuple[str, ...]
    privilege_escalation_command: tuple[str, ...]
    provision_ssh_key: bool
    always_activate: bool
    owners: tuple[str, ...]
    tags: tuple[str, ...]
    nixos_release: str
    health_checks: Mapping[str, Any] | None = None
    keys: tuple[Key, ...] = ()
    has_fast_connection: bool | None = None
    build_on_target: bool = False
    address: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating a network.

    :param description: network.description.
    :param definitions: all machines of the network, by name.
    :param derivations: derivations of the machines whose systems were evaluated.
    :param messages: Nix's warnings and traces.
    :param enable_rollback: network.enableRollback: whether the controller keeps the systems of earlier deploys.
    """

    description: str
    definitions: Mapping[str, Definition]
    derivations: Mapping[str, Derivation]
    messages: tuple[str, ...] = ()
    enable_rollback: bool = False


@dataclass(frozen=True)
class Expression:
    """Something to build that is not a network: an expression, a file or a flake.

    :param expression: text of a Nix expression, read relative to the working directory.
    :param file: path of a Nix file.
    :param flake: a flake reference, without the `#attribute`.
    :param attribute: path of the attribute.
    :param arguments: JSON values for functions.
    """

    expression: str | None = None
    file: str | None = None
    flake: str | None = None
    attribute: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    nix_path: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.expression, self.file, self.flake)) != 1:
            raise OpsError("give exactly one of an expression, a file and a flake reference")


def check_name(name: str, what: str = "name of a machine") -> None:
    """Refuse a name that Ansible or a shell could misread.

    :param what: what the name is for, in the message.
    :raises OpsError: if it is such a name.
    """
    if len(name) > _LONGEST_NAME:
        raise OpsError(
            f"{name[:40]}... is not a valid {what}: it has {len(name)} characters",
            next_step=f"Use at most {_LONGEST_NAME} characters.",
        )
    if not _MACHINE_NAME.fullmatch(name) or name.lower() in _RESERVED:
        raise OpsError(
            f"{name!r} is not a valid {what}: Ansible or a shell could misread it",
            next_step="Use letters, digits, '_', '-' and '.', beginning with a letter, a digit or '_'.",
        )


def evaluation_of(answer: Mapping[str, Any], messages: tuple[str, ...]) -> Evaluation:
    """Check Nix's answer and return it as an evaluation.

    :param answer: the JSON values of evaluation.nix.
    :raises OpsError: if a definition has a value that is not supported; the message names its option.
    """
    for name in answer["definitions"]:
        check_name(name)
    return Evaluation(
        description=answer["network"]["description"],
        definitions={name: _definition(name, one) for name, one in answer["definitions"].items()},
        derivations={name: Derivation(one["drv"], one["out"]) for name, one in answer["derivations"].items()},
        messages=messages,
        # A flake's own configurations have no network.
        enable_rollback=answer["network"].get("enableRollback") is True,
    )


def _definition(name: str, answer: Mapping[str, Any]) -> Definition:
    read = _Answer(name, answer)
    definition = Definition(
        name=name,
        target_env=read.text("targetEnv"),
        target_host=read.text("targetHost"),
        target_port=None if answer["targetPort"] is None else read.number("targetPort"),
        target_user=None if answer["targetUser"] is None else read.text("targetUser"),
        ssh_options=read.texts("sshOptions"),
        ssh_host_keys=read.public_keys("sshHostKeys"),
        privilege_escalation_command=read.texts("privilegeEscalationCommand"),
        provision_ssh_key=read.truth("provisionSSHKey"),
        always_activate=read.truth("alwaysActivate"),
        has_fast_connection=None if answer["hasFastConnection"] is None else read.truth("hasFastConnection"),
        build_on_target=read.truth("buildOnTarget"),
        owners=read.texts("owners"),
        tags=read.texts("tags"),
        nixos_release=answer["nixosRelease"],
        health_checks=_health_checks(answer["healthChecks"]),
        keys=_keys(name, answer["keys"]),
        address=answer["address"],
    )
    _check(definition, read.texts("unsupported"))
    return definition


@dataclass(frozen=True)
class _Answer:
    """Reads a machine's options. Another tool may have declared them with another type."""

    machine: str
    options: Mapping[str, Any]

    def text(self, option: str) -> str:
        return str(self._checked(option, str, "a text"))

    def number(self, option: str) -> int:
        # True is a number to Python.
        return int(self._checked(option, int, "a whole number", refused=bool))

    def truth(self, option: str) -> bool:
        return bool(self._checked(option, bool, "true or false"))

    def texts(self, option: str) -> tuple[str, ...]:
        texts = self._checked(option, list, "a list of texts")
        if not all(isinstance(text, str) for text in texts):
            self._refuse(option, "a list of texts")
        return tuple(texts)

    def public_keys(self, option: str) -> tuple[str, ...]:
        keys = tuple(text.strip() for text in self.texts(option))
        if not all(PUBLIC_KEY.fullmatch(key) for key in keys):
            self._refuse(option, "a list of public keys, each in one line")
        return keys

    def _checked(self, option: str, wanted: type, words: str, *, refused: type | None = None) -> Any:
        value = self.options[option]
        if not isinstance(value, wanted) or (refused is not None and isinstance(value, refused)):
            self._refuse(option, words)
        return value

    def _refuse(self, option: str, words: str) -> NoReturn:
        # Its value may be secret.
        found = type(self.options[option]).__name__
        raise OpsError(
            f"deployment.{option} is not {words} (JSON type {found})",
            machine=self.machine,
            state="no machine was touched",
            next_step=f"Set deployment.{option} to {words}. The option may be another tool's.",
        )


def _health_checks(answer: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    words = {"validateCerts": "validate_certs"}
    http = [{words.get(name, name): value for name, value in check.items()} for check in answer["http"]]
    return {**answer, "http": http}


def _keys(machine: str, answer: Any) -> tuple[Key, ...]:
    """Read the keys of a machine, as definition.nix gives them.

    :raises OpsError: if one has two contents, or as :func:`check_keys`.
    """
    parts = {*_KEY_OPTIONS, "uploadAt", "keyFile", "sources"}
    if not isinstance(answer, Mapping) or not all(
        isinstance(one, Mapping) and parts <= one.keys() and isinstance(one["sources"], list) for one in answer.values()
    ):
        raise _refused_keys(
            machine, "keys is not a set of keys", "Set it to keys, each with a name. The option may be another tool's."
        )
    for name, one in answer.items():
        if len(one["sources"]) > 1:
            raise _refused_keys(
                machine, f"keys.{name} has several contents: {', '.join(one['sources'])}", "Leave one of them."
            )
    keys = tuple(
        Key(
            name,
            **{option: one[option] for option in _KEY_OPTIONS},
            after=one["uploadAt"] == "post-activation",
            file=one["keyFile"],
            source=next(iter(one["sources"]), None),
        )
        for name, one in sorted(answer.items())
    )
    check_keys(machine, keys)
    return keys


_KEY_OPTIONS = {"path": _KEY_PATH, "user": _OWNER, "group": _OWNER, "permissions": _PERMISSIONS}


def check_keys(machine: str, keys: Sequence[Key]) -> None:
    """Refuse keys whose names, paths or owners are not valid, and two keys with one path.

    :param machine: the machine's name, for messages.
    :raises OpsError: naming the key and the option.
    """
    paths: dict[str, str] = {}
    for key in keys:
        if not _KEY_NAME.fullmatch(key.name):
            raise _refused_keys(
                machine,
                f"keys.{key.name} is not a valid name of a key",
                "Use letters, digits and : _ . -, since it names a unit.",
            )
        for option, pattern in _KEY_OPTIONS.items():
            value = getattr(key, option)
            if not isinstance(value, str) or not pattern.fullmatch(value):
                name = f"keys.{key.name}.{option}"
                raise _refused_keys(machine, f"{name} is {value!r}, which is not valid", f"Correct deployment.{name}.")
        if (other := paths.setdefault(key.path, key.name)) != key.name:
            raise _refused_keys(
                machine,
                f"keys.{key.name} has the path of deployment.keys.{other}, {key.path}",
                "Give each key its own path.",
            )


def _refused_keys(machine: str, what: str, next_step: str) -> OpsError:
    return OpsError(f"deployment.{what}", machine=machine, state="no machine was touched", next_step=next_step)


def _check(definition: Definition, unsupported: Sequence[str]) -> None:
    def refuse(option: str, why: str, next_step: str) -> None:
        raise OpsError(f"deployment.{option} {why}", machine=definition.name, next_step=next_step)

    if definition.target_env != "none":
        refuse(
            "targetEnv",
            f"is {definition.target_env!r}, but only machines that exist already ('none') are supported",
            'Set deployment.targetEnv = "none", or leave it out.',
        )
    if not HOST.fullmatch(definition.target_host):
        refuse(
            "targetHost",
            f"is {definition.target_host!r}, which is not a host name or address",
            "Set it to the name or address by which the controller reaches the machine.",
        )
    if definition.target_port is not None and not 0 < definition.target_port < 65536:
        refuse(
            "targetPort", f"is {definition.target_port}, which is not a TCP port", "Set it to the SSH server's port."
        )
    if definition.target_user is not None and not USER.fullmatch(definition.target_user):
        refuse(
            "targetUser",
            f"is {definition.target_user!r}, which is not a user name",
            "Set it to the user of the SSH connection.",
        )
    if definition.target_user not in (None, "root") and not definition.privilege_escalation_command:
        refuse(
            "privilegeEscalationCommand",
            f"is empty, but {definition.target_user!r} has to become root",
            'Name a command, for example [ "sudo" "-H" "--" ].',
        )
    for option in unsupported:
        refuse(option, "is not supported, only its default", f"Remove deployment.{option} from the network.")
