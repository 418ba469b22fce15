# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deployment state where AWX keeps facts, and where a team shares them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet import Fleet
from integration.awx_facts import collect, deliver
from integration.conftest import MachineFactory
from integration.networks import ACTIVATE, INFO, Network
from integration.outside import untouched
from integration.project import Outcome, Project
from integration.redis_server import PASSWORD, Redis, redis
from integration.tasks import GATE, close_gate, open_gate, read_until
from integration.test_state import SOURCE, UUID, cached, forget, record, refused

__all__ = ["redis"]

OUR_PLUGINS = f"{os.environ['ANSIBLE_COLLECTIONS_PATH']}/ansible_collections/nix/ops/plugins/cache"
FOUND = "what is remembered of it was found on the machine"


class FactStorage:
    """Runs a project's playbooks with the facts that AWX stored after the run before."""

    def __init__(self, project: Project) -> None:
        self.project, self.store, self.jobs = project, project.directory / "awx", 0
        project.environment["ANSIBLE_CACHE_PLUGINS"] = OUR_PLUGINS

    def facts(self) -> Path:
        """Where the job has its facts."""
        return self.project.directory / f"job-{self.jobs}/artifacts/{self.jobs}/fact_cache"

    def job(self, run: Callable[[], Outcome], *hosts: str) -> tuple[Outcome, dict[str, str]]:
        """Run a job; :returns: what it said, and what became of the facts of each host."""
        self.jobs += 1
        self.project.environment |= {
            "AWX_PRIVATE_DATA_DIR": str(self.project.directory / f"job-{self.jobs}"),
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(self.facts()),
        }
        # The one of ansible.cfg counts for other caches, and AWX sets none.
        self.project.environment["ANSIBLE_CACHE_PLUGIN_TIMEOUT"] = "86400"
        delivery = deliver(self.store, self.facts(), hosts)
        outcome = run()
        return outcome, collect(self.store, delivery)


