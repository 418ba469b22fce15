# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of a deployment can't be lost, and can't be forged."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet import Machine
from integration.conftest import Deployed, MachineFactory
from integration.networks import ACTIVATE, BUILD, INFO, MACHINE, Network, main_pids, standing, toplevels
from integration.outside import processes_of, untouched
from integration.project import Outcome, Project
from integration.tasks import GATE, close_gate, open_gate, read_until, wait_for

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
SOURCE = f"uuid: {UUID}\n"
RECORDS = f"/nix/var/nix/nix-ops/records/{UUID}"
BROKEN = 'system.activationScripts.broken = "echo it is broken >&2; false";'


@pytest.fixture
def target(machine: MachineFactory) -> Machine:
    """A fresh machine."""
    return machine("target")


def cached(project: Project, host: str = "target") -> dict[str, Any]:
    """What the fact cache has of a host."""
    file = project.facts / f"s1_{host}"
    if "ANSIBLE_CACHE_PLUGIN" in project.environment or not file.exists():
        return asked(project, host)
    payload = json.loads(file.read_text())["__payload__"]
    # Only Ansible makes a value of what has such a type.
    if "__ansible_type" in payload:
        return asked(project, host)
    return dict(json.loads(payload).get("nix_ops", {}))


def asked(project: Project, host: str = "target") -> dict[str, Any]:
    """The same, read as any Ansible program reads it."""
    told = project.ad_hoc(
        "-i", f"{host},", host, "-m", "ansible.builtin.debug", "-a", "var=ansible_facts.nix_ops", "-c", "local"
    )
    found = json.loads(told.output.partition("=>")[2])["ansible_facts.nix_ops"]
    return found if isinstance(found, dict) else {}


def record(machine: Machine) -> dict[str, Any]:
    """A machine's own record of the deployment."""
    return dict(json.loads(machine.run(f"cat {RECORDS}/*.json").stdout))


def forge(machine: Machine, document: object) -> None:
    """Put something in the place of a machine's record, as whoever broke into it could."""
    text = document if isinstance(document, str) else json.dumps(document)
    machine.run(f"mkdir -p -m 0700 /nix/var/nix/nix-ops {RECORDS}; cat >{RECORDS}/900.json", stdin=text.encode())


def public_key(project: Project, machine: str = "target") -> str:
    """The public half of the deployment's key."""
    return (project.directory / f"state/nix.ops/keys/{UUID}/{machine}.pub").read_text().strip()


def forget(project: Project) -> None:
    """Remove the fact cache."""
    shutil.rmtree(project.facts)


def refused(outcome: Outcome, task: str = INFO) -> str:
    """The message of a deployment that ended before anything was built."""
    assert outcome.exit_code != 0, outcome.output
    assert outcome.statuses(BUILD) == {}
    return str(outcome.of(task)["msg"])


def test_the_first_deploy_says_and_does_what_nixops_does(target: Machine, project: Project) -> None:
    network = Network(project, target, source=SOURCE)
    first = network.deployed()
    said = first.lines("target")
    assert said[:3] == [
        "waiting for SSH...",
        "setting state version to 24.05",
        "generating new SSH key pair... done",
    ]
    assert said[-3:] == [
        "activation finished successfully",
        "deployment finished successfully",
        f"runs and boots {toplevels(first)['target']}, generation 2",
    ]

    key = project.directory / f"state/nix.ops/keys/{UUID}/target"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert public_key(project) in target.run(["cat", "/etc/ssh/authorized_keys.d/root"]).stdout

    found = record(target)
    assert found["inputs"] == {"state_version": "24.05", "ssh_public_key": public_key(project)}
    assert (
        found["activations"][0].items()
        >= {
            "toplevel": toplevels(first)["target"],
            "action": "switch",
            "generation": 2,
            "exit_code": 0,
        }.items()
    )
    assert (found["acknowledged"]["address"], found["acknowledged"]["port"]) == (target.address, 22)
    assert found["members"] == ["target"]
    modes = target.run(
        f"stat -c '%a %U' /nix/var/nix/nix-ops /nix/var/nix/nix-ops/records {RECORDS} {RECORDS}/*"
    ).stdout
    assert modes.split("\n")[:-1] == ["700 root", "700 root", "700 root", "600 root"]
    assert cached(project)[UUID] == asked(project)[UUID] == found

    again = network.deployed()
    assert not again.changed
    assert again.lines("target") == ["up to date"]
    assert record(target) == found


