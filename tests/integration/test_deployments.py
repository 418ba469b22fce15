# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment is changed, looked into and deleted, and its machine forgotten, as a user would do it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet import Machine
from integration.conftest import Deployed
from integration.networks import Network
from integration.outside import untouched
from integration.project import Outcome, Project
from integration.test_documentation import check, documentation, keys

FORGET = "Forget the machine"
DELETE = "Delete the deployment"
MODULES = {
    **dict.fromkeys(("rename", "set_args"), "deployment_modify"),
    **dict.fromkeys(("show_arguments", "show_option"), "deployment_show"),
    "clone": "deployment_clone",
    "delete": "deployment_delete",
    "destroy": "deployment_forget",
    "unlock": "nixos_unlock",
}
KEYS = "users.users.root.openssh.authorizedKeys.keys"
FUNCTION = "{ domain, port ? 22 }: { target.networking.domain = domain; }"


@pytest.fixture
def network(deployed: Deployed) -> Network:
    return deployed("target")


def run(network: Network, playbook: str, *words: str, fails: bool = False) -> Outcome:
    done = network.project.play("-i", f"{network.name}.network.yml", f"nix.ops.{playbook}", *words)
    assert (done.exit_code != 0) == fails, done.output
    module = MODULES[playbook]
    described = documentation(module)[1]
    for one in [] if fails else done.results:
        assert keys(one.result) <= set(described)
        for name in keys(one.result):
            check(described[name], one.result[name], name)
    return done


def kept(project: Project, uuid: str) -> list[str]:
    """What the controller keeps of a deployment, but the fact cache."""
    return sorted(str(one) for one in (project.directory / "state/nix.ops").glob(f"*/{uuid}*/*"))


def records(target: Machine, uuid: str) -> str:
    return target.run(f"ls /nix/var/nix/nix-ops/records/{uuid}", check=False).stdout.strip()


def test_from_a_new_name_to_nothing(network: Network) -> None:
    project, [target] = network.project, network.machines
    source = project.directory / "example.network.yml"
    text = f"# Mine.\nname: example # the first\n{source.read_text()}# The end.\n"
    source.write_text(text)
    renamed = run(network, "rename", "-e", "rename_to=shop", "--diff")
    assert "+name: shop # the first" in renamed.output
    uuid = renamed.of("Rename the deployment")["uuid"]
    # The UUID was that of the old name.
    assert source.read_text() == text.replace(": example", ": shop").replace("# The end", f"uuid: {uuid}\n# The end")
    assert records(target, uuid) and len(kept(project, uuid)) == 3

    shown = run(network, "show_option", "-e", "machine=target", "-e", f"option={KEYS}")
    option = shown.of("Show an option of the machine")["option"]
    [physical] = [one["value"] for one in option["definitions"] if one["file"].endswith("/physical.nix")]
    assert f"{physical[0]}\n" == Path(kept(project, uuid)[1]).read_text()

    with untouched(target):
        refused = run(network, "delete", fails=True).of(DELETE)["msg"]
        assert "still has machines: target\n" in refused and "-e delete_force=true" in refused
        # Without a terminal, nothing is asked.
        refused = run(network, "destroy", fails=True).of(FORGET)["msg"]
        assert "the user can't confirm, since this run has no terminal\nState: nothing was forgotten\nNext: " in refused
        assert len(run(network, "destroy", "--check").of(FORGET)["removed"]) == 3
    running = target.inspect()["running"]
    forgotten = run(network, "destroy", "-e", "destroy_confirm=true").of(FORGET)
    assert forgotten["recorded"] and len(forgotten["removed"]) == 3
    assert not kept(project, uuid) and not records(target, uuid)
    assert uuid not in json.dumps([one.read_text() for one in project.facts.iterdir()])
    assert target.inspect()["running"] == running
    assert "no activation is at work" in run(network, "unlock").lines("target")

    run(network, "delete")
    assert not source.exists() and not list((project.directory / "state/nix.ops").glob(f"*/{uuid}"))


def test_a_network_with_arguments(project: Project) -> None:
    project.write("shop.nix", FUNCTION)
    # It does not evaluate yet: what corrects it runs all the same.
    source = project.write("example.network.yml", "plugin: nix.ops.network\nfiles: [shop.nix]\n# The end.\n")
    network = Network.__new__(Network)
    network.project, network.name = project, "example"
    found = run(network, "show_arguments").of("Show the arguments of the network")["arguments"]
    assert [(one["name"], one["needed"], one["given"]) for one in found] == [
        ("domain", True, False),
        ("port", False, False),
    ]
    wrong = run(network, "set_args", "-e", '{"arguments": {"domian": 1, "domain": "a"}}', fails=True)
    assert "unexpected argument 'domian'" in wrong.output and "State: nothing was changed" in wrong.output
    before = source.read_text()
    given = ("-e", '{"arguments": {"domain": "example.org"}}')
    run(network, "set_args", *given, "--check")
    assert source.read_text() == before
    run(network, "set_args", *given)
    assert source.read_text() == (
        "plugin: nix.ops.network\nfiles: [shop.nix]\narguments:\n  domain: example.org\n# The end.\n"
    )
    cloned = run(network, "clone", "-e", "clone_to=staging").of("Clone the deployment")
    assert (project.directory / "staging.network.yml").read_text() == source.read_text().replace(
        "# The end.", f"name: staging\nuuid: {cloned['uuid']}\n# The end."
    )
