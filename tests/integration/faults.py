# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What faults did to live machines, as the tests saw it: the table of docs/faults.md."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import pytest

from integration.project import TESTS

PAGE = TESTS.parent / "docs" / "faults.md"

# The name under which a test's report carries its rows.
ROW = "fault"

# Set by `make faults`: the page is written, and only the tests are run that tell a row of it.
WRITE = "NIX_OPS_WRITE_FAULTS"

# Set by `make chaos`: only the tests are run that are marked so. All others take less time.
CHAOS = "NIX_OPS_CHAOS"

# Marks a row of `make chaos`.
_LONG = " †"

_HEAD = """# What a deploy survives

Each row is a fault. The tests cause it on a live machine during a deploy, and then inspect the machine without its
network. The tests write this page, and a run fails if it sees something else.

- **runs**, **boots**: `old` is what ran before the deploy, `new` is what was deployed.
- **sshd**: whether the sshd that listens is the same process as before.
- **next deploy**: what the next deploy does, either the same one or one that corrects the fault.
- **†**: only `make chaos` causes this fault, since it takes long.

No unit, file, lock or GC root of the activation is left over in any row.

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
        mark = _LONG if request.node.get_closest_marker("chaos") else ""
        row = [f"{fault}{mark}", _first(says), which(after["running"]), which(after["boot_default"]), sshd, then]
        request.node.user_properties.append((ROW, json.dumps(row)))

    return take_down


def _first(message: str | None) -> str:
    """The first line of a message, without what differs from run to run."""
    if message is None:
        return "—"
    line = message.splitlines()[0].partition(": ")[2] or message.splitlines()[0]
    line = re.sub(r"/nix/store/[a-z0-9]{32}-nixos-system-[^ ,:;]*", "…", line)
    # What the last of several tries met is not the same each time.
    line = re.sub(r"(nobody got in over .*, so the machine has gone back to what ran before): .*", r"\1", line)
    return re.sub(r": Failed to connect .*|: ssh: .*|: Data could not .*|: Task failed.*|: Connection .*", "", line)


def page(rows: Iterable[list[str]]) -> str:
    """The page with these rows."""
    return _HEAD + "".join(f"| {' | '.join(cell.replace('|', '¦') for cell in row)} |\n" for row in sorted(rows))


def rows_of(text: str) -> dict[str, list[str]]:
    """The rows of a page, by their faults."""
    lines = text.removeprefix(_HEAD).splitlines()
    return {row[0]: row for row in (line[2:-2].split(" | ") for line in lines if line.startswith("| "))}


def differences(text: str, told: Mapping[str, list[str]], *, complete: bool) -> list[str]:
    """How a page differs from what the tests have told.

    :param told: rows by their faults.
    :param complete: whether all tests were run, so that a row of none of them is too many.
    :returns: a line for each difference.
    """
    old = rows_of(text)
    found = []
    for fault, row in sorted(told.items()):
        if fault not in old:
            found.append(f"is missing: {' | '.join(row)}")
        elif old[fault] != row:
            found.append(f"has: {' | '.join(old[fault])}\n  was seen: {' | '.join(row)}")
    if complete:
        found += [f"no test tells of: {fault}" for fault in sorted(_short(old) - told.keys())]
    if not found and text != page(old.values()):
        found.append("is not written as the tests write it")
    return found


def _short(rows: Mapping[str, list[str]]) -> set[str]:
    """The faults that a run of all tests causes."""
    return {fault for fault in rows if not fault.endswith(_LONG)}


class FaultsPage:
    """Compares what the tests of a run have told with the page, or writes it; the rows of others stay."""

    def __init__(self) -> None:
        self._told: dict[str, list[str]] = {}
        self._differences: list[str] = []
        self._written = False

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out the tests that tell nothing, where the page is written."""
        if os.environ.get(WRITE):
            silent = [item for item in items if {"tell", "shown"}.isdisjoint(getattr(item, "fixturenames", ()))]
            items[:] = [item for item in items if item not in silent]
            config.hook.pytest_deselected(items=silent)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the rows of a test that passed."""
        if report.when == "call" and report.passed:
            rows = [json.loads(str(value)) for name, value in report.user_properties if name == ROW]
            self._told |= {row[0]: row for row in rows}

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run where the page differs, or write it."""
        # A worker of a run that has several tells the one that has started it.
        if hasattr(session.config, "workerinput") or not self._told:
            return
        text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        # A test that failed told nothing.
        complete = not session.testsfailed and _runs_all(session.config)
        self._differences = differences(text, self._told, complete=complete)
        if not self._differences:
            return
        if os.environ.get(WRITE):
            old = rows_of(text)
            kept = {fault: row for fault, row in old.items() if not complete or fault not in _short(old)}
            PAGE.write_text(page((kept | self._told).values()), encoding="utf-8")
            self._written = True
        else:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how the page differs."""
        if not self._differences:
            return
        if self._written:
            terminalreporter.write_line(f"docs/{PAGE.name} was written: look at it, and commit it.")
            return
        terminalreporter.section(f"docs/{PAGE.name} differs from what was seen: 'make faults' writes it", red=True)
        for line in self._differences:
            terminalreporter.line(f"- {line}")


def _runs_all(config: pytest.Config) -> bool:
    """Whether no test was left out."""
    option = config.option
    chosen = option.keyword or option.markexpr or getattr(option, "deselect", None)
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS and not chosen
