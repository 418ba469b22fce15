# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host keys that a deployment knows, and what a user is told of others."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import host_keys, places
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host_keys import Known, Refused, Verdict

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
OLD = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILoPYYLQ6HtS6gPL6NqiiENY7zFVSAKgnY+kLQyljSOZ"
NEW = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/SRUF+KGih1r9Eqkp5VAQU9+Zv/IWKrBVBXhmt6JKX"
ACCEPT = "-e deploy_accept_new_host_keys=true"


@pytest.fixture(autouse=True)
def state(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("AWX_PRIVATE_DATA_DIR", raising=False)


def keys(machine="target", of_network=()):
    return [one.key for one in host_keys.known(UUID, machine, of_network)]


def test_accepted_keys_are_those_of_one_machine():
    assert keys() == []
    host_keys.accept(UUID, "target", NEW)
    host_keys.accept(UUID, "other", OLD)
    assert keys() == [NEW]
    assert keys("other") == [OLD]
    assert keys("target.example.org") == []
    assert places.known_hosts(UUID).stat().st_mode & 0o777 == 0o600


def test_keys_of_the_network_and_accepted_keys_are_known_together():
    host_keys.accept(UUID, "target", NEW)
    assert keys(of_network=[f"{OLD} root@target", "no key"]) == [OLD, NEW]


def test_an_accepted_key_is_removed_by_the_command_that_is_named():
    host_keys.accept(UUID, "other", OLD)
    host_keys.accept(UUID, "target", NEW)
    [one] = host_keys.known(UUID, "target", ())
    assert one.where == f"{places.known_hosts(UUID)} line 2"
    subprocess.run(one.remove, shell=True, check=True, capture_output=True)
    assert (keys(), keys("other")) == ([], [OLD])


def test_a_host_without_a_network_has_no_keys():
    assert host_keys.of_variables({"inventory_hostname": "other"}) == []


def test_keys_are_not_accepted_where_they_would_be_lost(monkeypatch):
    new, changed = (Refused("a", NEW, verdict, ()) for verdict in (Verdict.UNKNOWN, Verdict.CHANGED))
    assert host_keys.why_not_accepted(new, UUID, {}) is None
    assert "Only the keys of machines" in str(host_keys.why_not_accepted(changed, UUID, {}))
    assert host_keys.why_not_accepted(new, UUID, {"awx_job_id": 7}) == (
        "The files of an AWX job are gone at its end, and the accepted host key with them."
    )


def test_no_key_is_accepted_while_ssh_may_know_another_one():
    new = Refused("a", NEW, Verdict.UNKNOWN, (), unread="KnownHostsCommand /usr/bin/sss_ssh_knownhosts %H")
    assert "sss_ssh_knownhosts" in str(host_keys.why_not_accepted(new, UUID, {}))


def told(refused, *, is_of_network=True, why_not=None):
    return str(
        host_keys.describe(refused, "target", is_of_network=is_of_network, state="nothing changed", why_not=why_not)
    )


def test_a_new_key_is_shown_with_the_ways_to_accept_it():
    new = Refused("[10.0.0.1]:2222", NEW, Verdict.UNKNOWN, ())
    message = told(new)
    assert message.startswith("target: its host key is not known")
    assert "256 SHA256:Hxm9NiLS/HL3sEezdAFcRA41+Fl+sdtZ8f68wXlnFyQ [10.0.0.1]:2222 (ED25519)" in message
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in message
    assert ACCEPT in message
    assert f'deployment.sshHostKeys = [ "{NEW}" ];' in message
    assert ACCEPT not in told(new, why_not="The files of an AWX job are gone.")
    assert f"~/.ssh/known_hosts: [10.0.0.1]:2222 {NEW}" in told(new, is_of_network=False)


def test_a_changed_key_is_shown_beside_the_known_one_and_its_place():
    known = Known(OLD, "/home/me/.ssh/known_hosts line 3", "ssh-keygen -R a -f /home/me/.ssh/known_hosts")
    message = told(Refused("a", NEW, Verdict.CHANGED, (known,)))
    assert message.startswith("target: its host key has changed")
    assert "SHA256:Hxm9NiLS/HL3sEezdAFcRA41+Fl+sdtZ8f68wXlnFyQ a (ED25519)" in message
    assert "known: 256 SHA256:" in message
    assert "/home/me/.ssh/known_hosts line 3 (ED25519)" in message
    assert "ssh-keygen -R a -f /home/me/.ssh/known_hosts." in message
    assert ACCEPT not in message and "State: nothing changed" in message
