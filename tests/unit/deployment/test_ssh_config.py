# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of ssh that is written for a deployment, read by ssh itself."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import discovery, host_keys, places, ssh_config
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Acknowledged, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAgiAAAAC3NzaC1lZDI1NTE5AAAAIAgi"
DEFAULTS = {"ssh_args": "-C -o ControlMaster=auto -o ControlPersist=60s", "ssh_common_args": "", "ssh_extra_args": ""}
TARGET = {
    "nix_network": "/net/example.network.yml",
    "nix_deployment": "example",
    "nix_deployment_uuid": UUID,
    "nix_machine": "target",
    "ansible_host": "192.0.2.1",
}


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own directory, with a blank in its name."""
    home = tmp_path / "of me"
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.setattr(discovery, "remembered", lambda *_words: None)
    return home


def fail(line: str) -> None:
    pytest.fail(line)


def configured(variables: Mapping[str, Any], **defaults: str) -> ssh_config.Configuration:
    return ssh_config.configure("example", UUID, {"target": {**TARGET, **variables}}, {**DEFAULTS, **defaults}, fail)


def read(name: str = "target") -> dict[str, list[str]]:
    """Return what ssh reads of the configuration that is in its place."""
    words = ["ssh", "-G", "-F", str(places.ssh_config(UUID)), name]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _space, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


def written(variables: Mapping[str, Any] | None = None, **defaults: str) -> dict[str, list[str]]:
    assert ssh_config.write(UUID, configured(variables or {}, **defaults), dry=False).changed
    return read()


def test_a_machine_of_an_ordinary_network(state_home: Path) -> None:
    found = written()
    assert (found["hostname"], found["port"], found["user"]) == (["192.0.2.1"], ["22"], ["root"])
    assert found["controlmaster"] == ["false"]
    assert not ssh_config.write(UUID, configured({}), dry=False).changed
    for file in (places.ssh_config(UUID), places.ssh_known_hosts(UUID)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert [one.name for one in file.parent.iterdir()] == [UUID]
    # It says nothing of another host.
    assert read("other")["hostname"] == ["other"]


def test_what_network_and_user_say_of_ssh() -> None:
    found = written(
        {
            "ansible_port": 2222,
            "ansible_user": "deploy",
            "ansible_ssh_private_key_file": "/keys/my key",
            "ansible_ssh_common_args": "-J jump@gate.example.org:2022 -o 'IdentityFile=\"/state/a %% key\"' -4 -A"
            " -o ServerAliveInterval=5 -oCompression=yes",
            "ansible_ssh_extra_args": '-o \'KnownHostsCommand=/bin/sh "/x/known_host_keys.sh" "a b"\' -o User=root',
        }
    )
    assert (found["port"], found["user"], found["proxyjump"]) == (["2222"], ["deploy"], ["jump@gate.example.org:2022"])
    assert found["identityfile"] == ["/keys/my key", "/state/a %% key"]
    assert (found["addressfamily"], found["forwardagent"], found["compression"]) == (["inet"], ["yes"], ["yes"])
    assert found.get("knownhostscommand", ["none"]) == ["none"]
    assert found["serveraliveinterval"] == ["5"]


def test_where_a_machine_was_last_reached_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(UUID, "example", "target", acknowledged=Acknowledged("2001:db8::1", 2022, 1))
    monkeypatch.setattr(discovery, "remembered", lambda *_words: state)
    found = written({"ansible_port": 2222})
    assert (found["hostname"], found["port"]) == (["2001:db8::1"], ["2022"])
    # Port 22 is also recorded for what ssh's own configuration says.
    moved = replace(state, acknowledged=Acknowledged("fe80::1%eth0", 22, 1))
    monkeypatch.setattr(discovery, "remembered", lambda *_words: moved)
    found = written({"ansible_port": 2222})
    assert (found["hostname"], found["port"]) == (["fe80::1%eth0"], ["22"])


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "192.0.2.1"),
        ({"ansible_port": 2222}, "[192.0.2.1]:2222"),
        ({"ansible_ssh_common_args": "-o HostKeyAlias=web"}, "web"),
        ({"ansible_host": "Web.Example.org"}, "web.example.org"),
    ],
)
def test_host_keys_are_known_under_the_name_that_ssh_looks_for(variables: dict[str, Any], name: str) -> None:
    found = written({**variables, "nix_ssh_host_keys": [KEY]})
    file = places.ssh_known_hosts(UUID)
    assert file.read_text() == f"{name} {KEY}\n"
    assert str(file) in found["userknownhostsfile"][0] and "~" not in found["userknownhostsfile"][0].split()[0][1:]
    looked = subprocess.run(["ssh-keygen", "-F", name, "-f", file], capture_output=True, text=True, check=True)
    assert KEY in looked.stdout


def test_an_accepted_key_counts_too() -> None:
    host_keys.accept(UUID, "target", KEY)
    written()
    assert KEY in places.ssh_known_hosts(UUID).read_text()


def test_a_configuration_that_ansible_gives_to_ssh_is_read_as_well(tmp_path: Path) -> None:
    file = tmp_path / "of the site"
    file.write_text("Host target\n  User carol\n  Port 2022\nHost other\n  Port 1\n")
    found = written(ssh_args=f"-F '{file}' -o ControlMaster=auto")
    assert (found["hostname"], found["user"], found["port"]) == (["192.0.2.1"], ["carol"], ["2022"])


def test_what_has_no_place_in_a_file_is_told() -> None:
    found = configured({"ansible_ssh_common_args": "-W a:1 -o 'IdentityFile=\"/proc/12/fd/7\"' -vvv -tt"})
    assert [note.partition(",")[0] for note in found.notes] == [
        "target: the option -W of ssh has no place in a file",
        "target: the option a:1 of ssh has no place in a file",
        "target: its key is encrypted by ansible-vault",
    ]
    assert "/proc" not in found.text


@pytest.mark.parametrize(
    "variables",
    [
        {"ansible_host": "a\n  ProxyCommand touch /tmp/x"},
        {"ansible_host": "-oProxyCommand=x"},
        {"ansible_host": 'a" b'},
        {"ansible_host": "a b"},
        {"ansible_port": "22\nHost *"},
        {"ansible_user": "root # me"},
        {"ansible_user": "-l"},
        {"ansible_ssh_common_args": "-o 'Match exec \"touch /tmp/x\"'"},
        {"ansible_ssh_common_args": "-o Host=*"},
        {"ansible_ssh_common_args": "-o 'Include /tmp/x'"},
        {"ansible_ssh_common_args": "-o 'User=a\n  ProxyCommand=x'"},
        {"ansible_ssh_common_args": "-o nonsense"},
        {"ansible_ssh_common_args": "-J 'a b'"},
        {"ansible_ssh_common_args": "-o 'unfinished"},
        {"ansible_ssh_private_key_file": "/a\nb"},
    ],
)
def test_a_value_never_becomes_an_option(variables: dict[str, Any]) -> None:
    with pytest.raises(OpsError, match="can't be written into a configuration of ssh"):
        configured(variables)


@given(st.text(min_size=1, max_size=40))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_an_address_is(address: str) -> None:
    try:
        text = configured({"ansible_host": address}).text
    except OpsError:
        return
    lines = text.splitlines()
    assert [line.split(" ", 3)[2] for line in lines if "HostName" in line] != []
    assert [line.strip().split(" ")[0] for line in lines[2:]] == ["Host", "HostName", "User"]
    assert not any(one.isspace() for one in lines[3].strip().removeprefix("HostName "))


def test_a_deploy_writes_only_what_is_there_already(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = {"target": TARGET, "other": {}}
    monkeypatch.setattr(ssh_config, "defaults", lambda: DEFAULTS)
    unread: Any = None
    assert ssh_config.refresh(unread, fail) == []
    assert not os.path.exists(places.ssh_config(UUID))
    written()
    assert ssh_config.refresh(hosts, fail) == []
    moved = {"target": {**TARGET, "ansible_host": "192.0.2.9"}}
    assert ssh_config.refresh(moved, fail) == [str(places.ssh_config(UUID))]
    assert read()["hostname"] == ["192.0.2.9"]
    told: list[str] = []
    assert ssh_config.refresh({"target": {**TARGET, "ansible_host": "a b"}}, told.append) == []
    assert "is not up to date" in told[0] and read()["hostname"] == ["192.0.2.9"]


def test_a_preview_writes_nothing() -> None:
    assert ssh_config.write(UUID, configured({}), dry=True).changed
    assert not places.ssh_config(UUID).exists()
