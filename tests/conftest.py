# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from integration.faults import CHAOS, FaultsPage

INTEGRATION = Path(__file__).parent / "integration"
UNIT = Path(__file__).parent / "unit"


class SkippedLiveTests:
    """In CI a live test that is skipped is a failure: it would pass for a tested promise."""

    def __init__(self) -> None:
        self._node_ids: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._node_ids.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._node_ids.append(report.nodeid)

    def _live(self, config: pytest.Config) -> list[str]:
        return [node_id for node_id in self._node_ids if (config.rootpath / node_id).is_relative_to(INTEGRATION)]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._live(session.config):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        if names := self._live(config):
            terminalreporter.section("live tests skipped in CI", red=True)
            for name in names:
                terminalreporter.line(name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the unit tests for both pairs, and leave out the tests of `make chaos`, or all others."""
    for item in items:
        if item.path.is_relative_to(UNIT):
            item.add_marker(pytest.mark.both_pairs)
    is_chaos = bool(os.environ.get(CHAOS))
    others = [item for item in items if (item.get_closest_marker("chaos") is not None) != is_chaos]
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=others)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(FaultsPage(), "faults-page")
    if os.environ.get("CI") == "true":
        config.pluginmanager.register(SkippedLiveTests(), "skipped-live-tests")
