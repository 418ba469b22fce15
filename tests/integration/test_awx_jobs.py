# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The templates' jobs as AWX runs them, in the execution environment, against live machines."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from redis import client as redis_client

from ansible_collections.nix.ops.plugins.plugin_utils.activation.settings import SETTINGS
from fleet import Machine
from integration.awx import PLAYBOOKS, Awx, Credentials
from integration.conftest import MachineFactory
from integration.containerfile import Image
from integration.execution_environment import context, image
from integration.networks import ACTIVATE, Network, standing
from integration.outside import untouched
from integration.project import BIN, OTHERS, Outcome
from integration.redis_server import PASSWORD as PASSWORD_OF_REDIS
from integration.redis_server import Redis, redis
from integration.tasks import GATE, close_gate, open_gate, read_until

__all__ = ["context", "image", "redis"]

SOURCE = "example.network.yml"
UUID = "6f8a1d52-50a4-4a2c-9a3e-3f2f8f1e7c11"
# Where the image has a library.
CLIENT = "/usr/local/lib/python3.13/dist-packages/redis"
PASSWORD = "s e'c$"
# What belongs to the tasks and roles of a deploy.
_PLAYS = yaml.safe_load((PLAYBOOKS / "deploy.yml").read_text())
INTERNAL = ["build_result", *{name for play in _PLAYS for name in play.get("vars", {})}]
FOUND = "what is remembered of it was found on the machine"
FINISHED = "target> deployment finished successfully"


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume for /nix that was never used, as Kubernetes mounts it with ``fsGroup: 0``."""
    directory = tmp_path_factory.mktemp("nix")
    directory.chmod(0o2775)
    return directory


def network_of(awx: Awx, *machines: Machine, where: Mapping[str, str] | None = None) -> Network:
    """A network in the repository, beside the playbooks of the example."""
    awx.write_playbooks()
    # A job has no file of known hosts, and ansible-runner would check none.
    keys = {one.name: f'deployment.sshHostKeys = [ "{one.host_public_key}" ];' for one in machines}
    where = {name: f"{key} {(where or {}).get(name, '')}" for name, key in keys.items()}
    return Network(awx.repository, *machines, where=where, source=f"uuid: {UUID}")


def builds(outcome: Outcome) -> list[str]:
    """What a job built."""
    assert outcome.exit_code == 0, outcome.output
    return [line for line in outcome.output.splitlines() if "building '/nix/store/" in line]


def test_preview_deploy_info_and_drift(machine: MachineFactory, image: Image, tmp_path: Path, volume: Path) -> None:
    target = machine("target")
    awx = Awx(tmp_path, image, Credentials(target.identity_file), volume)
    network = network_of(awx, target)
    awx.synchronize(SOURCE)

    with untouched(target):
        preview = awx.run("preview")
    assert builds(preview), preview.output + json.dumps(awx.inventory)[:3000]
    assert "unit one.service: new" in preview.output

    first = awx.run("deploy", {"deploy_machines": "deployment_example", "deploy_check_health": "false"})
    assert builds(first) == []
    assert FINISHED in first.output
    assert json.loads(json.loads((awx.facts / "target").read_text())["__payload__"])["nix_ops"].keys() == {UUID}

    # The next job has what the one before it remembered, and nothing to do.
    again = awx.run("deploy")
    assert again.exit_code == 0, again.output
    assert not again.changed, first.output + again.output
    assert FOUND not in again.output

    # What was previewed is handed on in a workflow, and nothing else is deployed.
    network.define(one="eins")
    with untouched(target):
        other = awx.run("deploy previewed", previewed=preview)
    assert other.exit_code == 2
    assert "this is not what was previewed:\ntarget: /nix/store/" in other.output.replace("\\n", "\n")
    # Variables of a launch reach both jobs, and win over what the first one passes on.
    passed_on = preview.of("Pass on what was previewed")["ansible_stats"]["data"]
    given = {**dict.fromkeys(INTERNAL, "x"), **dict.fromkeys(SETTINGS, "x"), "ansible_ssh_common_args": "x"}
    with untouched(target):
        told = awx.run("preview", launch=passed_on)
        nothing = awx.run("preview", launch={"rollout_plan": {"rolls_out": True}})
        alone = awx.run("deploy previewed")
        both = awx.run("deploy previewed", previewed=preview, launch=given)
        public = awx.run(
            "deploy previewed", previewed=preview, launch={"deploy_reboot": "always", "ansible_host": "127.0.0.1"}
        )
    assert [one.exit_code for one in (told, nothing, alone, both, public)] == [2] * 5
    assert "these variables would change what is previewed: rollout_plan" in nothing.output
    assert "no preview has passed on what to deploy" in alone.output
    assert "deploy_previewed is for the deploy after a preview" in told.output
    assert f"would change what is previewed: {', '.join(sorted(INTERNAL))}" in both.output
    assert "not as they were in the preview: ansible_host, deploy_reboot" in public.output
    network.define()
    assert awx.run("deploy previewed", previewed=preview).exit_code == 0

    info = awx.run("info")
    assert info.exit_code == 0, info.output
    assert re.search(r"target +[|] Up-to-date", info.output)
    assert re.search(r"target +[|] Up-to-date", info.output)
    assert awx.run("drift").exit_code == 0

    network.define(one="uno")
    awx.synchronize(SOURCE)
    red = awx.run("drift")
    assert red.exit_code == 2
    assert "example: target is Outdated." in red.output


@pytest.mark.parametrize("where", ["credential", "vault"])
def test_a_password_for_sudo(machine: MachineFactory, image: Image, tmp_path: Path, volume: Path, where: str) -> None:
    user = machine("user", user="deploy", sudo_password=PASSWORD)
    credentials = Credentials(user.identity_file, "deploy")
    if where == "credential":
        credentials = replace(credentials, become_password=PASSWORD)
    else:
        credentials = replace(credentials, vault_passwords={"": "of all", "team": "of the team"})
    awx = Awx(tmp_path, image, credentials, volume)
    # The network may leave open who logs in.
    names_user = {"user": 'deployment.targetUser = "deploy";'}
    awx.templates["deploy"]["become_enabled"] = where == "credential"
    network_of(awx, user, where={} if where == "credential" else names_user)
    if where == "vault":
        awx.repository.write("group_vars/nixos.yml", f"ansible_become_password: {encrypted(PASSWORD, tmp_path)}\n")
    awx.synchronize(SOURCE)
    done = awx.run("deploy")
    assert done.exit_code == 0, done.output
    assert "user> deployment finished successfully" in done.output
    assert PASSWORD not in done.output
    assert PASSWORD not in str(done.results)


def encrypted(secret: str, directory: Path) -> str:
    """A value of YAML that the vault id ``team`` opens."""
    password = directory / "password"
    password.write_text("of the team")
    words = ["encrypt_string", "--vault-id", f"team@{password}", "--stdin-name", "x"]
    done = subprocess.run(
        [BIN / "ansible-vault", *words],
        input=secret,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    return done.stdout.removeprefix("x: ")


def test_slices_deploy_their_share_at_once(machine: MachineFactory, image: Image, tmp_path: Path) -> None:
    machines = [machine(name) for name in ("alpha", "beta", "gamma")]
    awx = Awx(tmp_path, image, Credentials(machines[0].identity_file), store=None)
    network_of(awx, *machines)
    awx.synchronize(SOURCE)
    slices = [awx.start("deploy", slices=(number, 2)) for number in (1, 2)]
    done = [awx.finish(one) for one in slices]
    assert [one.exit_code for one in done] == [0, 0], done[0].output + done[1].output
    assert [one.statuses(ACTIVATE) for one in done] == [{"alpha": "changed", "gamma": "changed"}, {"beta": "changed"}]
    # A job of all machines has what each slice remembered.
    whole = awx.run("deploy")
    assert whole.statuses(ACTIVATE) == {}
    assert FOUND not in whole.output
    assert awx.run("deploy", limit="beta").statuses(ACTIVATE) == {}


def test_a_slice_without_a_machine_of_the_group_is_no_failure(
    machine: MachineFactory, image: Image, tmp_path: Path, volume: Path
) -> None:
    target = machine("target")
    awx = Awx(tmp_path, image, Credentials(target.identity_file), volume)
    network_of(awx, target)
    awx.synchronize(SOURCE)
    with untouched(target):
        assert awx.run("deploy", slices=(2, 2)).exit_code == 0
        wrong = awx.run("deploy", {"deploy_machines": "deployment_exmaple"})
    assert wrong.exit_code == 2
    assert "deployment_exmaple: not a machine and not a group of the inventory (deploy_machines)" in wrong.output
    assert "deployment_example, nixos" in wrong.output


def test_a_job_that_is_canceled_leaves_a_machine_that_the_next_one_deploys(
    machine: MachineFactory, image: Image, tmp_path: Path, volume: Path
) -> None:
    target = machine("target")
    awx = Awx(tmp_path, image, Credentials(target.identity_file), volume)
    network = network_of(awx, target)
    awx.synchronize(SOURCE)
    assert awx.run("deploy").exit_code == 0
    before, facts = standing(target), (awx.facts / "target").read_text()
    network.define(f"imports = [ {GATE} ];")
    close_gate(target)
    job = awx.start("deploy")
    seen = read_until(job.container, "before the gate")
    awx.cancel(job)
    assert awx.finish(job, seen).exit_code == 254
    # What such a job would have sent at its end is lost.
    assert (awx.facts / "target").read_text() == facts
    assert standing(target) == before
    # The next job goes on where that one was.
    following = awx.start("deploy")
    seen = read_until(following.container, "the same activation is at work already; following it to its end")
    open_gate(target)
    done = awx.finish(following, seen)
    assert done.exit_code == 0, done.output
    assert FINISHED in done.output
    assert standing(target) == (done.of(ACTIVATE)["toplevel"],) * 3 != before
    assert awx.run("deploy").statuses(ACTIVATE) == {}


def test_redis_in_the_place_of_the_facts_of_awx(
    machine: MachineFactory, image: Image, tmp_path: Path, volume: Path, redis: Redis
) -> None:
    target = machine("target")
    # What such an image has beside ours.
    general = "ansible_collections/community/general"
    there = [
        (OTHERS / general, f"/usr/share/ansible/collections/{general}"),
        (Path(redis_client.__file__).parent, CLIENT),
    ]
    awx = Awx(tmp_path, image, Credentials(target.identity_file), volume, there)
    awx.templates["deploy"]["use_fact_cache"] = False
    network_of(awx, target)
    awx.synchronize(SOURCE)
    with untouched(target):
        refused = awx.run("deploy")
    assert refused.exit_code == 2
    assert "use_fact_cache: true" in refused.output

    awx.repository.configure(
        fact_caching="community.general.redis", fact_caching_connection=f"127.0.0.1:{redis.port}:0:{PASSWORD_OF_REDIS}"
    )
    assert awx.run("deploy").exit_code == 0
    again = awx.run("deploy")
    assert again.statuses(ACTIVATE) == {}
    assert FOUND not in again.output
    assert PASSWORD_OF_REDIS not in again.output


def test_a_store_that_goes_with_its_container(machine: MachineFactory, image: Image, tmp_path: Path) -> None:
    target = machine("target")
    awx = Awx(tmp_path, image, Credentials(target.identity_file), store=None)
    network_of(awx, target).define("deployment.provisionSSHKey = false;")
    awx.synchronize(SOURCE)
    first, again = awx.run("deploy"), awx.run("deploy")
    assert len(builds(again)) == len(builds(first)) > 0
    # It is the same system, so the machine is left alone.
    assert again.statuses(ACTIVATE) == {}
