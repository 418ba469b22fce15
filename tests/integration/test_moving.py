# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment that comes from NixOps 2, is deployed, and goes back."""

from __future__ import annotations

import json
from typing import Any

import yaml

from fleet import Machine
from integration.conftest import MachineFactory
from integration.project import NIXPKGS, Project
from integration.test_create import project
from integration.test_documentation import check, documentation
from nixops.support import exported

__all__ = ["project"]

IMPORT, EXPORT = "Import the deployments of NixOps", "Export the deployments for NixOps"
UUID = "f6984bba-ec3a-11f1-9fa2-02fc00000001"
NETWORK = """
{{ domain ? "example.org" }}:
{{
  network = {{ description = "A small shop"; storage.legacy = {{ }}; }};
  target = {{
    deployment.targetHost = "{address}";
    services.openssh.enable = true;
    environment.etc.site.text = "www.${{domain}}";
  }};
}}
"""


def write_export(project: Project, target: Machine) -> dict[str, Any]:
    """Write what NixOps exported of a machine, as if it was this one; :returns: the machine's attributes."""
    document = json.loads(exported("2", project.directory.parent / "pairs"))
    resources = document[UUID]["resources"]
    resources["target"] = {**resources.pop("web"), "targetHost": target.address}
    del resources["db"]
    project.write("shop.json", json.dumps(document))
    attributes: dict[str, Any] = resources["target"]
    return attributes


def test_a_deployment_moves_from_nixops_and_back(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    project.write("nixops.nix", NETWORK.format(address=target.address))
    attributes = write_export(project, target)
    before = sorted(path.name for path in project.directory.iterdir())

    checked = project.play("nix.ops.import", "-e", "import_file=shop.json", "--check", "--diff")
    assert checked.exit_code == 0, checked.output
    assert "BEGIN" not in checked.output and "shop.example" not in checked.output
    after = {path.name for path in project.directory.iterdir()}
    assert after - set(before) <= {"cache", "ansible-home", ".results.jsonl"}

    imported = project.play("nix.ops.import", "-e", "import_file=shop.json")
    assert imported.exit_code == 0, imported.output
    check(documentation("deployment_import")[1]["deployments"], imported.of(IMPORT)["deployments"], "deployments")
    [told] = imported.of(IMPORT)["deployments"]
    assert (told["machines"], told["evaluates"]) == (["target"], True)
    assert [line for line in told["left"] if "nixops rollback" not in line] == []
    assert yaml.safe_load((project.directory / "shop.network.yml").read_text()) == {
        "plugin": "nix.ops.network",
        "name": "shop",
        "uuid": UUID,
        "files": ["nixops.nix"],
        "arguments": {"domain": "shop.example"},
        "nix_path": [f"nixpkgs={NIXPKGS}"],
    }
    first = project.play("nix.ops.deploy")
    assert first.exit_code == 0, first.output
    assert not [line for line in first.lines("target") if "generating" in line or "state version" in line]
    assert target.run(["cat", "/etc/site"]).stdout == "www.shop.example"
    assert attributes["none.sshPublicKey"] in target.run(["cat", "/etc/ssh/authorized_keys.d/root"]).stdout
    assert not project.play("nix.ops.deploy").changed

    back = project.play("nix.ops.export", "-e", "export_keys=true")
    assert back.exit_code == 0, back.output
    check(documentation("deployment_export")[1]["deployments"], back.of(EXPORT)["deployments"], "deployments")
    path = project.directory / "deployments.json"
    assert path.stat().st_mode & 0o777 == 0o600
    document = json.loads(path.read_text())[UUID]
    assert document["args"] == json.dumps({"domain": '"shop.example"'})
    kept = (
        "type",
        "targetHost",
        "stateVersion",
        "none.sshPublicKey",
        "none.sshPrivateKey",
        "none.sshPublicKeyDeployed",
    )
    resource = document["resources"]["target"]
    assert {name: resource[name] for name in kept} == {name: attributes[name] for name in kept}
    assert resource["toplevel"] == target.inspect()["running"]