def test_a_machine_that_comes_up_meanwhile_is_waited_for(target: Machine, project: Project) -> None:
    network = Network(project, target, source=SOURCE)
    project.environment["ANSIBLE_TIMEOUT"] = "1"
    target.link_down()
    try:
        run = network.start("-e", "deploy_ssh_timeout=30")
        seen = read_until(run, "waiting for SSH...")
    finally:
        target.link_up()
    done = project.finish(run, seen)
    assert done.exit_code == 0, done.output
    assert standing(target)[0] == toplevels(done)["target"]


def test_a_cache_that_forgets_is_refused_before_anything_is_touched(target: Machine, project: Project) -> None:
    network = Network(project, target, source=SOURCE)
    ssh_config = target.ssh_config
    project.write("a-file", "")
    caches = {
        "facts are kept in memory alone": {"fact_caching": "memory"},
        "the fact cache forgets after 86400 seconds": {"fact_caching_timeout": "86400"},
        "the fact cache ansible.builtin.jsonfile can't be used": {"fact_caching_connection": "a-file"},
        "the fact cache community.general.redis can't be used": {"fact_caching": "community.general.redis"},
    }
    with untouched(target):
        for what, settings in caches.items():
            project.configure(ssh_config, **settings)
            message = refused(network.deploy())
            assert message.startswith(what)
            assert "State: nothing was touched" in message
            assert "fact_caching_timeout = 0" in message
            # To look at what would be done needs no state.
            assert network.deploy("--check").exit_code == 0
    assert not (project.directory / "state/nix.ops/keys").exists()
    project.configure(ssh_config)
    network.deployed()


def test_losing_the_cache_loses_nothing(deployed: Deployed) -> None:
    network = deployed("target", source=SOURCE)
    project, [target] = network.project, network.machines
    network.define(one="uno")
    second = network.deployed()
    before = cached(project)[UUID]
    assert len(before["activations"]) == 2

    def lose_by_flushing() -> Outcome:
        return network.deployed("--flush-cache")

    def lose_the_directory() -> Outcome:
        forget(project)
        return network.deployed()

    for lose in (lose_by_flushing, lose_the_directory):
        after = lose()
        assert not after.changed, after.output
        assert toplevels(after) == toplevels(second)
        now = cached(project)[UUID]
        # When it was reached is news.
        assert {**now, "acknowledged": None} == {**before, "acknowledged": None}
        [found] = [line for line in after.lines("target") if "was found on the machine" in line]
        assert "last deployed 20" in found
        assert "setting state version" not in after.output
        assert "generating" not in after.output
    assert target.inspect()["generation"] == 3


def test_losing_the_machines_record_loses_nothing(deployed: Deployed) -> None:
    network = deployed("target", source=SOURCE)
    [target] = network.machines
    before = record(target)
    for damage in (f"rm -r {RECORDS}", f"echo '{{' | tee {RECORDS}/*.json", f"truncate -s 0 {RECORDS}/*.json"):
        target.run(damage)
        healed = network.deployed()
        assert healed.statuses(ACTIVATE) == {"target": "changed"}
        now = record(target)
        assert {**now, "revision": 0} == {**before, "revision": 0}
        assert not network.deployed().changed
    assert target.run(f"ls {RECORDS}").stdout.count("\n") == 1


def test_check_mode_writes_no_state(target: Machine, project: Project) -> None:
    network = Network(project, target, source=SOURCE)
    with untouched(target):
        preview = network.deployed("--check", "--diff")
    assert "the state version will be 24.05" in preview.output
    assert "setting" not in preview.output
    assert not list(project.facts.glob("*"))
    assert not (project.directory / "state/nix.ops/keys").exists()
    assert target.run(["test", "-e", "/nix/var/nix/nix-ops"], check=False).returncode == 1


def test_check_mode_changes_no_state(deployed: Deployed) -> None:
    network = deployed("target", source=SOURCE)
    project, [target] = network.project, network.machines
    before = cached(project), record(target)
    network.define(one="uno")
    network.deployed("--check")
    assert (cached(project), record(target)) == before


