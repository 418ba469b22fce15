# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs health checks: units and commands on the machine, ports and URLs from the controller."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any
from urllib.error import HTTPError

from ansible.module_utils.urls import open_url

from ansible_collections.nix.ops.plugins.plugin_utils import waiting
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError, first_line
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine, PasswordRefused
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Heartbeat, Overdue

# Seconds to wait for one connection.
_CONNECT = 5.0

# Maximum size of an answer, in bytes.
_ANSWER = 1024 * 1024

# systemd.unit(5)
_UNIT_TYPES = (
    *(".service", ".socket", ".target", ".timer", ".path", ".mount"),
    *(".automount", ".swap", ".slice", ".scope", ".device"),
)

# One problem. It may contain the end of a command's output, in any language.
_PROBLEM = re.compile(r"[^\n]{1,4096}")

# Seconds that the machine needs in addition to the commands.
_OVERHEAD = 10.0


@dataclass(frozen=True)
class Http:
    """A URL that has to answer the controller.

    :param status: the status codes that pass.
    :param contains: a text that the answer has to contain.
    """

    url: str
    status: tuple[int, ...] = (200,)
    contains: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    validate_certs: bool = True


@dataclass(frozen=True)
class Checks:
    """The health checks of a machine.

    :param units: units that have to be active.
    :param commands: lines for the machine's ``/bin/sh`` that have to succeed, as root.
    :param tcp: ports that the controller has to reach.
    :param stable: seconds for which units have to stay active without a restart.
    :param successes: number of rounds that have to pass in a row.
    :param interval: seconds between two rounds.
    :param deadline: seconds before the checks fail.
    """

    units: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    tcp: tuple[int, ...] = ()
    http: tuple[Http, ...] = ()
    stable: int = 3
    successes: int = 1
    interval: int = 1
    deadline: int = 60

    def __bool__(self) -> bool:
        return bool(self.units or self.commands or self.tcp or self.http)


def read(options: Mapping[str, Any]) -> Checks:
    """Read checks from a module's options.

    :raises OpsError: if a value is not valid.
    """
    given = {one.name: options[one.name] for one in fields(Checks) if options.get(one.name) is not None}
    for name in ("units", "commands", "tcp"):
        given[name] = tuple(given.get(name, ()))
    given["units"] = tuple(unit if unit.endswith(_UNIT_TYPES) else f"{unit}.service" for unit in given["units"])
    given["http"] = tuple(
        Http(
            one["url"],
            tuple(one["status"]),
            one["contains"],
            tuple((str(name), str(value)) for name, value in one["headers"].items()),
            one["validate_certs"],
        )
        for one in given.get("http", ())
    )
    checks = Checks(**given)
    for problem in _problems(checks):
        raise OpsError(f"health checks: {problem}", state="nothing was touched", next_step="Correct the checks.")
    return checks


def _problems(checks: Checks) -> Iterator[str]:
    smallest = {"stable": 0, "successes": 1, "interval": 1, "deadline": 1}
    for name, least in smallest.items():
        if getattr(checks, name) < least:
            yield f"{name} is {getattr(checks, name)}, and has to be at least {least}"
    if checks.units and checks.stable >= checks.deadline:
        yield f"units can't stay active for {checks.stable} seconds within {checks.deadline}"
    for unit in checks.units:
        if unit.startswith("-") or any(character.isspace() for character in unit):
            yield f"{unit!r} is not a valid name of a unit"
    for port in checks.tcp:
        if not 0 < port < 65536:
            yield f"{port} is not a TCP port"
    for one in checks.http:
        if not one.url.startswith(("http://", "https://")):
            yield f"{one.url!r} is not an HTTP URL"


def check(checks: Checks, machine: Machine, address: str | None, *, on_line: LineSink) -> tuple[str, ...]:
    """Run the health checks until they pass or the deadline is over.

    :param address: the machine's address; None if its connection has none, for example a container's.
    :param on_line: called with the problems of a round if they differ from the last round's.
    :returns: the problems of the last round; empty if the machine is healthy.
    """
    deadline = time.monotonic() + checks.deadline
    on_line("checking its health...")
    passed = 0
    shown: tuple[str, ...] = ()
    heartbeat = Heartbeat("its health", on_line)
    while True:
        problems = tuple(_round(checks, machine, address, deadline, on_line))
        heartbeat.beat()
        passed = 0 if problems else passed + 1
        if passed == checks.successes:
            on_line("it is healthy")
            return ()
        if problems != shown:
            for one in problems:
                on_line(f"not healthy yet: {one}")
        shown = problems
        left = deadline - time.monotonic()
        if left <= 0:
            return problems or (f"it was healthy only {passed} times in a row, not {checks.successes}",)
        time.sleep(min(checks.interval, left))


def _round(checks: Checks, machine: Machine, address: str | None, deadline: float, on_line: LineSink) -> Iterator[str]:
    if checks.units or checks.commands:
        yield from _on_the_machine(checks, machine, deadline)
    for port in checks.tcp:
        if address is None:
            yield f"port {port}: the connection has no address that the controller can reach"
            continue
        try:
            socket.create_connection((address, port), timeout=_CONNECT).close()
        except OSError as error:
            yield f"port {port} of {address}: {error.strerror or error}"
    for one in checks.http:
        # urllib's own limit counts for each byte anew.
        seconds = max(_CONNECT, deadline - time.monotonic())
        try:
            reason = waiting.bounded(partial(_answers, one), one.url, seconds, say=on_line)
        except Overdue:
            reason = f"no answer within {seconds:.0f} seconds"
        if reason:
            yield f"{one.url}: {reason}"


def _on_the_machine(checks: Checks, machine: Machine, deadline: float) -> Iterator[str]:
    seconds = max(1, int(deadline - time.monotonic()))
    # The commands share these seconds; one that begins at their end has one more, and five until it is killed.
    within = seconds + 6 * len(checks.commands) + checks.stable + _OVERHEAD
    words = [f"command={line}" for line in checks.commands] + [f"unit={unit}" for unit in checks.units]
    schema = {"amiss": Key(_PROBLEM, most=len(words))}
    try:
        answer = machine.ask(
            *("activation/health", str(checks.stable), str(seconds), *words),
            schema=schema,
            within=within,
            awaits="its health checks",
        )
    except PasswordRefused:
        raise
    except (ConnectionLost, OpsError) as lost:
        yield f"the machine did not answer: {first_line(lost)}"
        return
    yield from answer.all("amiss")


def _answers(one: Http) -> str | None:
    """Return why the answer of a URL does not pass; None if it does."""
    redirects = "none" if any(300 <= status < 400 for status in one.status) else "urllib2"
    try:
        with open_url(
            one.url,
            headers=dict(one.headers),
            timeout=_CONNECT,
            validate_certs=one.validate_certs,
            follow_redirects=redirects,
            http_agent="nix.ops",
        ) as answer:
            status, text = answer.status, answer.read(_ANSWER)
    except HTTPError as error:
        status, text = error.code, error.read(_ANSWER)
    except Exception as error:
        # urllib, ssl and http.client raise errors of many classes. With any of them there is no answer.
        return str(getattr(error, "reason", None) or error)
    if status not in one.status:
        return f"status {status}"
    if one.contains is not None and one.contains.encode() not in text:
        return f"the answer does not contain {one.contains!r}"
    return None
