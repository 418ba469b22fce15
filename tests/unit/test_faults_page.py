# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of docs/faults.md: a run that saw something else says so."""

from __future__ import annotations

from integration.faults import differences, page

CLOCK = ["the clock", "done", "new", "new", "the same", ""]
DISK = ["the disk", "full", "new", "old", "the same", "succeeds"]
TOLD = {row[0]: row for row in (CLOCK, DISK)}


def test_nothing_differs() -> None:
    assert differences(page(TOLD.values()), TOLD, complete=True) == []


def test_a_row_that_is_another_is_told() -> None:
    other = [*DISK[:2], "old", *DISK[3:]]
    (line,) = differences(page([CLOCK, other]), TOLD, complete=True)
    assert line.startswith("has: the disk | full | old")
    assert "was seen: the disk | full | new" in line


def test_a_row_that_is_missing_is_told() -> None:
    (line,) = differences(page([CLOCK]), TOLD, complete=False)
    assert line.startswith("is missing: the disk")


def test_a_row_of_no_test_is_told_where_all_tests_were_run() -> None:
    assert differences(page(TOLD.values()), {"the clock": CLOCK}, complete=False) == []
    assert differences(page(TOLD.values()), {"the clock": CLOCK}, complete=True) == ["no test tells of: the disk"]


def test_a_page_that_was_written_by_hand_is_told() -> None:
    assert differences(page(TOLD.values()) + "and more\n", TOLD, complete=True) != []
    assert differences("", TOLD, complete=True) != []
