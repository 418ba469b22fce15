# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Explains why a host can't be reached, and what helps."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost

# What Ansible's connection says before the words of ssh.
_ANSIBLE = re.compile(
    r"(?:Failed to connect to the host via \w+: "
    r"|Data could not be sent to remote host \"[^\"]{0,300}\"\. Make sure this host can be reached over ssh: )"
)


@dataclass(frozen=True)
class _Cause:
    """A known cause.

    :param said: what ssh says of it.
    :param helps: what helps.
    """

    said: re.Pattern[str]
    helps: str


def _cause(said: str, helps: str) -> _Cause:
    return _Cause(re.compile(said, re.IGNORECASE), helps)


_AGAIN = "then run the same again."
_SEE = "See docs/troubleshooting.md#"
_CAUSES = (
    _cause(
        "too many authentication failures",
        "ssh offers more keys than the machine wants to see. Name the right one in ~/.ssh/config (IdentitiesOnly yes,"
        f" IdentityFile), or remove the others from the agent (ssh-add -D), {_AGAIN}"
        f" {_SEE}too-many-authentication-failures",
    ),
    _cause(
        "permission denied",
        "The machine accepts no key that ssh offers. Name the user (deployment.targetUser) and the key (ssh-add,"
        f" ansible_ssh_private_key_file), or give a password with -k, {_AGAIN} {_SEE}permission-denied",
    ),
    _cause(
        "host key",
        "The host key may be a jump host's. Compare it with the host's own on its console (ssh-keygen -lf"
        " /etc/ssh/ssh_host_ed25519_key.pub), then correct the controller's known_hosts (ssh-keygen -R NAME removes a"
        " key).",
    ),
    _cause("could not resolve", f"Correct deployment.targetHost, or the controller's name service, {_AGAIN}"),
    _cause(
        "connection refused",
        "Nothing listens there. Compare the address and the port (deployment.targetHost, targetPort) with those of its"
        f" sshd, {_AGAIN}",
    ),
)
# What ssh says if it has not come as far as the SSH server.
_DOWN = re.compile(
    "could not resolve|connection refused|connection timed out$|operation timed out|no route to host"
    "|network is unreachable|host is down|connect failed",
    re.IGNORECASE | re.MULTILINE,
)

_OTHERWISE = (
    f"Check its address, its power, its network and the firewalls on the way, {_AGAIN}"
    f" {_SEE}the-machine-does-not-answer"
)


def words_of_ssh(told: str) -> str:
    """Return the error of an Ansible connection without what Ansible adds to the words of ssh."""
    return _ANSIBLE.sub("", told, count=1)


def is_up(lost: ConnectionLost) -> bool:
    """Return whether a host's SSH server has answered, though the host can't be reached."""
    return not _DOWN.search(str(lost))


def describe(machine: str, lost: ConnectionLost, missing_secret: str | None = None) -> OpsError:
    """Return the error that tells the user why a host can't be reached.

    :param machine: the host's name.
    :param missing_secret: a sentence that names the secret this run lacks for the host's SSH key.
    """
    lines = [line.strip() for line in str(lost).splitlines() if line.strip()] or ["its connection has ended"]
    known = [(cause, line) for cause in _CAUSES for line in lines if cause.said.search(line)]
    cause, reason = known[0] if known else (None, lines[-1])
    next_step = cause.helps if cause else _OTHERWISE
    if missing_secret and "permission denied" in reason.lower():
        next_step = missing_secret
    return OpsError(
        f"the machine can't be reached: {reason}",
        machine=machine,
        output="\n".join(line for line in lines if line != reason),
        state=lost.state,
        next_step=lost.next_step or next_step,
    )
