# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes work off the controller: a builder that builds, and a binary cache that machines fetch from."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fleet import Fleet, Machine
from fleet.network import Network as FleetNetwork
from integration.conftest import MachineFactory
from integration.networks import Network, standing, toplevels
from integration.project import Project
from integration.redis_server import Redis, serving
from integration.tasks import has_path, new_salt, nix

# Its system is the same with and without a run that asks the machine.
BY_ITSELF = "deployment.provisionSSHKey = false;"
EXPERIMENTAL = ("--extra-experimental-features", "nix-command")


def built_there(machine: Machine, path: str) -> bool:
    """Whether a machine's own store says that the path was built there."""
    told = json.loads(machine.run(["nix", *EXPERIMENTAL, "path-info", "--json", path]).stdout)
    # A list up to Nix 2.18, and by path after it.
    [info] = told if isinstance(told, list) else told.values()
    return bool(info.get("ultimate"))


@pytest.mark.both_pairs
def test_a_remote_builder_builds(machine: MachineFactory, project: Project, fleet: Fleet) -> None:
    target, builder = machine("target"), machine("builder")
    system = nix("nix", *EXPERIMENTAL, "eval", "--impure", "--raw", "--expr", "builtins.currentSystem")
    config = project.variables()["NIX_CONFIG"]
    project.environment["NIX_CONFIG"] = f"{config}\nbuilders = ssh://builder {system} - 2\nmax-jobs = 0"
    network = Network(project, target)
    # How Nix reaches its builders is Nix's own affair, and that of ssh's configuration.
    project.environment["NIX_SSHOPTS"] = f"-F {fleet.directory}/ssh_config"
    network.define(BY_ITSELF, one=new_salt())
    outcome = network.deployed()
    toplevel = toplevels(outcome)["target"]
    name = toplevel.partition("-")[2]
    assert f"-{name}.drv' on 'ssh://builder'..." in outcome.output
    assert built_there(builder, toplevel)
    assert not built_there(target, toplevel)
    assert standing(target)[0] == toplevel
    assert not network.deployed().changed

    # A host of the inventory builds, and its store has what goes to the machine.
    del project.environment["NIX_CONFIG"], project.environment["NIX_SSHOPTS"]
    project.write("builders.ini", f"builder ansible_host={builder.address} ansible_user=root\n")
    there = ("-i", "builders.ini", "-e", "deploy_build_host=builder")
    network.define(BY_ITSELF, one=new_salt())
    outcome = network.deployed(*there)
    toplevel = toplevels(outcome)["target"]
    assert f"target> copying path '{toplevel}' from 'ssh://builder' to 'ssh://target'..." in outcome.output
    assert built_there(builder, toplevel) and not built_there(target, toplevel) and not os.path.exists(toplevel)
    assert standing(target)[0] == toplevel
    assert not network.deployed(*there).changed

    # The machine itself builds.
    network.define(f"{BY_ITSELF} deployment.buildOnTarget = true;", one=new_salt())
    toplevel = toplevels(network.deployed())["target"]
    assert built_there(target, toplevel) and not os.path.exists(toplevel)
    assert standing(target)[0] == toplevel
    assert not network.deployed().changed


class Served:
    """A binary cache that is served over HTTP, and who asked it for what."""

    def __init__(self, directory: Path, address: str) -> None:
        self.directory, self.asked = directory, list[tuple[str, str]]()
        served = self

        class Handler(SimpleHTTPRequestHandler):
            # curl waits a second for an answer to "Expect: 100-continue", which HTTP 1.0 does not have.
            protocol_version = "HTTP/1.1"

            def log_message(self, _format: str, *_words: object) -> None:
                served.asked.append((self.client_address[0], self.path))

            def do_PUT(self) -> None:
                place = Path(self.translate_path(self.path))
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

        directory.mkdir()
        self.server = ThreadingHTTPServer((address, 0), partial(Handler, directory=str(directory)))
        self.url = f"http://{address}:{self.server.server_port}"

    def fetched(self, machine: Machine) -> list[str]:
        """The archives of store paths that a machine has fetched."""
        return [path for who, path in self.asked if who == machine.address and path.startswith("/nar/")]


@contextmanager
def serve(project: Project, machine: Machine) -> Iterator[Served]:
    """Serve an empty binary cache where a machine can reach it."""
    served = Served(project.directory / "binary-cache", f"{machine.address.rpartition('.')[0]}.1")
    thread = threading.Thread(target=served.server.serve_forever)
    thread.start()
    try:
        yield served
    finally:
        served.server.shutdown()
        thread.join()
        served.server.server_close()


def make_key(project: Project, name: str) -> tuple[Path, str]:
    """Make a key pair that signs; :returns: the secret key's file, and the public key."""
    secret, public = project.directory / f"{name}.secret", project.directory / f"{name}.public"
    nix("nix-store", "--generate-binary-cache-key", name, str(secret), str(public))
    return secret, public.read_text().strip()


