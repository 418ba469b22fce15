# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine says of the activation that is at work, and what is made of it."""

from __future__ import annotations

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.activation import unlock
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine, Wait
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed

TOPLEVEL = f"/nix/store/{'0' * 32}-nixos-system-web"
BOOT = "11111111-2222-4333-8444-555555555555"
ANSWER = f"""\
activation /run/nix-ops-0123456789abcdef
holder nix.ops switch of {TOPLEVEL} by me@laptop (process 7)
what switch {TOPLEVEL}
step activate
since 1000000000
now 1000003725
goes_back yes
"""


def machine(answer: str) -> Machine:
    def execute(command: str, _stdin: bytes, _wait: Wait) -> Completed:
        return Completed((command,), 0, f"nix.ops answers {BOOT} \n{answer}nix.ops ends 0\n", "")

    return Machine("web", execute, {})


def test_who_is_at_work() -> None:
    found = unlock.look(machine(ANSWER))
    assert found is not None
    assert found.as_json() == {
        "holder": f"nix.ops switch of {TOPLEVEL} by me@laptop (process 7)",
        "action": "switch",
        "toplevel": TOPLEVEL,
        "step": "activate",
        "since": 1000000000,
        "seconds": 3725,
        "goes_back": True,
    }
    assert found.sentence().endswith("(1 h 2 min), at the step activate")
    assert "-e unlock_end=true" in str(unlock.busy("web", found))
    assert unlock.look(machine("")) is None


@pytest.mark.parametrize(
    "answer",
    [
        "activation -\nholder x\n",
        "activation /run/nix-ops-0123456789abcdef\nwhat reboot now\nstep $(x)\nsince 0\nholder \n",
    ],
)
def test_what_is_not_known(answer: str) -> None:
    found = unlock.look(machine(answer))
    assert found is not None
    assert (found.action, found.toplevel, found.step, found.since, found.goes_back) == (None, None, None, None, False)
    assert "unlock_end" not in str(unlock.busy("web", found))


@pytest.mark.parametrize("answer", ["activation /etc\n", "activation -\nending all\n", "x y\n"])
def test_an_answer_that_is_not_valid(answer: str) -> None:
    with pytest.raises(OpsError, match="answer is not valid"):
        unlock.look(machine(answer))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("activation -\nholder x\n", "it has no files in /run"),
        (f"{ANSWER}ending never\n", "half a switch would be left"),
    ],
)
def test_what_is_not_ended(answer: str, why: str) -> None:
    with pytest.raises(OpsError, match=why):
        unlock.end(machine(answer), holder="me", on_line=print, patience=1)