def test_two_deployments_with_a_machine_of_the_same_name(machine: MachineFactory, project: Project) -> None:
    machines = {"one": machine("target"), "two": machine("beta")}
    uuids = {name: str(uuid.uuid4()) for name in machines}
    project.write("config.nix", "{ web = " + MACHINE.replace("EVERYWHERE", "") + "; }")
    for name, one in machines.items():
        project.write(f"{name}.nix", f'{{ web.deployment.targetHost = "{one.address}"; }}')
        project.write(
            f"{name}.network.yml",
            f"plugin: nix.ops.network\nfiles: [{name}.nix, config.nix]\nuuid: {uuids[name]}\n",
        )

    def deploy(name: str) -> Outcome:
        return project.play("-i", f"{name}.network.yml", "nix.ops.deploy")

    for name in machines:
        assert deploy(name).exit_code == 0
    both = cached(project, "web")
    assert set(both) == set(uuids.values())
    assert [both[uuids[name]]["deployment"] for name in machines] == list(machines)
    keys = [both[uuids[name]]["inputs"]["ssh_public_key"] for name in machines]
    assert keys[0] != keys[1]

    # At once, on the same entry of the same cache: whoever writes last, nothing is lost.
    project.write("config.nix", "{ web = " + MACHINE.replace("EVERYWHERE", "").replace("ONE", "uno") + "; }")
    runs = [project.start("ansible-playbook", "-i", f"{name}.network.yml", "nix.ops.deploy") for name in machines]
    for run in runs:
        output, _error = run.communicate(timeout=120)
        assert run.returncode == 0, output
    for name in machines:
        again = deploy(name)
        assert (again.exit_code, again.changed) == (0, False), again.output
    now = cached(project, "web")
    for name in machines:
        assert now[uuids[name]]["inputs"] == both[uuids[name]]["inputs"]
        assert len(now[uuids[name]]["activations"]) == 2


def test_a_deploy_that_fails_half_way_is_remembered(target: Machine, project: Project) -> None:
    network = Network(project, target, source=SOURCE)
    network.define('environment.etc.bad.text = throw "not today";')
    unbuilt = network.deploy()
    assert unbuilt.exit_code == 2
    # What was decided at the first contact holds.
    assert cached(project)[UUID]["inputs"] == {"state_version": "24.05", "ssh_public_key": public_key(project)}
    assert cached(project)[UUID]["activations"] == []

    network.define(BROKEN)
    failed = network.deploy()
    assert failed.exit_code == 2
    assert "generating" not in failed.output
    assert "deployment finished successfully" not in failed.output
    again = network.deploy()
    assert again.exit_code == 2
    # This run has said it.
    assert "an earlier activation" not in again.output

    network.define()
    done = network.deployed()
    history = record(target)["activations"]
    assert [(one["toplevel"], one["exit_code"], one["rolled_back"]) for one in history] == [
        (toplevels(done)["target"], 0, False),
        *[(toplevels(failed)["target"], 2, True)] * 2,
    ]
    assert cached(project)[UUID]["activations"] == history


def test_a_controller_that_was_killed_finds_out_what_became_of_its_activation(
    target: Machine, project: Project
) -> None:
    network = Network(project, target, source=SOURCE)
    network.define(f"imports = [ {GATE} ];")
    close_gate(target)
    run = network.start("-e", "deploy_confirm_timeout=1")
    read_until(run, "before the gate")
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_for(lambda: not processes_of(project), "its workers are gone as well")
    open_gate(target)
    wait_for(
        lambda: (
            target.run(["grep", "-q", " 0 [0-9]* yes$", "/nix/var/nix/nix-ops/last-activation"], check=False).returncode
            == 0
        ),
        "end",
    )
    after = network.deployed()
    said = " ".join(after.lines("target"))
    assert "was rolled back after its run had ended" in said
    assert f"it runs and boots {target.toplevel}" in said
    # Nobody got in again, so that it was undone.
    assert after.of(ACTIVATE)["old_toplevel"] == target.toplevel
    latest, first = record(target)["activations"]
    toplevel = toplevels(after)["target"]
    assert (first["toplevel"], first["exit_code"], first["rolled_back"]) == (toplevel, 0, True)
    assert (latest["toplevel"], latest["exit_code"], latest["rolled_back"]) == (toplevel, 0, False)
    assert cached(project)[UUID]["activations"] == [latest, first]


