# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks to definitions and derivations."""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.nix.ops.plugins.doc_fragments.settings import ModuleDocFragment
from ansible_collections.nix.ops.plugins.plugin_utils import nix, process
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import (
    bounded,
    checkouts,
    evaluation,
    memory,
    settings,
    workers,
)
from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluation import (
    definitions,
    evaluate,
    instantiate,
    instantiate_each,
    instantiate_expression,
    key_contents,
)
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import (
    Derivation,
    Evaluation,
    Expression,
    Key,
    Network,
    Remembered,
    check_keys,
)
from ansible_collections.nix.ops.plugins.plugin_utils.network.source import network_of_source
from ansible_collections.nix.ops.plugins.plugin_utils.network.workers import Cost, Meter
from networks.support import NETWORKS, NIX_PATH, write


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / ".cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.delenv("NIX_PATH", raising=False)
    monkeypatch.setattr(evaluation, "_answers", {})
    # The tests' files are older than their evaluation, if only by a moment.
    monkeypatch.setattr(bounded, "_TICK", 0)
    yield


def network(*files: str | Path, **more: Any) -> Network:
    return Network("example", "11111111-2222-3333-4444-555555555555", tuple(map(str, files)), nix_path=NIX_PATH, **more)


def test_always_activate_is_what_the_network_itself_says(tmp_path: Path) -> None:
    (file,) = write(
        tmp_path,
        n="""{
          silent = { };
          yes.deployment.alwaysActivate = true;
          perhaps = { lib, ... }: { deployment.alwaysActivate = lib.mkDefault true; };
          no.deployment.alwaysActivate = false;
        }""",
    )
    found = evaluate(network(file)).definitions
    assert {name for name, one in found.items() if one.always_activate} == {"yes", "perhaps"}


def test_the_connection_is_fast_or_slow_where_the_network_itself_says_so(tmp_path: Path) -> None:
    (file,) = write(
        tmp_path,
        n="""{
          silent = { };
          fast.deployment.hasFastConnection = true;
          slow = { deployment.hasFastConnection = false; deployment.buildOnTarget = true; };
        }""",
    )
    found = evaluate(network(file)).definitions
    assert {name: (one.has_fast_connection, one.build_on_target) for name, one in found.items()} == {
        "silent": (None, False),
        "fast": (True, False),
        "slow": (False, True),
    }


def test_target_user_is_what_the_network_itself_says(tmp_path: Path) -> None:
    (file,) = write(
        tmp_path,
        n="""{
          silent = { };
          root.deployment.targetUser = "root";
          perhaps = { lib, ... }: { deployment.targetUser = lib.mkDefault "deploy"; };
        }""",
    )
    found = evaluate(network(file)).definitions
    assert {name: one.target_user for name, one in found.items()} == {
        "silent": None,
        "root": "root",
        "perhaps": "deploy",
    }


def test_health_checks_are_told_with_their_defaults(tmp_path: Path) -> None:
    (file,) = write(
        tmp_path,
        n="""{
          silent.deployment.healthChecks.deadline = 5;
          some.deployment.healthChecks = {
            units = [ "one" "two.timer" "a@b.c" ];
            tcp = [ 22 65535 ];
            http = [
              "http://some.example.org/"
              {
                url = "https://some.example.org:8443/status";
                status = [ 200 204 ];
                contains = "fine";
                headers.Accept = "text/plain";
                validateCerts = false;
              }
            ];
          };
          merged = {
            imports = [ { deployment.healthChecks = { commands = [ "true" ]; stable = 0; }; } ];
            deployment.healthChecks = { commands = [ "test -e '/a b'" ]; successes = 2; interval = 4; deadline = 9; };
          };
        }""",
    )
    found = {name: one.health_checks for name, one in evaluate(network(file)).definitions.items()}
    merged = found.pop("merged")
    assert merged is not None
    assert set(merged["commands"]) == {"true", "test -e '/a b'"}
    assert [merged[name] for name in ("stable", "successes", "interval", "deadline")] == [0, 2, 4, 9]
    assert found == {
        "silent": None,
        "some": {
            "units": ["one.service", "two.timer", "a@b.c.service"],
            "commands": [],
            "tcp": [22, 65535],
            "http": [
                {
                    "url": "http://some.example.org/",
                    "status": [200],
                    "contains": None,
                    "headers": {},
                    "validate_certs": True,
                },
                {
                    "url": "https://some.example.org:8443/status",
                    "status": [200, 204],
                    "contains": "fine",
                    "headers": {"Accept": "text/plain"},
                    "validate_certs": False,
                },
            ],
            "stable": 3,
            "successes": 1,
            "interval": 1,
            "deadline": 60,
        },
    }


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("tcp = [ 22 0 ];", 'tcp."[definition 1-entry 2]"\' is not of type `integer between 1 and 65535'),
        ('units = [ "-x" ];', 'units."[definition 1-entry 1]"\' is not of type `string matching the pattern'),
        (
            'http = [ "example.org" ];',
            'http."[definition 1-entry 1]".url\' is not of type `string matching the pattern',
        ),
        ('http = [ { url = "http://x"; status = [ ]; } ];', "status' is not of type `non-empty list of"),
        ("commands = [ 1 ];", 'commands."[definition 1-entry 1]"\' is not of type `string'),
        ('units = [ "one" ]; deadline = 0;', "deadline' is not of type `positive integer, meaning >0'"),
        ('units = [ "one" ]; unit = "two";', "`deployment.healthChecks.unit' does not exist"),
    ],
)
def test_mistaken_health_check_is_refused_as_nix_says_it(tmp_path: Path, check: str, said: str) -> None:
    (file,) = write(tmp_path, n=f"{{ machine.deployment.healthChecks = {{ {check} }}; }}")
    with pytest.raises(OpsError) as error:
        evaluate(network(file))
    assert said in str(error.value)
    assert f"In `{file}'" in str(error.value)


def test_mistake_in_a_health_check_is_shown_with_file_and_line(tmp_path: Path) -> None:
    (file,) = write(tmp_path, n="{\n  machine.deployment.healthChecks = {\n    commands = [ (oops + 1) ];\n  };\n}\n")
    with pytest.raises(OpsError) as error:
        evaluate(network(file))
    assert "undefined variable 'oops'" in str(error.value)
    assert f"{file}:3:" in str(error.value)


