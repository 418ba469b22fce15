# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every promise of docs/security.md names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_each_promise_has_its_test() -> None:
    page = (TESTS.parent / "docs" / "security.md").read_text(encoding="utf-8")
    promised = page.partition("## Promises")[2].partition("\n## ")[0]
    rows = [line for line in promised.splitlines() if line.startswith("| ") and not line.startswith("| Promise")]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            found = list(TESTS.rglob(file))
            assert [one for one in found if f"def {test}(" in one.read_text(encoding="utf-8")], f"{file}::{test}"