def test_an_unreachable_machine_keeps_its_state(deployed: Deployed) -> None:
    network = deployed("target", "beta", source=SOURCE)
    project, beta = network.project, network.machines[1]
    before = cached(project, "beta")
    network.define(one="uno")
    beta.link_down()
    try:
        half = network.deploy("-e", "ansible_timeout=1")
    finally:
        beta.link_up()
    assert half.exit_code == 4
    assert half.statuses(ACTIVATE) == {"target": "changed"}
    assert cached(project, "beta") == before
    assert len(cached(project)[UUID]["activations"]) == 2
    later = network.deployed()
    assert later.statuses(ACTIVATE) == {"beta": "changed"}


def test_a_damaged_cache_file(deployed: Deployed) -> None:
    network = deployed("target", source=SOURCE)
    project, [target] = network.project, network.machines
    before = cached(project)[UUID]
    [file] = project.facts.iterdir()
    file.write_text('{"__payload__": "cut o')
    with untouched(target):
        # Ansible itself ends the run there.
        assert network.deploy().exit_code != 0
        after = network.deployed()
    assert not after.changed
    assert cached(project)[UUID]["inputs"] == before["inputs"]

    # It can be read, but not as a state.
    for damage in ({}, {**before, "inputs": "none"}, "text", {**before, "schema": 0}):
        put_facts(project, {UUID: damage})
        after = network.deployed()
        assert not after.changed
        assert "what the fact cache has of it is damaged" in after.output
        assert cached(project)[UUID]["inputs"] == before["inputs"]


def put_facts(project: Project, facts: Mapping[str, Any]) -> None:
    """Put something in the place of the fact of the host target."""
    tasks = [{"ansible.builtin.set_fact": {"nix_ops": facts, "cacheable": True}}]
    play = [{"hosts": "target", "gather_facts": False, "connection": "local", "tasks": tasks}]
    project.write("facts.yml", json.dumps(play))
    done = project.play("-i", "target,", "facts.yml")
    assert done.exit_code == 0, done.output


def test_what_a_newer_version_wrote_is_left_alone(target: Machine, project: Project) -> None:
    network = Network(project, target, source=SOURCE)
    newer = {"schema": 2, "what": "a newer one has"}
    forge(target, newer)
    with untouched(target):
        message = refused(network.deploy())
        assert "the deployment state was written by a newer nix.ops (schema 2, and this one reads 1)" in message
        assert "Upgrade the collection" in message
    assert json.loads(target.run(f"cat {RECORDS}/900.json").stdout) == newer

    target.run(f"rm -r {RECORDS}")
    put_facts(project, {UUID: newer})
    with untouched(target):
        assert "written by a newer nix.ops" in refused(network.deploy())
    assert cached(project)[UUID] == newer


def test_a_forged_record_changes_nothing_but_its_own_rows(deployed: Deployed) -> None:
    network = deployed("target", "beta", source=SOURCE)
    project, [target, beta] = network.project, network.machines
    first = {one.name: standing(one)[0] for one in network.machines}
    before = cached(project, "beta")
    # It claims to be reached where the other machine is, to have been deployed otherwise, and other inputs.
    attacker = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJvOb0Q6cGJqK5Wn3v3m5v1zq0uPq2bR0pGQbW1xY2Zs attacker"
    lie = {
        **record(target),
        "revision": 900,
        "inputs": {"state_version": "19.03", "ssh_public_key": attacker},
        "acknowledged": {"address": beta.address, "port": 22, "time": 1},
        "members": ["target", "beta", "invented"],
        "activations": [],
    }
    forge(target, lie)
    after = network.deployed()
    assert toplevels(after) == first
    assert cached(project, "beta") == before
    now = cached(project)[UUID]
    assert now["acknowledged"]["address"] == target.address
    assert now["members"] == ["beta", "target"]
    assert now["inputs"]["ssh_public_key"] != attacker

    # Also where nothing else is known of it, it is not led to the other machine.
    forge(target, lie)
    forget(project)
    alone = network.deployed()
    assert toplevels(alone)["beta"] == first["beta"]
    assert "beta" not in alone.statuses(ACTIVATE)
    assert cached(project)[UUID]["acknowledged"]["address"] == target.address

    # What is no record at all.
    for garbage in ("", "{", "\x00\x1b[2J" * 99, '"running /nix/store/x"', "[" * 200_000, json.dumps({"schema": 1})):
        forge(target, garbage)
        assert network.deploy().exit_code == 0


