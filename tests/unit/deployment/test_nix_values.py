# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain values in Nix's syntax."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import nix_values

# Nix has no text with a null byte, and numbers of 64 bits.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
PLAIN = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | TEXTS
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4))


@given(VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert nix_values.read(nix_values.write(value)) == value


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, min_size=5))
def test_nix_reads_what_is_written(value: dict[str, Any]) -> None:
    done = subprocess.run(
        ["nix-instantiate", "--eval", "--strict", "--json", "-"],
        input=nix_values.write(value).encode(),
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"example.org"', "example.org"),
        (r'"a\"b\\c\n\${x} $y 5$"', 'a"b\\c\n${x} $y 5$'),
        (" 3 # three\n", 3),
        ("-3", -3),
        ("1.5e3", 1500.0),
        ("true", True),
        ("null", None),
        ('[ 1 "b" [ ] (-2) ]', [1, "b", [], -2]),
        ('{ a = 1; "b c" = { d = false; }; }', {"a": 1, "b c": {"d": False}}),
    ],
)
def test_values_are_read(text: str, value: Any) -> None:
    assert nix_values.read(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "import ./secret.nix",
        "./path",
        "<nixpkgs>",
        '"${builtins.readFile /etc/passwd}"',
        "builtins.getEnv",
        "x: x",
        "1 + 1",
        "1 2",
        "builtins.sub 0 1",
        "[ 1",
        "{ a = 1 }",
        "rec { a = 1; }",
        "{ a.b = 1; inherit c; }",
        "(1",
        "''text''",
        '"open',
        "1.2.3",
        "[" * 1000,
        "\0",
    ],
)
def test_expressions_are_not_evaluated(text: str) -> None:
    with pytest.raises(nix_values.NoPlainValue):
        nix_values.read(text)
