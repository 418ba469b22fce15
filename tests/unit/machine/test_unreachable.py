# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a host can't be reached, and what helps."""

from __future__ import annotations

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.machine import unreachable
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost

SENT = 'Data could not be sent to remote host "198.18.2.10". Make sure this host can be reached over ssh: '


@pytest.mark.parametrize("before", ["", "Failed to connect to the host via ssh: ", SENT])
@pytest.mark.parametrize(
    ("said", "reason", "helps"),
    [
        ("root@a: Permission denied (publickey,password).", "root@a: Permission denied", "ssh-add"),
        (
            "Received disconnect from a port 22:2: Too many authentication failures\nDisconnected from a port 22",
            "Received disconnect from a port 22:2: Too many",
            "IdentitiesOnly",
        ),
        ("ssh: connect to host a port 22: Connection refused", "ssh: connect to host a port 22: Conn", "targetPort"),
        ("ssh: connect to host a port 22: Connection timed out", "ssh: connect to host a port 22: Conn", "its power"),
        ("ssh: Could not resolve hostname a: Name or service not known", "ssh: Could not", "deployment.targetHost"),
        ("Host key verification failed.", "Host key verification failed.", "ssh-keygen -R"),
        ("", "its connection has ended", "its power"),
    ],
)
def test_a_cause_is_said_once_and_has_a_next_step(before: str, said: str, reason: str, helps: str) -> None:
    error = unreachable.describe("a", ConnectionLost(unreachable.words_of_ssh(before + said)))
    message = str(error)
    assert message.startswith(f"a: the machine can't be reached: {reason}")
    assert helps in (error.next_step or "")
    assert all(message.count(line) == 1 for line in said.splitlines())
    assert "Make sure this host" not in message


def test_a_wait_that_ended_and_a_secret_that_is_missing_tell_more() -> None:
    late = ConnectionLost("no answer within 60 seconds (what it runs)", next_step="Look at its console.")
    assert unreachable.describe("a", late).next_step == "Look at its console."
    denied = ConnectionLost("root@a: Permission denied (publickey).")
    assert unreachable.describe("a", denied, "Give --vault-id.").next_step == "Give --vault-id."
    refused = ConnectionLost("ssh: connect to host a port 22: Connection refused")
    assert unreachable.describe("a", refused, "Give --vault-id.").next_step != "Give --vault-id."


@pytest.mark.parametrize(
    ("said", "up"),
    [
        ("ssh: connect to host a port 22: Connection refused", False),
        ("ssh: connect to host a port 22: No route to host", False),
        ("ssh: connect to host a port 22: Connection timed out\r", False),
        ("ssh: Could not resolve hostname a: Name or service not known", False),
        ("channel 0: open failed: connect failed: No route to host\nConnection closed by UNKNOWN port 65535", False),
        ("root@a: Permission denied (publickey).", True),
        ("Host key verification failed.", True),
        ("Connection timed out during banner exchange", True),
        ("kex_exchange_identification: Connection closed by remote host", True),
        ("the machine has given no answer for 60 seconds", True),
    ],
)
def test_an_ssh_server_that_answers_is_up(said: str, up: bool) -> None:
    assert unreachable.is_up(ConnectionLost(said.strip())) is up
