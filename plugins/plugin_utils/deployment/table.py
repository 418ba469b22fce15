# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of plain text, as NixOps prints them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ansible_collections.nix.ops.plugins.plugin_utils.display import plain

# Combining marks and invisible characters take no column.
_NO_WIDTH = ("Mn", "Me", "Cf")
_WIDE = ("W", "F")


class Align(StrEnum):
    """The alignment of a column."""

    LEFT = "<"
    RIGHT = ">"
    CENTRE = "^"


@dataclass(frozen=True)
class Column:
    """A column. Its title is aligned as its cells are."""

    title: str
    align: Align = Align.LEFT


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """Draw a table.

    :param rows: the cells of each row; a cell may have several lines.
    """
    cells = [[plain(cell).replace("\t", " ").split("\n") for cell in row] for row in rows]
    widths = [
        max(_width(line) for line in (column.title, *(line for row in cells for line in row[number])))
        for number, column in enumerate(columns)
    ]
    border = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    aligns = [column.align for column in columns]
    head = _row([[column.title] for column in columns], aligns, widths)
    body = [line for row in cells for line in _row(row, aligns, widths)]
    return "\n".join([border, *head, border, *body, *([border] if rows else [])])


def _row(cells: Sequence[Sequence[str]], aligns: Sequence[Align], widths: Sequence[int]) -> list[str]:
    height = max(len(cell) for cell in cells)
    lines = []
    for number in range(height):
        texts = [cell[number] if number < len(cell) else "" for cell in cells]
        placed = [_place(*one) for one in zip(texts, aligns, widths, strict=True)]
        lines.append("| " + " | ".join(placed) + " |")
    return lines


def _place(text: str, align: Align, width: int) -> str:
    # str.format counts characters, not columns.
    return f"{text:{align}{width - _width(text) + len(text)}}"


def _width(text: str) -> int:
    return sum(_columns(one) for one in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in _NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1