def test_what_a_health_check_refers_to_is_in_the_closure_and_nothing_else_is(tmp_path: Path) -> None:
    def answer(name: str, commands: str) -> tuple[Derivation, list[str]]:
        (file,) = write(
            tmp_path,
            **{name: f"{{ machine = {{ pkgs, ... }}: {{ deployment.healthChecks.commands = {commands}; }}; }}"},
        )
        evaluation = evaluate(network(file))
        checks = evaluation.definitions["machine"].health_checks
        return evaluation.derivations["machine"], checks["commands"] if checks else []

    def inputs(derivation: Derivation) -> str:
        asked = nix.run(["nix-store", "--query", "--requisites", derivation.drv_path], env={})
        return asked.stdout

    none, _commands = answer("none", "[ ]")
    plain, commands = answer("plain", '[ "true" ]')
    assert (plain, commands) == (none, ["true"])
    referring, [first, second] = answer("referring", '[ "true" "${pkgs.hello}/bin/hello >/dev/null" ]')
    assert first == "true"
    assert second.startswith("/nix/store/")
    assert second.endswith("-hello-2.12.1/bin/hello >/dev/null")
    assert referring != none
    assert "-hello-2.12.1.drv" in inputs(referring)
    assert "-hello-2.12.1.drv" not in inputs(none)


def test_boot_guard_is_a_unit_of_every_machine_that_boots_by_itself(tmp_path: Path) -> None:
    (file,) = write(
        tmp_path,
        n="""{
          machine = { config, ... }: {
            deployment.owners = [ config.systemd.units."nix-ops-boot-guard.service".text ];
          };
          container = { config, ... }: {
            boot.isContainer = true;
            deployment.owners = builtins.filter (name: name == "nix-ops-boot-guard") (
              builtins.attrNames config.systemd.services
            );
          };
        }""",
    )
    found = evaluate(network(file)).definitions
    assert found["container"].owners == ()
    lines = found["machine"].owners[0].splitlines()
    assert {
        "DefaultDependencies=false",
        "IgnoreOnIsolate=true",
        "ConditionPathExists=/nix/var/nix/nix-ops/trial",
        "X-StopOnRemoval=false",
        "X-RestartIfChanged=false",
    } <= set(lines)
    assert not [line for line in lines if line.startswith(("After=", "Requires=", "Wants="))]


def test_a_system_that_can_not_be_switched_to_is_refused_by_name(tmp_path: Path) -> None:
    (file,) = write(tmp_path, n="{ fixed = { system.switch.enable = false; }; other = { }; }")
    assert instantiate(network(file), ["other"])["other"].out_path
    with pytest.raises(OpsError, match=r"machine 'fixed' can't be switched to: it sets system\.switch\.enable"):
        instantiate(network(file), ["fixed"])


