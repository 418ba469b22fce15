# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks evaluate with a real nixpkgs as they do with the miniature.

A checkout of nixpkgs, of any age, is not part of this repository, so this is only collected
where NIX_OPS_REAL_NIXPKGS names one. Nothing is built. NIX_OPS_REAL_LIB may name a checkout
of nixpkgs' `lib` alone, with which the options are evaluated then.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation
from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluation import evaluate, instantiate
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network, Remembered
from networks.support import NETWORKS, NIX_PATH, write

NIXPKGS = os.environ.get("NIX_OPS_REAL_NIXPKGS")
LIB = os.environ.get("NIX_OPS_REAL_LIB")

BOOTABLE = """{ defaults = { fileSystems."/".device = "/dev/sda1"; boot.loader.grub.device = "/dev/sda"; }; }"""


if NIXPKGS:

    def network(*files: str) -> Network:
        return Network("example", "u", files, nix_path=(f"nixpkgs={NIXPKGS}",))

    @pytest.fixture(autouse=True)
    def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(evaluation, "_answers", {})

    def test_example_is_defined_and_instantiated(
        tmp_path: Path,
    ) -> None:
        example = NETWORKS / "example"
        whole = network(str(example / "target.nix"), str(example / "config.nix"), *write(tmp_path, bootable=BOOTABLE))
        answer = evaluate(whole, remembered={"web": Remembered("20.09", "ssh-ed25519 AAAA key")})
        assert (answer.definitions["web"].target_port, answer.definitions["db"].target_port) == (2222, 2200)
        assert all(Path(one.drv_path).exists() for one in answer.derivations.values())
        assert set(answer.derivations) == {"web", "db"}
        alone = instantiate(whole, ["db"])
        assert alone == {"db": answer.derivations["db"]}

    def test_what_is_remembered_becomes_a_part_of_the_system(tmp_path: Path) -> None:
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJvOb0Q6cGJqK5Wn3v3m5v1zq0uPq2bR0pGQbW1xY2Zs nix.ops key"
        tell = (
            "deployment.owners = [ config.system.stateVersion ] ++ config.users.users.root.openssh.authorizedKeys.keys;"
        )
        (file,) = write(
            tmp_path,
            n=f"""{{
              open = {{ config, ... }}: {{ {tell} }};
              decided = {{ config, lib, ... }}: {{
                {tell}
                system.stateVersion = lib.mkDefault "19.09";
                users.users.root.openssh.authorizedKeys.keys = [ "its own" ];
              }};
            }}""",
        )
        inputs = Remembered("20.03", key)
        answer = evaluate(network(file), remembered={"open": inputs, "decided": inputs})
        assert answer.definitions["open"].owners == ("20.03", key)
        assert answer.definitions["decided"].owners[0] == "19.09"
        assert set(answer.definitions["decided"].owners[1:]) == {key, "its own"}

    def test_health_checks_are_told_and_what_they_refer_to_is_in_the_closure(tmp_path: Path) -> None:
        files = write(
            tmp_path,
            bootable=BOOTABLE,
            n="""{ machine = { config, pkgs, ... }: {
              deployment.owners = map toString config.system.extraDependencies;
              deployment.healthChecks = {
                units = [ "sshd" "nix-daemon.socket" ];
                commands = [ "true" "${pkgs.hello}/bin/hello" ];
                tcp = [ 22 ];
                http = [ "http://10.0.0.1" { url = "https://10.0.0.1"; contains = "fine"; } ];
              };
            }; }""",
        )
        answer = evaluate(network(*files))
        checks = answer.definitions["machine"].health_checks
        assert checks is not None
        assert checks["units"] == ["sshd.service", "nix-daemon.socket"]
        assert checks["commands"][0] == "true"
        assert checks["http"] == [
            {"url": "http://10.0.0.1", "status": [200], "contains": None, "headers": {}, "validate_certs": True},
            {"url": "https://10.0.0.1", "status": [200], "contains": "fine", "headers": {}, "validate_certs": True},
        ]
        assert [checks[name] for name in ("stable", "successes", "interval", "deadline")] == [3, 1, 1, 60]
        assert [path.endswith("-health-checks") for path in answer.definitions["machine"].owners].count(True) == 1
        inputs = subprocess.run(
            ["nix-store", "--query", "--requisites", answer.derivations["machine"].drv_path],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert "-health-checks.drv" in inputs

    @pytest.mark.parametrize("check", ['units = [ "-x" ];', "tcp = [ 0 ];", 'http = [ "x" ];', "deadline = 0;"])
    def test_mistaken_health_check_is_refused(tmp_path: Path, check: str) -> None:
        (file,) = write(tmp_path, n=f'{{ m.deployment.healthChecks = {{ commands = [ "true" ]; {check} }}; }}')
        with pytest.raises(OpsError, match=r"is not of type") as error:
            evaluate(network(file))
        assert file in str(error.value)

    def test_boot_guard_is_a_unit_of_its_own(tmp_path: Path) -> None:
        (file,) = write(
            tmp_path,
            n="""{
              machine = { config, ... }: {
                deployment.owners = let unit = config.systemd.units."nix-ops-boot-guard.service"; in
                  [ unit.text ] ++ unit.wantedBy;
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
        text, *wanted_by = found["machine"].owners
        assert wanted_by == ["sysinit.target", "emergency.target"]
        unit, service = text.split("[Service]\n")
        settings = {line for line in unit.splitlines() if line and not line.startswith("Description=")}
        assert settings == {
            "[Unit]",
            "Before=shutdown.target",
            "ConditionPathExists=/nix/var/nix/nix-ops/trial",
            "Conflicts=shutdown.target",
            "DefaultDependencies=false",
            "IgnoreOnIsolate=true",
            "RequiresMountsFor=/nix/store /nix/var/nix/nix-ops",
            "X-StopOnRemoval=false",
        }
        assert {"X-RestartIfChanged=false", "Type=simple"} <= set(service.splitlines())
        assert re.search(r"^ExecStart=/nix/store/\S*nix-ops-boot-guard-start\S*\s*$", service, re.MULTILINE)

    def test_failed_assertion_is_shown(tmp_path: Path) -> None:
        # A machine without a root file system.
        (file,) = write(tmp_path, n="{ machine = { }; }")
        assert set(evaluate(network(file)).definitions) == {"machine"}
        with pytest.raises(OpsError, match=r"fileSystems"):
            instantiate(network(file), ["machine"])

    def test_shared_package_set_makes_the_same_systems(tmp_path: Path) -> None:
        machine = 'deployment.targetHost = "10.0.0.1";'
        (shared,) = write(tmp_path, shared=f"{{ machine = {{ {machine} }}; }}")
        # Defined as what it is by default, so the same system by a package set of its own.
        (own,) = write(tmp_path, own=f"{{ machine = {{ {machine} nixpkgs.overlays = [ ]; }}; }}")
        (bootable,) = write(tmp_path, bootable=BOOTABLE)
        systems = [evaluate(network(file, bootable)).derivations["machine"] for file in (shared, own)]
        assert systems[0] == systems[1]


if LIB:

    def test_options_evaluate_with_lib_alone(tmp_path: Path) -> None:
        options = Path(evaluation.__file__).parent / "options.nix"
        (file,) = write(
            tmp_path,
            n=f"""
            let lib = import {LIB}/lib; in {{ inherit ((lib.evalModules {{ modules = [
              {options}
              {{
                options.services.openssh.ports = lib.mkOption {{ default = [ 22 ]; }};
                options.networking.hostName = lib.mkOption {{ default = "name"; }};
                config.deployment.keys = {{ old = "text"; new.keyFile = "/etc/hostname"; }};
                config.deployment.healthChecks = {{ units = [ "sshd" ]; http = [ "http://x" ]; }};
              }}
            ]; }}).config.deployment) keys healthChecks; }}
            """,
        )
        answer = subprocess.run(
            ["nix-instantiate", "--eval", "--strict", "--json", file], check=True, capture_output=True, text=True
        )
        deployment = json.loads(answer.stdout)
        keys, checks = deployment["keys"], deployment["healthChecks"]
        assert (keys["old"]["text"], keys["old"]["path"]) == ("text", "/run/keys/old")
        assert (keys["new"]["keyFile"], keys["new"]["permissions"]) == ("/etc/hostname", "0600")
        assert (checks["units"], checks["deadline"]) == (["sshd.service"], 60)
        [check] = checks["http"]
        assert check == {"url": "http://x", "status": [200], "contains": None, "headers": {}, "validateCerts": True}

    def test_guard_keys_and_closure_evaluate_with_that_lib(tmp_path: Path) -> None:
        # Their modules are of the miniature, as a lib alone has none.
        (file,) = write(
            tmp_path,
            n=f"""
            let
              nixpkgs = import {NIX_PATH[0].partition("=")[2]} {{ }};
              evaluated = import {NIX_PATH[0].partition("=")[2]}/nixos/lib/eval-config.nix {{
                lib = import {LIB}/lib;
                pkgs = nixpkgs;
                modules = [
                  {Path(evaluation.__file__).parent}/options.nix
                  (import {Path(evaluation.__file__).parent}/physical.nix {{
                    nodes = {{ }};
                    remembered = {{ }};
                    addresses = null;
                  }})
                  {{ deployment.healthChecks.commands = [ "true" "${{nixpkgs.hello}}/bin/hello" ]; }}
                  {{ deployment.keys = {{ a.text = "x"; b.destDir = "/var/keys"; }}; }}
                ];
              }};
            in
            {{
              unit = evaluated.config.systemd.units."nix-ops-boot-guard.service".text;
              keys = map (package: package.keys) evaluated.config.systemd.packages;
              unitOfAll = evaluated.config.systemd.units."nixops-keys.service".text;
              owners = evaluated.config.system.activationScripts.nixops-keys.text;
              dependencies = map toString evaluated.config.system.extraDependencies;
            }}
            """,
        )
        answer = subprocess.run(
            ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", file],
            check=True,
            capture_output=True,
            text=True,
        )
        told = json.loads(answer.stdout)
        assert "X-RestartIfChanged=false" in told["unit"]
        assert told["keys"] == ["a /run/keys/a /run/keys/a\nb /var/keys/b /var/keys/b\n"]
        assert "/run/keys/done" in told["unitOfAll"]
        assert "set_key_owners /nix/store/" in told["owners"]
        assert [path.endswith("-health-checks") for path in told["dependencies"]] == [True]
