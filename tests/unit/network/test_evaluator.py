# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed evaluation says."""

from __future__ import annotations

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluator

TRACE = "(use '--show-trace' to show detailed location information)"


@pytest.mark.parametrize(
    ("said", "helps"),
    [
        (f"error: attribute 'x' missing\n{TRACE}", "options: {show-trace: true}"),
        (f"error: flake 'path:/a' requires lock file changes but they're not allowed\n{TRACE}", "nix flake lock"),
        ("error: syntax error", "Correct the error that Nix shows above."),
    ],
)
def test_a_failed_evaluation_is_told_once_and_has_a_next_step(said: str, helps: str) -> None:
    shown: list[str] = []
    heard = evaluator._Heard(shown.append, evaluator.Follower(), is_bounded=False)
    for line in ["trace: hello", *said.splitlines()]:
        heard.line(line)
    failure = evaluator._failure(heard, 1)
    assert (shown, failure.output) == (["trace: hello"], said)
    assert helps in (failure.next_step or "")


def test_without_a_listener_the_failure_has_all() -> None:
    heard = evaluator._Heard(None, evaluator.Follower(), is_bounded=False)
    for line in ("warning: old", "error: no"):
        heard.line(line)
    assert evaluator._failure(heard, 1).output == "warning: old\nerror: no"