@pytest.mark.both_pairs
def test_awx_delivers_and_collects_the_state(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    network, awx = Network(project, target, source=SOURCE), FactStorage(project)
    _first, facts = awx.job(network.deployed, "target", "other")
    assert facts == {"target": "updated", "other": "unmodified"}
    assert {file.name: file.stat().st_mode & 0o777 for file in awx.facts().iterdir()} == {
        "target": 0o600,
        "s1_target": 0o600,
    }

    # A day later: nothing is asked of the machine that AWX has.
    second, facts = awx.job(network.deployed, "target", "other")
    assert not second.changed
    assert FOUND not in second.output
    assert "waiting for SSH" not in second.output
    assert facts == {"target": "unmodified", "other": "unmodified"}
    # The file is as old as it was delivered.
    assert (awx.facts() / "target").stat().st_mtime < awx.facts().stat().st_mtime
    assert cached(project)[UUID] == record(target)

    # A node that AWX gave nothing: the machine's own record has it.
    shutil.rmtree(awx.store)
    fresh, facts = awx.job(network.deployed, "target")
    assert not fresh.changed
    assert FOUND in fresh.output
    assert facts == {"target": "updated"}

    project.write(
        "clear.yml", "- hosts: target\n  gather_facts: false\n  tasks: [{ansible.builtin.meta: clear_facts}]\n"
    )
    _cleared, facts = awx.job(lambda: project.play("-i", "target,", "clear.yml"), "target")
    assert facts == {"target": "cleared"}
    assert FOUND in awx.job(network.deployed, "target")[0].output

    # Facts of an older ansible-core stand beside it.
    (awx.store / "target").write_text('{"colour": "green"}')
    awx.job(network.deployed, "target")
    assert json.loads(json.loads((awx.store / "target").read_text())["__payload__"])["colour"] == "green"


@pytest.mark.both_pairs
def test_a_file_of_facts_is_never_run_as_a_template(project: Project) -> None:
    awx = FactStorage(project)
    evil = {
        "__ansible_type": "_AnsibleTaggedStr",
        "value": "{{ 40 + 2 }}",
        "tags": [{"__ansible_type": "TrustedAsTemplate"}],
    }
    play = [{"hosts": "target", "gather_facts": False, "tasks": [{"debug": {"msg": "{{ ansible_facts.x }}"}}]}]
    project.write("show.yml", json.dumps(play))
    awx.store.mkdir()
    (awx.store / "target").write_text(json.dumps({"__payload__": json.dumps({"x": evil})}))
    shown, _facts = awx.job(lambda: project.play("-i", "target,", "show.yml"), "target")
    assert '"msg": "{{ 40 + 2 }}"' in shown.output
    (awx.store / "target").write_text(json.dumps({"x": evil}))
    shown, _facts = awx.job(lambda: project.play("-i", "target,", "show.yml"), "target")
    assert "count as missing" in shown.output
    assert "42" not in shown.output


@pytest.mark.both_pairs
def test_a_job_that_would_lose_its_state_is_refused(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    network = Network(project, target, source=SOURCE)
    project.environment["AWX_PRIVATE_DATA_DIR"] = str(project.directory)
    jobs = {
        "AWX and ansible-runner collect no facts from": {
            "CACHE_PLUGIN_CONNECTION": str(project.directory / "artifacts/1/fact_cache")
        },
        "facts are kept in memory alone": {"CACHE_PLUGIN": "memory"},
        f"{project.facts} is gone at the end of the job": {},
    }
    for what, settings in jobs.items():
        for name, value in settings.items():
            project.environment[f"ANSIBLE_{name}"] = value
        with untouched(target):
            message = refused(network.deploy())
        for name in settings:
            del project.environment[f"ANSIBLE_{name}"]
        assert message.startswith(what)
        assert "State: nothing was touched" in message
        assert "use_fact_cache: true" in message
        assert f"cache_plugins = {OUR_PLUGINS}" in message


def test_a_team_shares_its_state_in_redis(
    machine: MachineFactory, fleet: Fleet, project: Project, tmp_path: Path, redis: Redis
) -> None:
    target, beta = machine("target"), machine("beta")
    colleague = Project(tmp_path / "colleague")
    colleague.directory.mkdir()
    colleague.configure(fleet.directory / "ssh_config")
    networks = [Network(one, target, beta, source=SOURCE) for one in (project, colleague)]
    for one in (project, colleague):
        redis.serve(one)
    ours, theirs = networks
    # Without a key pair, which each of them would have of its own.
    keyless = "deployment.provisionSSHKey = false;"
    for network in networks:
        network.define(keyless)
    said = [ours.deployed("-v"), theirs.deployed()]
    assert said[1].statuses(ACTIVATE) == {}
    assert FOUND not in said[1].output
    assert cached(project) == cached(colleague)

    # At once, each on a machine of its own; then both on the same one.
    for limits in (["target", "beta"], ["target", "target"]):
        for network in networks:
            network.define(keyless, one=f"on-{limits[1]}")
        runs = [network.start("--limit", limit) for network, limit in zip(networks, limits, strict=True)]
        said += [network.project.finish(run) for network, run in zip(networks, runs, strict=True)]
        codes = [one.exit_code for one in said[-2:]]
        # Of two on one machine the second may find it locked.
        assert codes in ([0, 0], [0, 2], [2, 0]) and (limits[0] == limits[1] or codes == [0, 0]), said[-1].output
        if 2 in codes:
            assert "another activation is at work" in said[-2 + codes.index(2)].output
    said.append(theirs.deployed())
    said.append(ours.deployed())
    assert said[-1].statuses(ACTIVATE) == {}
    for each in (target, beta):
        assert cached(project, each.name)[UUID]["activations"] == record(each)["activations"]
        assert cached(project, each.name) == cached(colleague, each.name)
    # What either of them has activated is remembered.
    answers = [result for one in said for result in one.results if (result.task, result.host) == (ACTIVATE, "target")]
    activated = {one.result["toplevel"] for one in answers if one.status == "changed"}
    assert len(activated) == 3
    assert {one["toplevel"] for one in record(target)["activations"]} == activated
    assert not [one for one in said if PASSWORD in one.output or "could not be written" in one.output]


def test_redis_that_is_gone_loses_nothing(machine: MachineFactory, project: Project, redis: Redis) -> None:
    target = machine("target")
    network = Network(project, target, source=SOURCE)
    redis.serve(project)
    network.deployed()
    with untouched(target):
        redis.stop()
        down = network.deploy()
        redis.start()
        redis.serve(project, "not-the-password")
        wrong = network.deploy()
    assert down.exit_code != 0
    assert "Connection refused" in down.output
    assert wrong.exit_code != 0
    assert "invalid username-password pair" in wrong.output
    assert "not-the-password" not in wrong.output

    redis.serve(project)
    network.define(f"imports = [ {GATE} ];")
    close_gate(target)
    run = network.start()
    seen = read_until(run, "before the gate")
    redis.stop()
    open_gate(target)
    during = project.finish(run, seen)
    assert "what is remembered of it is not in the fact cache" in during.output, during.output
    assert "deployment finished successfully" in during.output
    assert PASSWORD not in during.output
    assert len(record(target)["activations"]) == 2
    redis.start()
    after = network.deployed()
    assert after.statuses(ACTIVATE) == {}
    assert cached(project)[UUID]["activations"] == record(target)["activations"]


def test_what_the_first_version_wrote_is_read(machine: MachineFactory, project: Project) -> None:
    target = machine("target")
    network = Network(project, target, source=SOURCE)
    written = Path(__file__).parents[1] / "states/schema-1.json"
    key = json.loads(written.read_text())["inputs"]["ssh_public_key"]
    target.run("mkdir -p -m 0700 /nix/var/nix/nix-ops /nix/var/nix/nix-ops/records")
    target.run(f"mkdir -m 0700 /nix/var/nix/nix-ops/records/{UUID}")
    target.run(f"cat >/nix/var/nix/nix-ops/records/{UUID}/3.json", stdin=written.read_bytes())
    first = network.deployed()
    assert first.of(INFO)["inputs"] == {"state_version": "23.11", "ssh_public_key": key}
    assert [one["time"] for one in record(target)["activations"][1:]] == [1764000000, 1763900000]
    # The same as an entry of the cache.
    forget(project)
    project.facts.mkdir(parents=True)
    facts = {"nix_ops": {UUID: record(target)}}
    (project.facts / "s1_target").write_text(json.dumps({"__payload__": json.dumps(facts)}))
    again = network.deployed()
    assert not again.changed
    assert FOUND not in again.output
