# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves over a new connection that the controller still gets into a machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ansible_collections.nix.ops.plugins.plugin_utils.activation import health, reboot
from ansible_collections.nix.ops.plugins.plugin_utils.activation.health import Checks
from ansible_collections.nix.ops.plugins.plugin_utils.activation.protocol import Access
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import jobs
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import PasswordRefused
from ansible_collections.nix.ops.plugins.plugin_utils.machine.transport import HostTransport
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink

_AWAITS = "the acknowledgement over a new connection"


def access(
    transport: HostTransport, checks: Checks, on_line: LineSink, arrive: Callable[[], object] | None = None
) -> Access:
    """Return how an activation acknowledges the machine and checks its health.

    :param on_line: called with each line that the health checks say.
    :param arrive: brings to the machine what a reboot has taken from it; None for nothing.
    """
    check = None
    if checks:
        address = transport.addresses.told.address if transport.addresses else None
        check = partial(health.check, checks, transport.machine(), address, on_line=on_line)
    return Access(
        partial(_confirm, transport),
        partial(_confirm_boot, transport),
        check,
        checks.deadline if checks else 0,
        arrive,
    )


def keep_trial(machine: str, standing: Standing, access: Access, *, timeout: float, on_line: LineSink) -> None:
    """Acknowledge a system on trial that an earlier run has booted; the machine would boot back otherwise.

    :param machine: the machine's name, for messages.
    :param timeout: seconds to try to get in.
    :raises OpsError: if the machine boots back.
    """
    on_line("it has booted this system for the first time, and waits to be reached")
    boots_back = "the machine boots back to what it had booted before"
    try:
        failure = reboot.keep(
            standing,
            timeout=timeout,
            confirm=access.confirm_boot,
            check=access.check,
            arrive=access.arrive,
            on_line=on_line,
        )
    except PasswordRefused as refused:
        refused.state = boots_back
        raise
    if failure is not None:
        raise OpsError(
            failure[0],
            machine=machine,
            state=boots_back,
            next_step="Correct the configuration and deploy again.",
        )


def _confirm(transport: HostTransport, directory: str, word: str) -> None:
    """Answer an activation that waits for the controller.

    :param directory: the activation's directory on the machine.
    :param word: ``reached`` if health checks follow, or ``keep``.
    :raises ConnectionLost: if no new connection can be made.
    """
    with transport.over_new_connection() as machine:
        machine.ask("activation/acknowledge", directory, word, within=jobs.ANSWER_WITHIN, awaits=_AWAITS)
    if transport.addresses and word == "keep":
        transport.addresses.settle()
    elif transport.addresses:
        transport.addresses.prefer_told()


def _confirm_boot(transport: HostTransport, word: str) -> str:
    """Answer a machine that has booted a system on trial.

    :param word: ``keep`` or ``undo``.
    :returns: the word that counts: the machine's own if it has decided already, ``none`` if it does not wait.
    :raises ConnectionLost: if no new connection can be made.
    """
    with transport.over_new_connection() as machine:
        told = machine.ask(
            "activation/boot_acknowledge", word, schema=reboot.DECISION, within=jobs.ANSWER_WITHIN, awaits=_AWAITS
        )
    decision = told.all("decision")[0]
    if transport.addresses and decision != "undo":
        transport.addresses.settle()
    return decision