@pytest.mark.parametrize("signed_by", ["trusted", "another", None])
def test_machines_fetch_what_a_cache_has_signed(
    machine: MachineFactory, project: Project, signed_by: str | None
) -> None:
    target = machine("target")
    network = Network(project, target)
    network.define(BY_ITSELF, one=new_salt())
    keys = {name: make_key(project, name) for name in ("trusted", "another")}
    with serve(project, target) as cache:
        to = {"deploy_push_to": cache.url if signed_by == "trusted" else f"file://{cache.directory}"}
        key = {"deploy_push_key_file": str(keys[signed_by][0])} if signed_by else {}
        push = ("-e", json.dumps(to | key))
        assert "pushing to" not in network.deployed("--check", *push).output
        target.run(
            "rm /etc/nix/nix.conf; cat >/etc/nix/nix.conf",
            stdin=f"build-users-group =\nsandbox = false\nsubstituters = {cache.url}\n"
            f"trusted-public-keys = {keys['trusted'][1]}\n".encode(),
        )
        # The closure of the trusted cache is activated as well.
        step = () if signed_by == "trusted" else ("--tags", "copy")
        outcome = network.deployed(*push, *step)
    toplevel = toplevels(outcome)["target"]
    assert f"pushing to {to['deploy_push_to']}..." in outcome.output
    over_ssh = f"copying path '{toplevel}' to 'ssh://" in outcome.output
    if signed_by == "trusted":
        assert cache.fetched(target)
        assert "to 'ssh://" not in outcome.output
        assert standing(target)[0] == toplevel
    else:
        # What nobody vouches for is not fetched; it comes from the controller instead.
        assert not cache.fetched(target)
        assert over_ssh
    assert has_path(target, toplevel)


# Each controller deploys a half of the machines, two at a time.
MACHINES = 20
SLICES = ("nixos[0:9]", "nixos[10:19]")
IN_PAIRS = ("-e", "deploy_serial=2", "-e", "deploy_substitutes=true")


# The numbers of the controllers in the fleet's network.
CONTROLLERS = (200, 201)


@contextmanager
def two_controllers(
    project: Project, fleet: Fleet, redis: Redis, machines: Sequence[Machine]
) -> Iterator[list[Network]]:
    """Yield the same network on two controllers, each in a network namespace with a home and a cache of its own."""
    networks, links = [], FleetNetwork.of(fleet.directory)
    try:
        for number in CONTROLLERS:
            links.add_machine(number, behind=None)
            within = ("ip", "netns", "exec", links.namespace(number))
            one = Project(project.directory / f"controller{number}", within=within)
            one.directory.mkdir()
            one.configure(fleet.directory / "ssh_config")
            redis.serve(one)
            networks.append(Network(one, *machines))
        yield networks
    finally:
        for number in CONTROLLERS:
            links.remove_machine(number)


def kill_half_way(networks: Sequence[Network], goals: Mapping[str, str], machines: Sequence[Machine]) -> int:
    """Deploy the slices at once, and kill both controllers as soon as some machines run their new systems.

    :returns: how many machines did so then.
    """
    runs = [network.start("--limit", one, *IN_PAIRS) for network, one in zip(networks, SLICES, strict=True)]
    deadline = time.monotonic() + 300
    while (done := sum(standing(one)[0] == goals[one.name] for one in machines)) < len(machines) // 2:
        assert time.monotonic() < deadline, f"{done} machines are done"
        time.sleep(0.2)
    for run in runs:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
    return done


@pytest.mark.chaos
def test_two_controllers_deploy_a_half_each_and_go_on_after_a_kill(
    machine: MachineFactory, project: Project, fleet: Fleet
) -> None:
    machines = [machine(f"slice{index}") for index in range(MACHINES)]
    here, facts = f"{machines[0].address.rpartition('.')[0]}.1", project.directory / "redis"
    facts.mkdir()
    with (
        serving(facts, here) as redis,
        serve(project, machines[0]) as cache,
        two_controllers(project, fleet, redis, machines) as networks,
    ):
        secret, public = make_key(project, "trusted")
        salt = new_salt()
        for network in networks:
            network.define(BY_ITSELF, one=salt)
        goals = toplevels(networks[0].deployed("--tags", "build"))
        nix("nix", *EXPERIMENTAL, "copy", "--to", f"file://{cache.directory}?secret-key={secret}", *goals.values())
        settings = f"substituters = {cache.url}\ntrusted-public-keys = {public}\n"
        for one in machines:
            one.run(
                "rm /etc/nix/nix.conf; cat >/etc/nix/nix.conf",
                stdin=f"build-users-group =\nsandbox = false\n{settings}".encode(),
            )
        done = kill_half_way(networks, goals, machines)
        assert done < len(machines)
        # Both start again at once, as the jobs of a workflow do.
        runs = [network.start("--limit", one, *IN_PAIRS) for network, one in zip(networks, SLICES, strict=True)]
        ended = [network.project.finish(run, timeout=300) for network, run in zip(networks, runs, strict=True)]
        assert [one.exit_code for one in ended] == [0, 0], "\n".join(one.output for one in ended)
        assert "to 'ssh://" not in ended[0].output + ended[1].output
        assert all(cache.fetched(one) for one in machines)
        assert {one.name: standing(one) for one in machines} == {name: (goal,) * 3 for name, goal in goals.items()}
        # What one controller has done, the other one knows.
        for network in networks:
            assert not network.deployed().changed
    print(f"killed when {done} of {len(machines)} machines ran the new system")