def reachable_at(project: Project, machine: Machine, address: str, port: int = 22) -> None:
    """Have the user's ssh know a machine at another address or port as well."""
    config = machine.ssh_config.read_text()
    known = project.write(
        "known_hosts",
        machine.known_hosts_file.read_text()
        + f"{address if port == 22 else f'[{address}]:{port}'} {machine.host_public_key}\n",
    )
    [entry] = [one for one in config.split("\n\n") if one.startswith(f"Host {machine.name} ")] or [config]
    more = entry.replace(machine.address, address).replace(f"Host {machine.name} ", "Host ")
    text = config + "\n" + more if address != machine.address else config
    text = text.replace(str(machine.known_hosts_file), str(known))
    project.configure(project.write("ssh_config", text))


def test_a_changed_address_is_deployed_over_the_old_one(deployed: Deployed) -> None:
    network = deployed("target", source=SOURCE)
    project, [target] = network.project, network.machines
    new = target.address.rpartition(".")[0] + ".200"
    reachable_at(project, target, new)
    network.define(
        f"""
          networking.interfaces.eth0.ipv4.addresses = [ {{ address = "{new}"; prefixLength = 24; }} ];
          systemd.services.move = {{
            wantedBy = [ "multi-user.target" ];
            after = [ "network-addresses-eth0.service" ];
            serviceConfig.Type = "oneshot";
            serviceConfig.RemainAfterExit = true;
            path = [ pkgs.iproute2 ];
            # With the first address of a network Linux removes the others.
            script = "ip address delete {target.address}/24 dev eth0; ip address replace {new}/24 dev eth0";
          }};
        """
    )
    project.write("example-target.nix", f'{{ target.deployment.targetHost = "{new}"; }}')
    project.environment["ANSIBLE_TIMEOUT"] = "3"
    try:
        # The old one is gone half way.
        moved = network.deployed()
        assert "connection lost, reconnecting" in moved.output
        assert moved.of(INFO)["address"] == target.address
        assert moved.of(ACTIVATE)["acknowledged"] == {"address": new, "port": 22}
        assert record(target)["acknowledged"]["address"] == new
        again = network.deployed()
        assert not again.changed
        assert again.of(INFO)["address"] == new
    finally:
        # The link outlives the machine. With the first address of a network Linux removes the others.
        for change in (["delete", f"{new}/24"], ["replace", f"{target.address}/24"]):
            subprocess.run(["ip", "-n", target.namespace, "address", *change, "dev", "eth0"], check=True)


def test_a_changed_port_is_deployed_over_the_old_one(deployed: Deployed) -> None:
    network = deployed("target", source=SOURCE)
    project, [target] = network.project, network.machines
    reachable_at(project, target, target.address, 2222)
    network.define("services.openssh.ports = [ 2222 ];")
    moved = network.deployed()
    assert moved.of(INFO)["port"] == 22
    assert moved.of(ACTIVATE)["acknowledged"] == {"address": target.address, "port": 2222}
    again = network.deployed()
    assert not again.changed
    assert again.of(INFO)["port"] == 2222


def test_a_machine_that_has_moved_by_itself_is_found_where_the_network_says(
    machine: MachineFactory, deployed: Deployed
) -> None:
    network = deployed("target", source=SOURCE)
    project, [target] = network.project, network.machines
    beta = machine("beta")
    project.environment["ANSIBLE_TIMEOUT"] = "2"
    # Another computer has its address now, and its host key is accepted.
    state = cached(project)[UUID]
    put_facts(project, {UUID: {**state, "acknowledged": {**state["acknowledged"], "address": beta.address}}})
    with untouched(beta):
        elsewhere = network.deployed()
        assert not elsewhere.changed
        assert f"what answers at {beta.address} port 22 has no record of this deployment" in elsewhere.output
        assert elsewhere.of(INFO)["address"] == target.address
        # Nobody answers there any more.
        put_facts(project, {UUID: {**state, "acknowledged": {**state["acknowledged"], "address": "198.18.255.1"}}})
        assert not network.deployed().changed
    assert cached(project)[UUID]["acknowledged"]["address"] == target.address


