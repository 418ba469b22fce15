# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deliberate defects: each finds its place, wherever a function has been moved to."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tools.defects import CHECKOUT, place_of

DEFECTS = tomllib.loads((CHECKOUT / "tests" / "defects.toml").read_text(encoding="utf-8"))["defect"]

SHELL = "one() {\n    echo one\n}\n\ntwo() { # WORD\n    echo one\n    echo two\n}\n"
PYTHON = "class One:\n    def two(self):\n        return 'three'\n\n\ndef four():\n    return 'three'\n"


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect["fault"].replace(" ", "-"))
def test_each_defect_has_one_place(defect: dict[str, str]) -> None:
    _file, body = place_of(defect, CHECKOUT / "plugins" / "plugin_utils")
    assert body.count(defect["is"]) == 1


def defect_in(function: str, text: str) -> dict[str, str]:
    """A defect in a function."""
    return {"fault": "a fault", "function": function, "is": text, "becomes": ""}


def test_a_function_is_found_in_shell_and_in_python(tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text(SHELL)
    (tmp_path / "b.py").write_text(PYTHON)
    assert place_of(defect_in("two", "echo one"), tmp_path) == (tmp_path / "a.sh", SHELL.partition("\n\n")[2].rstrip())
    assert place_of(defect_in("two", "three"), tmp_path)[0] == tmp_path / "b.py"


@pytest.mark.parametrize(("function", "text"), [("one", "two"), ("nowhere", "one"), ("one", "o")])
def test_a_text_that_is_not_there_or_there_twice_is_refused(tmp_path: Path, function: str, text: str) -> None:
    (tmp_path / "a.sh").write_text(SHELL)
    with pytest.raises(SystemExit, match="a fault: a function"):
        place_of(defect_in(function, text), tmp_path)
