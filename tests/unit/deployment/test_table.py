# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of plain text."""

from __future__ import annotations

from ansible_collections.nix.ops.plugins.plugin_utils.deployment.table import Align, Column, table

COLUMNS = (Column("Name"), Column("#", Align.RIGHT), Column("Type", Align.CENTRE))


def drawn(*rows):
    return table(COLUMNS, rows).split("\n")


def test_looks_as_nixops_prints_it():
    assert drawn(("target", "1", "none"), ("a", "10", "")) == [
        "+--------+----+------+",
        "| Name   |  # | Type |",
        "+--------+----+------+",
        "| target |  1 | none |",
        "| a      | 10 |      |",
        "+--------+----+------+",
    ]


def test_without_rows():
    assert drawn() == ["+------+---+------+", "| Name | # | Type |", "+------+---+------+"]


def test_cells_of_several_lines():
    assert drawn(("one\nand two", "1", "x"))[3:5] == ["| one     | 1 |  x   |", "| and two |   |      |"]


def test_wide_and_combining_letters():
    assert drawn(("\u65e5\u672c", "1", "x"), ("e\u0301", "2", "y"))[3:5] == [
        "| \u65e5\u672c | 1 |  x   |",
        "| e\u0301    | 2 |  y   |",
    ]


def test_nothing_that_a_terminal_obeys():
    assert drawn(("\x1b[2Jgone\r", "1", "x"))[3] == "| \ufffd[2Jgone\ufffd | 1 |  x   |"