def test_machines_whose_addresses_were_swapped_are_not_mistaken_for_each_other(deployed: Deployed) -> None:
    network = deployed("target", "beta", source=SOURCE)
    project, [target, beta] = network.project, network.machines
    forget(project)
    project.write(
        "example-target.nix",
        f'{{ target.deployment.targetHost = "{beta.address}"; beta.deployment.targetHost = "{target.address}"; }}',
    )
    with untouched(target, beta):
        run = network.deploy()
    assert run.exit_code == 2
    message = run.of(INFO, "target")["msg"]
    assert f"the machine at {beta.address} port 22 has a record that it is beta of this deployment" in message
    assert run.statuses(BUILD) == {}


def test_a_system_that_someone_else_has_deployed_is_left_alone_where_the_user_wants_it(
    target: Machine, project: Project
) -> None:
    network = Network(project, target, source=SOURCE)
    careful = ("-e", "deploy_replace_unknown=false")
    with untouched(target):
        # The closure is there by then, which is no activation.
        never = network.deploy(*careful, "--skip-tags", "copy")
    assert (
        f"the machine runs {target.toplevel}, which no remembered activation has brought there"
        in never.of(ACTIVATE)["msg"]
    )
    assert "set deploy_replace_unknown to true" in never.of(ACTIVATE)["msg"]
    network.deployed()
    network.define(one="uno")
    network.deployed(*careful)

    # Someone else goes back to the first system.
    target.run(f"{target.toplevel}/bin/switch-to-configuration test")
    network.define(one="due")
    foreign = network.deploy(*careful)
    assert foreign.exit_code == 2
    assert standing(target)[0] == target.toplevel
    network.deployed()


def test_a_machine_without_a_key_of_the_deployment(target: Machine, project: Project) -> None:
    network = Network(project, target, source=SOURCE)
    network.define("deployment.provisionSSHKey = false;")
    without = network.deployed()
    assert "generating" not in without.output
    assert without.of(INFO)["inputs"] == {"state_version": "24.05", "ssh_public_key": None}
    assert not (project.directory / "state/nix.ops/keys").exists()

    # The private half would be gone with the job.
    network.define()
    job = network.deployed("-e", "awx_job_id=7")
    assert "generating no SSH key pair: " in job.output
    assert not (project.directory / "state/nix.ops/keys").exists()
    assert not network.deployed("-e", "awx_job_id=8").changed

    # Someone makes it at home, the job goes on with its public half.
    network.deployed()
    key = public_key(project)
    shutil.move(project.directory / "state/nix.ops/keys", project.directory / "at-home")
    forget(project)
    job = network.deployed("-e", "awx_job_id=9")
    assert not job.changed
    assert job.of(INFO)["inputs"]["ssh_public_key"] == key


def test_a_key_of_the_users_own_is_taken(deployed: Deployed) -> None:
    network = deployed("target", source=SOURCE)
    project, [target] = network.project, network.machines
    key = project.directory / f"state/nix.ops/keys/{UUID}/target"
    for half in (key, Path(f"{key}.pub")):
        half.unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "my own", "-f", key], check=True)
    network.deployed()
    assert record(target)["inputs"]["ssh_public_key"] == public_key(project)
    assert public_key(project) in target.run(["cat", "/etc/ssh/authorized_keys.d/root"]).stdout
    assert not network.deployed().changed


def test_a_full_disk_keeps_the_deployment_from_no_end(deployed: Deployed) -> None:
    network = deployed("target", source=SOURCE)
    project, [target] = network.project, network.machines
    target.run("mkdir -p /run/small; mount -t tmpfs -o size=4k tmpfs /nix/var/nix/nix-ops/records")
    target.run("head -c 4096 /dev/zero >/nix/var/nix/nix-ops/records/full")
    network.define(one="uno")
    done = network.deployed()
    assert "its own record could not be written" in done.output
    assert standing(target)[0] == toplevels(done)["target"]
    assert len(cached(project)[UUID]["activations"]) == 2
    target.run("umount /nix/var/nix/nix-ops/records")
    healed = network.deployed()
    assert healed.statuses(ACTIVATE) == {"target": "changed"}
    assert record(target)["activations"] == cached(project)[UUID]["activations"]
    assert main_pids(target, "one")["one"] != "0"
    assert not network.deployed().changed
