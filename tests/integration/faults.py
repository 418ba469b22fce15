# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What faults did to live machines, as the tests saw it: the table of docs/faults.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import pytest

from integration.project import TESTS

PAGE = TESTS.parent / "docs" / "faults.md"

# The name under which a test's report carries its rows.
ROW = "fault"

_HEAD = """# What a deploy survives

Each row is a fault that the tests bring about on a live machine, and what they saw there afterwards, past its network.
The test run writes this page; no line of it is written by hand.

- **runs**, **boots**: `old` is what ran before, `new` what was deployed.
- **sshd**: whether the server that listens is the process that it was before; a machine that boots has another.
- **next deploy**: what the same deploy, or the mended one, does afterwards.

Nothing is left over in any row: no unit, file, lock or GC root of the activation.

| fault | the deploy says | runs | boots | sshd | next deploy |
|---|---|---|---|---|---|
"""


class Tell(Protocol):
    """Tells what a fault did."""

    def __call__(
        self,
        fault: str,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        *,
        says: str | None = None,
        then: str = "",
    ) -> None:
        """Tell it.

        :param before: what was seen on the machine before, by ``Machine.inspect``.
        :param after: the same afterwards.
        :param says: the message of the deploy; None where nobody was there to say anything.
        :param then: what the next deploy does.
        """


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Takes down what a fault did, for docs/faults.md; it counts where the test passes."""

    def take_down(
        fault: str,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        *,
        says: str | None = None,
        then: str = "",
    ) -> None:
        def which(toplevel: str) -> str:
            return "old" if toplevel == before["running"] else "new"

        sshd = "booted anew" if after["boot_id"] != before["boot_id"] else "the same"
        if sshd == "the same" and after["sshd_pid"] != before["sshd_pid"]:
            sshd = "another"
        row = [fault, _first(says), which(after["running"]), which(after["boot_default"]), sshd, then]
        request.node.user_properties.append((ROW, json.dumps(row)))

    return take_down


def _first(message: str | None) -> str:
    """The first line of a message, without what differs from run to run."""
    if message is None:
        return "—"
    line = message.splitlines()[0].partition(": ")[2] or message.splitlines()[0]
    line = re.sub(r"/nix/store/[a-z0-9]{32}-nixos-system-[^ ,:;]*", "…", line)
    return re.sub(r": Failed to connect .*|: ssh: .*|: Data could not .*|: Task failed.*|: Connection .*", "", line)


def page(rows: Iterable[list[str]]) -> str:
    """The page with these rows."""
    return _HEAD + "".join(f"| {' | '.join(cell.replace('|', '¦') for cell in row)} |\n" for row in sorted(rows))


def rows_of(text: str) -> dict[str, list[str]]:
    """The rows of a page, by their faults."""
    lines = text.removeprefix(_HEAD).splitlines()
    return {row[0]: row for row in (line[2:-2].split(" | ") for line in lines if line.startswith("| "))}


class FaultsPage:
    """Writes what the tests of a run have told to the page; the rows of others stay."""

    def __init__(self) -> None:
        self._told: dict[str, list[str]] = {}
        self._stale = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the rows of a test that passed."""
        if report.when == "call" and report.passed:
            rows = [json.loads(str(value)) for name, value in report.user_properties if name == ROW]
            self._told |= {row[0]: row for row in rows}

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the page where it is another now."""
        # A worker of a run that has several tells the one that has started it.
        if hasattr(session.config, "workerinput") or not self._told or session.testsfailed:
            return
        old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        new = page((rows_of(old) | self._told).values())
        if new != old:
            PAGE.write_text(new, encoding="utf-8")
            self._stale = True

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say that the page is another now."""
        if self._stale:
            terminalreporter.write_line(f"docs/{PAGE.name} is another now: look at it, and commit it.")