def test_state_version_is_a_remembered_one_or_nixpkgs_own_affair(tmp_path: Path) -> None:
    (file,) = write(
        tmp_path,
        n="{ m = { config, options, ... }: { deployment.owners = [\n"
        "  config.system.stateVersion (toString options.system.stateVersion.highestPrio)\n"
        "]; }; }",
    )
    silent = evaluate(network(file))
    assert silent.definitions["m"].owners == ("24.05", "1500")
    assert "system.stateVersion is not set" in "".join(silent.messages)
    remembered = evaluate(network(file), remembered={"m": Remembered(state_version="22.11")})
    assert remembered.definitions["m"].owners == ("22.11", "1400")
    assert "system.stateVersion is not set" not in "".join(remembered.messages)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The evaluations that Nix answered."""
    seen: list[tuple[str, ...]] = []

    def spy(argv: list[str], **more: Any) -> process.Completed:
        completed = process.run(argv, **more)
        if completed.exit_code == 0 and argv[0] == "nix-instantiate":
            seen.append(tuple(argv))
        return completed

    monkeypatch.setattr(nix, "run", spy)
    return seen


def test_files_are_merged_and_answer_as_nixops_options_do() -> None:
    example = NETWORKS / "example"
    answer = evaluate(network(example / "target.nix", example / "config.nix"))

    assert (answer.description, answer.enable_rollback) == ("two machines", True)
    web, db = answer.definitions["web"], answer.definitions["db"]
    assert (web.target_host, web.target_port, web.target_user) == ("10.0.0.1", 2222, "deploy")
    assert web.ssh_options == ("-o", "ServerAliveInterval=5")
    assert (web.tags, web.owners) == (("front-end",), ("ops@example.org",))
    assert (db.target_host, db.target_port, db.target_user) == ("db", 2200, None)
    assert db.privilege_escalation_command == ("sudo", "-H", "--")
    assert (db.provision_ssh_key, db.always_activate) == (True, False)
    assert (db.target_env, db.nixos_release) == ("none", "24.05")
    assert all(Path(one.drv_path).exists() for one in answer.derivations.values())
    assert set(answer.derivations) == {"web", "db"}


def test_require_closes_over_files_and_modules_get_their_arguments() -> None:
    definition = evaluate(network(NETWORKS / "require" / "network.nix")).definitions["machine"]
    assert definition.target_port == 2022
    assert definition.tags == (
        "machine",
        "11111111-2222-3333-4444-555555555555",
        "example",
        "machine",
        "machine",
    )


def test_target_host_weighs_as_in_nixops(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        n="""{
          named.networking.hostName = "other";
          default = { lib, ... }: { deployment.targetHost = lib.mkDefault "loses"; };
          stronger = { lib, ... }: { deployment.targetHost = lib.mkOverride 800 "wins"; };
        }""",
    )
    hosts = {name: one.target_host for name, one in evaluate(network(*files)).definitions.items()}
    assert hosts == {"named": "named", "default": "default", "stronger": "wins"}


def test_function_gets_its_arguments_and_defaults() -> None:
    file = NETWORKS / "function.nix"
    definition = evaluate(network(file, arguments={"tag": "a"})).definitions["machine"]
    assert (definition.target_port, definition.tags) == (22, ("a",))
    definition = evaluate(network(file, arguments={"tag": "a b $(x) ${y} \"'", "port": 23})).definitions["machine"]
    assert (definition.target_port, definition.tags) == (23, ("a b $(x) ${y} \"'",))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({}, "required argument 'tag'"), ({"tag": "a", "tga": "b"}, "unexpected argument 'tga'")],
)
def test_wrong_arguments_are_named(arguments: dict[str, str], said: str) -> None:
    with pytest.raises(OpsError) as error:
        evaluate(network(NETWORKS / "function.nix", arguments=arguments))
    assert said in str(error.value)
    assert str(NETWORKS / "function.nix") in str(error.value)


def test_arguments_of_a_network_that_takes_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="takes no arguments, but was given: unused"):
        evaluate(network(*write(tmp_path, n="{ machine = { }; }"), arguments={"unused": 1}))


def test_keys_have_everything_but_their_contents(tmp_path: Path) -> None:
    marker = "marker-of-the-test"
    (file,) = write(
        tmp_path,
        n=f"""{{
          machine.deployment.keys = {{
            old = "{marker}";
            text = {{ text = "{marker}"; user = "web"; group = "keys"; permissions = "0640"; }};
            file = {{ keyFile = ./secret; destDir = "/var/lib/secrets"; }};
            command = {{ keyCommand = [ "echo" "{marker}" ]; uploadAt = "post-activation"; }};
            given = {{ }};
          }};
        }}""",
    )
    (tmp_path / "secret").write_text(marker, encoding="utf-8")
    found = evaluate(network(file)).definitions["machine"]
    assert found.keys == (
        Key("command", "/run/keys/command", after=True, source="keyCommand"),
        Key("file", "/var/lib/secrets/file", file=str(tmp_path / "secret"), source="keyFile"),
        Key("given", "/run/keys/given"),
        Key("old", "/run/keys/old", source="text"),
        Key("text", "/run/keys/text", "web", "keys", "0640", source="text"),
    )
    contents = key_contents(network(file), {"machine": ["text", "command"]})
    assert contents["machine"] == {
        "text": {"text": marker, "command": None},
        "command": {"text": None, "command": ["echo", marker]},
    }
    kept = [path for path in (tmp_path / ".cache").rglob("*") if path.is_file()]
    assert kept and not [path for path in kept if marker.encode() in path.read_bytes()]
    # Neither the system nor a path literal has brought them to the store.
    [derivation] = instantiate(network(file), ["machine"]).values()
    assert not [path for path in nix.requisites([derivation.drv_path], env={}) if path.endswith("-secret")]


def test_networks_in_the_manner_of_nixops_and_of_colmena_have_the_same_keys(tmp_path: Path) -> None:
    machine = """{ config, nodes, name, ... }: {
      deployment.targetHost = "192.0.2.1";
      deployment.keys.db-password = { text = "x"; user = "postgres"; group = "keys"; permissions = "0440"; };
      deployment.keys."token.secret" = { keyCommand = [ "pass" "token" ]; destDir = "/var/lib/secrets"; MORE };
      users.users.postgres = { isSystemUser = true; group = "keys"; extraGroups = [ "keys" ]; };
      systemd.services.app = rec {
        after = [ "db-password-key.service" "keys.target" ];
        requires = [ "db-password-key.service" ];
        script = "cat ${config.deployment.keys.db-password.path}";
      };
    }"""
    defaults = 'defaults = { system.stateVersion = "24.05"; };'
    nixops, hive = write(
        tmp_path,
        nixops=f'{{ network.description = "Web"; {defaults} web = {machine.replace("MORE", "")}; }}',
        hive=f"""{{
          meta = {{ description = "Web"; nixpkgs = import <nixpkgs> {{ }}; specialArgs = {{ mail = "web"; }}; }};
          {defaults}
          web = {{ mail, ... }}: {{ imports = [ ({machine.replace("MORE", 'uploadAt = "post-activation";')}) ]; }};
        }}""",
    )
    expected = (
        Key("db-password", "/run/keys/db-password", "postgres", "keys", "0440", source="text"),
        Key("token.secret", "/var/lib/secrets/token.secret", source="keyCommand"),
    )
    found = evaluate(network(nixops))
    assert found.definitions["web"].keys == expected
    of_hive = evaluate(network(hive))
    assert (list(of_hive.definitions), of_hive.description) == (["web"], "Web")
    assert of_hive.definitions["web"].keys == (expected[0], replace(expected[1], after=True))
    assert of_hive.derivations["web"] == found.derivations["web"]
    (own,) = write(tmp_path, own="{ meta = { nodeNixpkgs.web = <nixpkgs>; nixpkgs = <nixpkgs>; }; web = { }; }")
    with pytest.raises(OpsError, match=r"meta\.nodeNixpkgs"):
        evaluate(network(own))
    (machine_meta,) = write(tmp_path, other='{ meta = { system.stateVersion = "24.05"; }; }')
    assert list(evaluate(network(machine_meta)).definitions) == ["meta"]


def test_contents_of_keys_come_from_the_project_alone_if_the_user_wants_that(tmp_path: Path) -> None:
    project, outside = tmp_path / "project", tmp_path / "outside"
    project.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("secret of the controller", encoding="utf-8")
    (project / "secret").write_text("of the project", encoding="utf-8")
    (project / "link").symlink_to(outside / "secret")
    texts = {
        "inside": "builtins.readFile ./secret",
        "outside": f"builtins.readFile {outside}/secret",
        "link": "builtins.readFile ./link",
        "above": "builtins.readFile ../outside/secret",
        "fetched": f'builtins.readFile (builtins.fetchurl "file://{outside}/secret")',
        "copied": f'builtins.readFile (builtins.path {{ path = "{outside}"; }} + "/secret")',
        "imported": f"(import {outside}/secret)",
    }
    lines = "".join(f"deployment.keys.{name}.text = {text};" for name, text in texts.items())
    (file,) = write(project, n=f"{{ machine = {{ {lines} }}; }}")
    assert key_contents(network(file), {"machine": ["outside"]})["machine"]["outside"]["text"]
    inside = key_contents(network(file), {"machine": ["inside"]}, project=str(project))
    assert inside["machine"]["inside"]["text"] == "of the project"
    for name in texts.keys() - {"inside"}:
        with pytest.raises(OpsError, match=r"forbidden|not allowed") as refused:
            key_contents(network(file), {"machine": [name]}, project=str(project))
        assert "secret of the controller" not in str(refused.value)
        if name == "outside":
            assert "(deploy_key_files)" in str(refused.value)
    with pytest.raises(OpsError, match=r"nix_path of the source names .*/outside, outside of the project"):
        key_contents(replace(network(file), nix_path=(f"x={outside}",)), {"machine": ["inside"]}, project=str(project))


def test_argument_values_are_seen_by_nix_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hunter2-of-the-test"
    inputs: list[Path] = []

    def spy(argv: list[str], **more: Any) -> process.Completed:
        inputs.append(Path(argv[argv.index("inputs") + 1]))
        assert not [word for word in argv if secret in word]
        assert stat.S_IMODE(inputs[-1].stat().st_mode) == 0o600
        assert stat.S_IMODE(inputs[-1].parent.stat().st_mode) == 0o700
        return process.run(argv, **more)

    monkeypatch.setattr(nix, "run", spy)
    files = write(
        tmp_path, n="{ secret }: { machine.deployment.owners = [ (toString (builtins.stringLength secret)) ]; }"
    )
    answer = evaluate(network(*files, arguments={"secret": secret}))
    assert answer.definitions["machine"].owners == (str(len(secret)),)
    kept = [path for path in (tmp_path / ".cache").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    assert not [path for path in kept if secret in path.read_text(encoding="utf-8")]
    with pytest.raises(OpsError) as error:
        evaluate(network(*files, arguments={"secret": secret, "other": secret}))
    assert secret not in str(error.value)
    assert not [path for path in inputs if path.parent.exists()]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ('deployment.targetHost = "";', "deployment.targetHost is ''"),
        ('deployment.targetHost = "-oProxyCommand=touch /tmp/x";', "deployment.targetHost is '-oProxyCommand"),
        ('deployment.targetHost = "a b";', "deployment.targetHost is 'a b'"),
        ('deployment.targetHost = "$(reboot)";', "deployment.targetHost is '$(reboot)'"),
        ('deployment.targetHost = "a\\n";', "deployment.targetHost is 'a\\n'"),
        ("deployment.targetPort = 70000;", "deployment.targetPort is 70000"),
        ("deployment.targetPort = 0;", "deployment.targetPort is 0"),
        ('deployment.targetUser = "-x";', "deployment.targetUser is '-x'"),
        ('deployment.targetUser = "-oProxyCommand=touch /tmp/x";', "deployment.targetUser is '-oProxyCommand"),
        ('deployment.targetUser = "root;touch /tmp/x";', "deployment.targetUser is 'root;touch /tmp/x'"),
        ('deployment.targetEnv = "ec2";', "deployment.targetEnv is 'ec2'"),
        (
            'deployment.keys = { a.text = "x"; b = { text = "x"; path = "/run/keys/a"; }; };',
            "deployment.keys.b has the path of deployment.keys.a, /run/keys/a",
        ),
        (
            'deployment.keys.a = { text = "x"; keyFile = "/x"; };',
            "deployment.keys.a has several contents: text, keyFile",
        ),
        ('deployment.keys."a/b".text = "x";', "deployment.keys.a/b is not a valid name"),
        ('deployment.keys.a = { text = "x"; destDir = "/run/../etc"; };', "deployment.keys.a.path is '/run/../etc/a'"),
        ('deployment.keys.a = { text = "x"; name = "b c"; };', "deployment.keys.a.path is '/run/keys/b c'"),
        ('deployment.keys.a = { text = "x"; user = "-x"; };', "deployment.keys.a.user is '-x'"),
        ('deployment.keys.a = { text = "x"; permissions = "0600;"; };', "deployment.keys.a.permissions is '0600;'"),
        (
            'deployment.targetUser = "me"; deployment.privilegeEscalationCommand = [ ];',
            "deployment.privilegeEscalationCommand is empty",
        ),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(tmp_path: Path, module: str, said: str) -> None:
    with pytest.raises(OpsError) as error:
        evaluate(network(*write(tmp_path, n=f"{{ machine = {{ {module} }}; }}")))
    assert str(error.value).startswith(f"machine: {said}")
    assert error.value.next_step


@pytest.mark.parametrize("sign", ["%", '"', "'", "\\", " ", "\n"])
def test_path_of_a_key_that_systemd_would_read_otherwise_is_refused(sign: str) -> None:
    check_keys("machine", [Key("a", "/var/lib/a$b;c{d}é")])
    for path in (f"/var/{sign}h/a", f"/var/a{sign}"):
        with pytest.raises(OpsError, match=r"deployment.keys.a.path is .*, which is not valid"):
            check_keys("machine", [Key("a", path)])


@pytest.mark.parametrize(
    "name",
    [
        *("all", "localhost", "ungrouped", "Ungrouped", "a b", "-a", "a,b", "a[1:3]", "a[1]", "$(x)", "a/b", "é"),
        *("a;b", "a{{b}}", "a:b", "!a", ".."),
    ],
)
def test_name_that_could_be_misread_is_refused(tmp_path: Path, name: str) -> None:
    quoted = name.replace("$", "\\$")
    with pytest.raises(OpsError, match="is not a valid name of a machine") as error:
        evaluate(network(*write(tmp_path, n=f'{{ "{quoted}".networking.hostName = "x"; }}')))
    assert str(error.value.next_step).startswith("Use letters")


def test_name_that_is_too_long_for_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="is not a valid name of a machine: it has 300 characters") as error:
        evaluate(network(*write(tmp_path, n=f"{{ {'a' * 300} = {{ }}; }}")))
    assert error.value.next_step == "Use at most 200 characters."


def test_declared_resource_is_refused_and_none_accepted(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=r"resources\.sshKeyPairs"):
        evaluate(network(*write(tmp_path, n="{ machine = { }; resources.sshKeyPairs.pair = { }; }")))
    assert evaluate(network(*write(tmp_path, n="{ machine = { }; resources.sshKeyPairs = { }; }"))).definitions
    exists = "{ machine = { }; resources.sshKeyPairs.pair = { }; network.ignoreResources = true; }"
    assert evaluate(network(*write(tmp_path, n=exists))).definitions


def test_nix_says_what_is_wrong_and_where(tmp_path: Path) -> None:
    (file,) = write(tmp_path, n="{\n  machine = {\n    oops;\n  };\n}\n")
    with pytest.raises(OpsError) as error:
        evaluate(network(file))
    assert "syntax error" in str(error.value)
    assert f"{file}:3:" in str(error.value)


def test_unknown_option_is_named_with_its_file(tmp_path: Path) -> None:
    (file,) = write(tmp_path, n="{ machine.servces.openssh.enable = true; }")
    with pytest.raises(OpsError) as error:
        evaluate(network(file))
    assert "servces" in str(error.value)
    assert file in str(error.value)


def test_failed_assertion_spares_the_others_and_is_shown_whole(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        n="""{
          good = { };
          bad.assertions = [ { assertion = false; message = "first line\\nsecond line"; } ];
        }""",
    )
    answer = evaluate(network(*files))
    assert set(answer.definitions) == {"good", "bad"}
    assert not answer.derivations
    assert set(instantiate(network(*files), ["good"])) == {"good"}
    with pytest.raises(OpsError) as error:
        instantiate(network(*files), ["bad"])
    assert "first line" in str(error.value)
    assert "second line" in str(error.value)


def test_warnings_are_shown_once_and_again_when_remembered(tmp_path: Path) -> None:
    files = write(tmp_path, n='{ machine = { warnings = [ "take care" ]; system.stateVersion = "24.05"; }; }')
    for _time in range(2):
        lines: list[str] = []
        evaluate(network(*files), on_line=lines.append)
        assert [line for line in lines if "take care" in line] == lines
        assert len(lines) == 1


def test_machine_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="no machine called 'tarket', only target") as refused:
        instantiate(network(*write(tmp_path, n="{ target = { }; }")), ["tarket"])
    # In AWX the inventory may be older than the network.
    assert "synchronize the inventory" in str(refused.value)
    assert instantiate(network("/nonexistent.nix"), []) == {}


def test_one_evaluation_serves_inventory_and_build(tmp_path: Path, calls: list[tuple[str, ...]]) -> None:
    files = write(tmp_path, n="{ a = { }; b = { }; }")
    answer = evaluate(network(*files))
    assert instantiate(network(*files), ["b"]) == {"b": answer.derivations["b"]}
    assert len(calls) == 1


def test_many_machines_are_defined_at_once_and_instantiated_as_wanted(
    tmp_path: Path, calls: list[tuple[str, ...]]
) -> None:
    names = [f"m{number}" for number in range(evaluation.EAGER + 1)]
    files = write(tmp_path, n="{ " + " ".join(f"{name} = {{ }};" for name in names) + " }")
    answer = evaluate(network(*files))
    assert set(answer.definitions) == set(names)
    assert not answer.derivations
    assert set(instantiate(network(*files), ["m3", "m7"])) == {"m3", "m7"}
    assert len(calls) == 2


def test_definitions_of_a_run_are_evaluated_once(tmp_path: Path, calls: list[tuple[str, ...]]) -> None:
    text = """{
      a = { };
      b = { nodes, ... }: {
        deployment.tags = [ "x" ];
        environment.etc.a.text = nodes.a.config.networking.hostName;
      };
    }"""
    files = write(tmp_path, n=text)
    first = definitions(network(*files))
    assert first.derivations == {}
    assert len(calls) == 1
    found = instantiate(network(*files), ["a", "b"], remembered={"a": Remembered(state_version="22.11")})
    # Other inputs, as a machine that was asked has them.
    assert definitions(network(*files)) == first
    assert len(calls) == 2
    # An evaluation with the systems has them, too, also in a later run.
    evaluate(network(*files), remembered={"a": Remembered(state_version="22.11")})
    evaluation._answers.clear()
    assert definitions(network(*files)).definitions == first.definitions
    assert len(calls) == 3
    assert evaluate(network(*files), remembered={"a": Remembered(state_version="22.11")}).derivations == found
    write(tmp_path, n=text.replace('"x"', '"y"'))
    assert definitions(network(*files)).definitions["b"].tags == ("y",)


def test_others_are_instantiated_without_a_machine_that_fails(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        n='{ a = { }; b.assertions = [ { assertion = false; message = "b is wrong"; } ]; c = { }; '
        'd.environment.etc.d.source = throw "d is wrong, too"; e = { }; }',
    )
    found, failures = instantiate_each(network(*files), ["e", "d", "c", "b", "a"])
    assert list(found) == ["e", "c", "a"]
    assert {name: error.machine for name, error in failures.items()} == {"b": "b", "d": "d"}
    assert "b is wrong" in str(failures["b"])
    assert "d is wrong, too" in str(failures["d"])
    assert found == instantiate(network(*files), ["a", "c", "e"])


def test_an_error_in_a_definition_stops_all_machines(tmp_path: Path) -> None:
    files = write(tmp_path, n='{ a = { }; b.deployment.tags = throw "wrong"; }')
    with pytest.raises(OpsError, match="wrong"):
        instantiate_each(network(*files), ["b", "missing"])


def test_nothing_is_looked_through_for_an_answer_that_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    look = checkouts.look

    def looked(real: str) -> tuple[str, float]:
        seen.append(real)
        return look(real)

    monkeypatch.setattr(checkouts, "look", looked)
    files = write(tmp_path, n="{ a = { }; }")
    nixpkgs = NIX_PATH[0].removeprefix("nixpkgs=")
    checkouts._seen.clear()
    definitions(network(*files), remember=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nothing")
    definitions(network(*files))
    assert nixpkgs not in seen
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    evaluate(network(*files))
    assert nixpkgs in seen


def test_several_processes_answer_as_one(
    tmp_path: Path, calls: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").mkdir()
    names = [f"m{number}" for number in range(6)]
    machines = " ".join(f'{name}.environment.etc."{name}".source = ./outside/{name};' for name in names)
    for name in names:
        (tmp_path / "outside" / name).write_text(name)
    (file,) = write(tmp_path, n=f"{{ {machines} }}")
    one = instantiate(network(file), names)
    assert len(calls) == 1

    monkeypatch.setattr(evaluation, "_answers", {})
    shutil.rmtree(tmp_path / ".cache" / "nix.ops" / "evaluations")
    monkeypatch.setattr(workers, "_HEAVY", 0)
    monkeypatch.setattr(evaluation, "_cost", lambda _network: Cost(2**20, 2**20, 1.0, 10.0))
    monkeypatch.setattr(memory, "cores", lambda: 2)
    begun: list[int] = []
    monkeypatch.setattr(Meter, "started", lambda _self, pid: begun.append(pid))
    assert instantiate(network(file), names) == one
    processes = len(begun)
    assert processes > 1

    # What each of them has read is known.
    monkeypatch.setattr(evaluation, "_answers", {})
    assert instantiate(network(file), names) == one
    assert len(begun) == processes
    for name in (names[0], names[-1]):
        (tmp_path / "outside" / name).write_text("other")
        monkeypatch.setattr(evaluation, "_answers", {})
        other = instantiate(network(file), names)
        assert [each for each in names if other[each] != one[each]] == [name]
        one = other


def toplevels(files: list[str], **remembered: Remembered) -> dict[str, Derivation]:
    return dict(evaluate(network(*files), remembered=remembered).derivations)


def test_remembered_inputs_reach_their_own_machine_alone(tmp_path: Path) -> None:
    files = write(tmp_path, n="{ a = { }; b = { }; }")
    before = toplevels(files)
    after = toplevels(files, a=Remembered(ssh_public_key="ssh-ed25519 AAAA of the test"))
    assert after["a"] != before["a"]
    assert after["b"] == before["b"]


def test_physical_part(tmp_path: Path) -> None:
    files = write(
        tmp_path,
        n="""{
          a = { config, ... }: {
            networking.publicIPv4 = "198.51.100.1";
            deployment.owners = [
              config.system.stateVersion
              config.networking.extraHosts
            ] ++ config.users.users.root.openssh.authorizedKeys.keys;
          };
          b.networking.publicIPv4 = "198.51.100.2";
          c = { config, ... }: {
            system.stateVersion = "20.09";
            deployment.owners = [ config.system.stateVersion ];
          };
        }""",
    )
    known = Remembered(state_version="22.11", ssh_public_key="ssh-ed25519 AAAA key")
    answer = evaluate(network(*files), remembered={"a": known, "c": known})
    version, hosts, key = answer.definitions["a"].owners
    assert (version, key) == ("22.11", "ssh-ed25519 AAAA key")
    assert "198.51.100.1 a a-unencrypted\n198.51.100.2 b b-unencrypted" in hosts
    assert answer.definitions["c"].owners == ("20.09",)


def test_a_system_does_not_need_the_other_machines_for_their_addresses(tmp_path: Path) -> None:
    text = """{
      a = { };
      b.networking.publicIPv4 = "198.51.100.2";
      c = { lib, nodes, ... }: { networking.publicIPv4 = lib.trace "c is evaluated" "198.51.100.3"; };
    }"""
    files = write(tmp_path, n=text)
    heard: list[str] = []
    alone = instantiate(network(*files), ["a"], on_line=heard.append)
    assert "trace: c is evaluated" in heard
    assert [one.address for one in definitions(network(*files)).definitions.values()] == [
        None,
        "198.51.100.2",
        "198.51.100.3",
    ]
    heard.clear()
    # Another question, since the definitions are known now.
    assert instantiate(network(*files), ["a"], on_line=heard.append) == alone
    assert "trace: c is evaluated" not in heard
    write(tmp_path, n=text.replace("198.51.100.2", "198.51.100.4"))
    assert instantiate(network(*files), ["a"]) != alone


def test_network_nixpkgs_is_a_path_or_a_package_set(tmp_path: Path) -> None:
    nixpkgs = NIX_PATH[0].removeprefix("nixpkgs=")
    for value in (nixpkgs, f"import {nixpkgs} {{ }}"):
        (file,) = write(tmp_path, n=f"{{ network.nixpkgs = {value}; machine = {{ }}; }}")
        assert evaluate(Network("example", "u", (file,), nix_path=("nixpkgs=/nonexistent",))).derivations


def test_package_set_of_its_own_is_kept(tmp_path: Path) -> None:
    (file,) = write(
        tmp_path,
        n="""{
          own = { pkgs, ... }: {
            nixpkgs.overlays = [ (_: _: { mine = "mine"; }) ];
            deployment.owners = [ pkgs.mine ];
          };
          shared = { pkgs, ... }: { deployment.owners = [ (pkgs.mine or "none") ]; };
        }""",
    )
    owners = {name: one.owners for name, one in evaluate(network(file)).definitions.items()}
    assert owners == {"own": ("mine",), "shared": ("none",)}


def test_shared_package_set_makes_the_same_systems(tmp_path: Path) -> None:
    systems = []
    # Defined as what it is by default, so the same system by a package set of its own.
    for more in ("", "nixpkgs.overlays = [ ];"):
        (file,) = write(tmp_path, n=f"{{ a = {{ pkgs, ... }}: {{ environment.etc.a.source = pkgs.hello; {more} }}; }}")
        systems.append(instantiate(network(file), ["a"]))
    assert systems[0] == systems[1]


def test_flake_answers_with_the_same_record(calls: list[tuple[str, ...]]) -> None:
    flake = Network("example", "u", flake=str(NETWORKS / "flake"), nix_path=NIX_PATH)
    answer = evaluate(flake)
    web = answer.definitions["web"]
    assert (answer.description, web.target_host, web.target_port) == ("a flake with one machine", "web", 2222)
    assert instantiate(flake, ["web"]) == answer.derivations
    assert len(calls) == 1
    assert calls[0][calls[0].index("--extra-experimental-features") + 1] == "nix-command flakes"


def test_settings_and_path_can_not_become_options() -> None:
    for wrong in ({"nix_path": ("-x",)}, {"options": {"--eval": "x"}}):
        with pytest.raises(OpsError):
            evaluate(Network("example", "u", ("/nonexistent.nix",), **wrong))
    with pytest.raises(OpsError):
        Network("a b", "u", ("/nonexistent.nix",))


def test_missing_nix_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OpsError, match="nix-instantiate is not on the controller's PATH"):
        evaluate(network("/nonexistent.nix"))


def expression(**more: Any) -> Expression:
    return Expression(nix_path=NIX_PATH, **more)


MADE = 'derivation { inherit name; system = "x"; builder = "/x"; }'


@pytest.mark.parametrize(
    "build",
    [
        lambda file: expression(expression=f"{{ name }}: {MADE}", arguments={"name": "made"}),
        lambda file: expression(expression="import ./made.nix", attribute=("a", "b"), arguments={"name": "made"}),
        lambda file: expression(file=file, attribute=("a", "b"), arguments={"name": "made"}),
        lambda file: expression(file="made.nix", attribute=("a",), arguments={"name": "made"}),
    ],
)
def test_expression_gives_its_derivations(tmp_path: Path, build: Callable[[str], Expression]) -> None:
    (file,) = write(tmp_path, made=f"{{ name }}: {{ a.b = {MADE}; }}")
    (made,) = instantiate_expression(build(file), cwd=str(tmp_path))
    assert made.drv_path.endswith("-made.drv")
    assert made.out_path.endswith("-made")


def test_expression_that_is_none_is_said(tmp_path: Path) -> None:
    (file,) = write(tmp_path, n="{ a = 1; }")
    for wrong, said in (
        (expression(file=file, attribute=("b",)), "attribute 'b' of 'b' is missing"),
        (expression(file=file, attribute=("a",)), "not a derivation but int"),
        (expression(file=file), "no derivation"),
    ):
        with pytest.raises(OpsError, match=said):
            instantiate_expression(wrong)
    with pytest.raises(OpsError, match="exactly one"):
        Expression()


def test_flake_has_our_options_unless_another_tool_declares_its_own(tmp_path: Path) -> None:
    (tmp_path / "flake.nix").write_text(
        """{
          outputs = _: let
            machine = modules: import <nixpkgs/nixos/lib/eval-config.nix> {
              system = builtins.currentSystem;
              inherit modules;
            };
            own = more: machine [
              ({ lib, ... }: { options.deployment = { anything = lib.mkOption { }; } // more lib; })
            ];
          in {
            nixosConfigurations = {
              ours = machine [ ];
              silent = own (_: { });
              theirs = own (lib: { healthChecks.http = lib.mkOption { default = [ { port = 80; } ]; }; });
            };
          };
        }""",
        encoding="utf-8",
    )
    answer = evaluate(Network("example", "u", flake=str(tmp_path), nix_path=NIX_PATH))
    assert {name: one.health_checks for name, one in answer.definitions.items()} == {
        "ours": None,
        "silent": None,
        "theirs": None,
    }

    def has_guard(name: str) -> bool:
        asked = nix.run(["nix-store", "--query", "--requisites", answer.derivations[name].drv_path], env={})
        assert asked.exit_code == 0
        return "nix-ops-boot-guard" in asked.stdout

    assert [name for name in answer.derivations if has_guard(name)] == ["ours"]


OTHER_TOOL = """{
  outputs = _: {
    nixosConfigurations = builtins.mapAttrs (_: extra: import <nixpkgs/nixos/lib/eval-config.nix> {
      system = builtins.currentSystem;
      modules = [
        ({ lib, ... }: {
          networking.hostName = "own-name";
          options.deployment = {
            targetHost = lib.mkOption { type = lib.types.nullOr lib.types.str; default = null; };
            targetPort = lib.mkOption { default = null; };
            targetUser = lib.mkOption { default = "root"; };
            tags = lib.mkOption { };
            keys = lib.mkOption { default = null; };
            sshOptions = lib.mkOption { default = [ ]; };
          };
        })
        extra
      ];
    }) { @machines@ };
  };
}"""


def other_tool(directory: Path, machines: str) -> Evaluation:
    text = OTHER_TOOL.replace("networking.hostName", "config.networking.hostName").replace("@machines@", machines)
    (directory / "flake.nix").write_text(text, encoding="utf-8")
    return definitions(Network("example", "u", flake=str(directory), nix_path=NIX_PATH))


def test_null_and_nothing_in_the_options_of_another_tool_are_not_set(tmp_path: Path) -> None:
    found = other_tool(tmp_path, 'laptop = { }; web = { deployment.targetHost = "192.0.2.1"; };').definitions
    assert [(one.target_host, one.target_port, one.target_user, one.tags) for one in found.values()] == [
        ("own-name", None, None, ()),
        ("192.0.2.1", None, None, ()),
    ]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("targetHost", "7", "deployment.targetHost"),
        ("targetPort", '"22"', "deployment.targetPort is not a whole number"),
        ("targetPort", "true", "deployment.targetPort is not a whole number"),
        ("tags", '"web"', "deployment.tags is not a list of texts"),
        ("sshOptions", "[ 7 ]", "deployment.sshOptions is not a list of texts"),
        ("keys", "[ 7 ]", "deployment.keys is not a set of keys"),
    ],
)
def test_wrong_type_in_the_options_of_another_tool_is_named(tmp_path: Path, option: str, value: str, said: str) -> None:
    with pytest.raises(OpsError, match=said):
        other_tool(tmp_path, f"web = {{ deployment.{option} = {value}; }};")


def test_flake_reference_gives_its_derivation(tmp_path: Path) -> None:
    (tmp_path / "flake.nix").write_text(
        '{ outputs = _: { packages.${builtins.currentSystem or "x86_64-linux"}.default = '
        + MADE.replace("inherit name", 'name = "flaky"')
        + "; }; }"
    )
    for attribute in ((), ("default",)):
        (made,) = instantiate_expression(expression(flake=str(tmp_path), attribute=attribute))
        assert made.drv_path.endswith("-flaky.drv")


@pytest.mark.parametrize("restricting", ["restrict-eval = true", "restrict-eval = true\nallowed-uris ="])
def test_controller_that_restricts_evaluations_reads_the_network_and_our_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restricting: str
) -> None:
    monkeypatch.setenv("NIX_CONFIG", restricting)
    # The tests' nixpkgs takes a program from there.
    monkeypatch.setenv("NIX_PATH", "programs=/usr/bin")
    (tmp_path / "project").mkdir()
    files = write(tmp_path / "project", n="{ machine.imports = [ ./more.nix ]; }", more="{ deployment.tags = [ ]; }")
    assert set(evaluate(network(files[0])).derivations) == {"machine"}
    (tmp_path / "project" / "made.nix").write_text("{ name }: " + MADE, encoding="utf-8")
    made = expression(file=str(tmp_path / "project" / "made.nix"), arguments={"name": "made"})
    assert instantiate_expression(made)


def test_controller_that_restricts_evaluations_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIX_CONFIG", "restrict-eval = true")
    (tmp_path / "project").mkdir()
    (file,) = write(tmp_path / "project", n="{ machine.deployment.tags = [ (builtins.readFile /etc/shadow) ]; }")
    with pytest.raises(OpsError, match="forbidden in restricted mode"):
        evaluate(network(file))


@pytest.mark.parametrize(
    "setting", ["restrict-eval", "plugin-files", "post-build-hook", "allow-unsafe-native-code-during-evaluation"]
)
def test_source_can_not_lift_the_restrictions_of_its_controller(tmp_path: Path, setting: str) -> None:
    with pytest.raises(OpsError, match=setting):
        network_of_source(str(tmp_path / "a.network.yml"), {"files": ["n.nix"], "options": {setting: "x"}})
    assert network_of_source(str(tmp_path / "a.network.yml"), {"files": ["n.nix"], "options": {"cores": 2}})


def test_settings_that_a_source_may_have_are_documented() -> None:
    said = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]["options"]["description"][1]
    assert set(re.findall(r"V\(([a-z-]+)\)", said)) == settings.HARMLESS


# The form of a flake for NixOps 2.
FOR_NIXOPS = """{
  description = "for NixOps";
  inputs.nixpkgs.url = "path:@nixpkgs@";
  outputs = { self, nixpkgs }: {
    nixopsConfigurations.default = {
      inherit nixpkgs;
      network.storage.legacy = { };
      require = [ ./more.nix ];
      defaults.deployment.owners = [ "ops@example.org" ];
      web = { name, nodes, lib, ... }: { deployment.tags = [ name lib.trivial.release ] ++ lib.attrNames nodes; };
    };
    nixosConfigurations.laptop = throw "not a machine of the network";
  };
}"""


def nixops_flake(directory: Path, text: str = FOR_NIXOPS) -> Network:
    nixpkgs = NIX_PATH[0].removeprefix("nixpkgs=")
    (directory / "flake.nix").write_text(text.replace("@nixpkgs@", nixpkgs), encoding="utf-8")
    write(directory, more='{ db.deployment.targetHost = "192.0.2.2"; }')
    argv = ["nix", "--extra-experimental-features", "nix-command flakes", "flake", "lock", str(directory)]
    assert nix.run(argv).exit_code == 0
    return Network("example", "u", flake=str(directory))


def test_flake_for_nixops_2_is_a_network(tmp_path: Path) -> None:
    answer = definitions(nixops_flake(tmp_path))
    found = answer.definitions
    assert (answer.description, set(found)) == ("for NixOps", {"web", "db"})
    assert found["web"].tags == ("web", "24.05", "db", "web")
    assert (found["db"].target_host, found["db"].owners) == ("192.0.2.2", ("ops@example.org",))
    assert set(evaluate(nixops_flake(tmp_path)).derivations) == {"web", "db"}


def test_flake_for_nixops_2_may_take_arguments(tmp_path: Path) -> None:
    flake = nixops_flake(
        tmp_path, FOR_NIXOPS.replace("default = {", "default = { tag }: {").replace("name lib", "tag lib")
    )
    assert evaluate(replace(flake, arguments={"tag": "x"})).definitions["web"].tags[0] == "x"


def test_flake_for_nixops_2_without_nixpkgs_is_named(tmp_path: Path) -> None:
    flake = nixops_flake(tmp_path, FOR_NIXOPS.replace("inherit nixpkgs;", ""))
    with pytest.raises(OpsError, match="the flake's network has no attribute nixpkgs"):
        evaluate(flake)


@pytest.mark.parametrize("name", ["01-web", "1", "7up"])
def test_name_may_begin_with_a_digit(tmp_path: Path, name: str) -> None:
    (file,) = write(tmp_path, n=f'{{ "{name}" = {{ }}; }}')
    assert set(evaluate(replace(network(file), name="02-prod")).derivations) == {name}


def test_port_that_the_network_leaves_open_is_that_of_ssh(tmp_path: Path) -> None:
    (file,) = write(
        tmp_path,
        n="""{
          open = { };
          target.deployment.targetPort = 2222;
          server.services.openssh.ports = [ 22 ];
          reads = { nodes, lib, ... }: { deployment.tags = [ (toString nodes.open.config.deployment.targetPort) ]; };
        }""",
    )
    found = definitions(network(file)).definitions
    assert {name: one.target_port for name, one in found.items()} == {
        "open": None,
        "target": 2222,
        "server": 22,
        "reads": None,
    }
    assert found["reads"].tags == ("22",)


UNSUPPORTED = {
    "encryptedLinksTo": ("[ ]", '[ "b" ]'),
    "storeKeysOnMachine": ("false", "true"),
    "autoLuks": ("{ }", '{ secretdisk.device = "/dev/xvdf"; }'),
    "autoRaid0": ("{ }", '{ bigdisk.devices = [ "/dev/xvdg" ]; }'),
}


@pytest.mark.parametrize("option", UNSUPPORTED)
def test_option_of_nixops_1_7_may_have_its_default_alone(tmp_path: Path, option: str) -> None:
    default, other = UNSUPPORTED[option]
    (file,) = write(tmp_path, n=f"{{ a.deployment.{option} = {default}; }}")
    assert set(evaluate(network(file)).derivations) == {"a"}
    (file,) = write(tmp_path, n=f"{{ a.deployment.{option} = {other}; }}")
    with pytest.raises(OpsError, match=f"deployment.{option} is not supported, only its default"):
        evaluate(network(file))


def of_source(directory: Path, **options: Any) -> Network:
    return network_of_source(str(directory / "x.network.yml"), options)


def test_network_file_of_the_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (file,) = write(tmp_path / "site", net="{ a = { }; }")
    nixpkgs = [*NIX_PATH, "cfg=./site"]
    found = of_source(tmp_path, files=["<cfg/net.nix>"], nix_path=nixpkgs)
    assert found.files == (file,)
    assert set(evaluate(found).derivations) == {"a"}
    monkeypatch.setenv("NIX_PATH", f"other={tmp_path}:{tmp_path}")
    assert of_source(tmp_path, files=["<site/net.nix>"]).files == (file,)
    assert of_source(tmp_path, files=["<other/site/net.nix>"]).files == (file,)
    with pytest.raises(OpsError, match="is not in the Nix search path") as caught:
        of_source(tmp_path, files=["<absent/net.nix>"])
    assert "absent=./DIRECTORY" in str(caught.value)


@pytest.mark.parametrize(
    "reference", ["./flake", "./link", "path:flake", "path:./link", "path:@dir@/link", "@dir@/link"]
)
def test_flake_may_be_behind_a_link_or_relative(tmp_path: Path, reference: str) -> None:
    (tmp_path / "flake").mkdir()
    (tmp_path / "link").symlink_to("flake")
    expected = nixops_flake(tmp_path / "flake")
    found = of_source(tmp_path, flake=reference.replace("@dir@", str(tmp_path)))
    assert (found.flake or "").removeprefix("path:") == expected.flake
    assert set(definitions(found).definitions) == {"web", "db"}


@pytest.mark.parametrize(
    "reference", ["nixpkgs", "github:a/b?dir=c", "git+ssh://x/y", "flake:x", "git+file:///srv/x?ref=y"]
)
def test_other_flake_references_stay_as_they_are(tmp_path: Path, reference: str) -> None:
    assert of_source(tmp_path, flake=reference).flake == reference.replace("///", "/")


ROOT = NETWORKS.parent.parent
WITH_MODULE = """{
  inputs.nixpkgs.url = "path:@nixpkgs@";
  inputs.nix-ops.url = "path:@ops@";
  outputs = { self, nixpkgs, nix-ops }: {
    nixosConfigurations.a = nixpkgs.lib.nixosSystem {
      system = "x86_64-linux";
      modules = [
        nix-ops.nixosModules.default
        { deployment.targetHost = "192.0.2.1"; deployment.tags = [ "x" ]; networking.hostName = "a"; }
      ];
    };
  };
}"""


def copy_of_module(directory: Path) -> Path:
    """What a flake's input has: a copy of the module elsewhere."""
    for name in ("flake.nix", "nixos-module.nix", "plugins/plugin_utils/network/options.nix"):
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((ROOT / name).read_bytes())
    return directory


def test_module_declares_the_options_to_nix_itself_and_to_a_deploy(tmp_path: Path) -> None:
    flake = tmp_path / "project"
    flake.mkdir()
    module = copy_of_module(tmp_path / "ops")
    found = nixops_flake(flake, WITH_MODULE.replace("@ops@", str(module)))
    alone = ["nix", "--extra-experimental-features", "nix-command flakes", "eval", "--json"]
    told = nix.run([*alone, f"{flake}#nixosConfigurations.a.config.deployment.tags"])
    assert (told.exit_code, told.stdout.strip()) == (0, '["x"]'), told.stderr
    # What nixos-rebuild builds.
    told = nix.run([*alone, f"{flake}#nixosConfigurations.a.config.system.build.toplevel.drvPath"])
    assert told.exit_code == 0, told.stderr
    answer = evaluate(found)
    assert (answer.definitions["a"].target_host, answer.definitions["a"].tags) == ("192.0.2.1", ("x",))
    asked = nix.run(["nix-store", "--query", "--requisites", answer.derivations["a"].drv_path], env={})
    assert "nix-ops-boot-guard" in asked.stdout


@pytest.mark.parametrize("copied", [True, False])
def test_network_may_import_the_module(tmp_path: Path, copied: bool) -> None:
    module = (copy_of_module(tmp_path / "ops") if copied else ROOT) / "nixos-module.nix"
    (file,) = write(tmp_path, n=f'{{ a = {{ imports = [ {module} ]; deployment.tags = [ "x" ]; }}; b = {{ }}; }}')
    answer = evaluate(network(file))
    assert answer.definitions["a"].tags == ("x",)
    assert set(answer.derivations) == {"a", "b"}


def test_directory_that_the_network_copies_is_known(tmp_path: Path) -> None:
    directory = tmp_path / "project"
    (directory / ".facts").mkdir(parents=True)
    (file,) = write(directory, n="{ a = { }; }")
    evaluate(network(file))
    assert not evaluation.copies(network(file), str(directory / ".facts"))
    write(directory, n="{ a.environment.etc.src.source = ./.; }")
    evaluate(network(file))
    assert evaluation.copies(network(file), str(directory / ".facts"))
    assert not evaluation.copies(network(file), str(tmp_path / "elsewhere"))
