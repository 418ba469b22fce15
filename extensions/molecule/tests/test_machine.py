# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each machine of a scenario, as it is seen on the machine itself; none of this needs Python there."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
RECORDS = "/nix/var/nix/nix-ops/records"


@pytest.fixture(scope="session", params=["db", "web"])
def name(request: pytest.FixtureRequest) -> str:
    """What the machine is called in the network."""
    return str(request.param)


@pytest.fixture(scope="session")
def host(name: str) -> Iterator[Host]:
    """The machine, over one connection; reached past the inventory, whose templates testinfra does not read."""
    config, socket = EPHEMERAL / "fleet/ssh_config", EPHEMERAL / "cp" / name
    try:
        yield testinfra.get_host(f"ssh://{name}", ssh_config=str(config), controlpath=str(socket))
    finally:
        subprocess.run(["ssh", "-q", "-F", config, "-o", f"ControlPath={socket}", "-O", "exit", name], check=False)


@pytest.fixture
def toplevel(name: str) -> str:
    """What was built for the machine."""
    [link] = Path(os.environ["XDG_STATE_HOME"], "nix.ops/toplevels").glob(f"*/{name}")
    return str(link.resolve(strict=True))


@pytest.fixture
def private_key(name: str) -> Path:
    """The deployment's private key for the machine, in a directory that is named by the deployment's UUID."""
    [key] = Path(os.environ["XDG_STATE_HOME"], "nix.ops/keys").glob(f"*/{name}")
    return key


def test_the_toplevel_runs_and_is_the_profile(host: Host, toplevel: str) -> None:
    assert host.file("/run/current-system").linked_to == toplevel
    assert host.file("/nix/var/nix/profiles/system").linked_to == toplevel


def test_the_toplevel_boots_by_default(host: Host, toplevel: str) -> None:
    words = host.file("/boot/loader/loader.conf").content_string.split()
    entry = words[words.index("default") + 1]
    assert f"init={toplevel}/init" in host.file(f"/boot/loader/entries/{entry}").content_string.split()


def test_the_unit_runs(host: Host) -> None:
    assert host.service("clock").is_running


def test_the_machine_is_the_one_that_was_meant(host: Host, name: str) -> None:
    assert host.file("/etc/role").content_string == name


def test_the_key_of_the_deployment_is_authorized(host: Host, private_key: Path) -> None:
    assert private_key.stat().st_mode & 0o777 == 0o600
    authorized = host.file("/etc/ssh/authorized_keys.d/root").content_string.splitlines()
    assert authorized == [private_key.with_name(f"{private_key.name}.pub").read_text().strip()]


def test_the_machine_remembers_itself_for_root_alone(host: Host, name: str, toplevel: str, private_key: Path) -> None:
    uuid = private_key.parent.name
    assert host.file(RECORDS).listdir() == [uuid]
    [revision] = host.file(f"{RECORDS}/{uuid}").listdir()
    for directory in (RECORDS, f"{RECORDS}/{uuid}"):
        assert (host.file(directory).user, host.file(directory).mode) == ("root", 0o700)
    file = host.file(f"{RECORDS}/{uuid}/{revision}")
    assert (file.user, file.mode) == ("root", 0o600)

    record = json.loads(file.content_string)
    assert (record["deployment"], record["uuid"], record["machine"]) == ("site", uuid, name)
    assert [(one["toplevel"], one["exit_code"]) for one in record["activations"]] == [(toplevel, 0)]
    assert record["inputs"]["ssh_public_key"] in host.file("/etc/ssh/authorized_keys.d/root").content_string
    assert sorted(record["members"]) == ["db", "web"]


def test_nothing_of_the_deployment_is_left(host: Host, toplevel: str) -> None:
    assert host.check_output("find /run /tmp /var/tmp -maxdepth 1 -name '*nix-ops*' -o -name maintenance") == ""
    assert host.check_output("systemctl list-units --plain --no-legend 'nix-ops*'") == ""
    # But for what keeps the last system that was copied from being collected.
    [root] = host.file("/nix/var/nix/gcroots/nix-ops").listdir()
    assert root.startswith("copied-")
    assert host.file(f"/nix/var/nix/gcroots/nix-ops/{root}").linked_to == toplevel


def test_none_of_this_needed_python(host: Host) -> None:
    assert not host.exists("python3")
