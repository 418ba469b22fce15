# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys go when they are needed, and none goes that what runs may need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.keys import delivery, sending
from ansible_collections.nix.ops.plugins.plugin_utils.keys.contents import Sources
from ansible_collections.nix.ops.plugins.plugin_utils.keys.delivery import Delivery
from ansible_collections.nix.ops.plugins.plugin_utils.keys.sending import Sending, Sent
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Key

KEYS = (Key("after", "/run/keys/after", after=True), Key("early", "/run/keys/early"), Key("owned", "/run/keys/owned"))


@dataclass
class Sendings:
    """Takes the place of the sending; a key `gone` has left the network."""

    waits: tuple[str, ...] = ()
    made: list[tuple[list[str], Sending]] = field(default_factory=list)

    def send(self, _machine: Machine, _keys: Sequence[Key], contents: Mapping[str, bytes], how: Sending) -> Sent:
        self.made.append((sorted(contents), how))
        removes = how.whole and not how.before
        waits = self.waits if how.lenient else ()
        return Sent(removed=("gone",) if removes else (), left=() if removes else ("gone",), waits=waits)


@pytest.fixture
def sendings(monkeypatch: pytest.MonkeyPatch) -> Sendings:
    """What is sent."""
    made = Sendings()
    monkeypatch.setattr(sending, "send", made.send)
    return made


@pytest.fixture
def keys() -> Delivery:
    """The keys of a machine."""
    sources = Sources("m", {key.name: key.name for key in KEYS}, None, "/")
    return Delivery(
        lambda: Machine("m", lambda *_: pytest.fail("asked"), {}), "uuid", KEYS, sources, list[str]().append
    )


def test_sending_without_a_word_removes_nothing(sendings: Sendings, keys: Delivery) -> None:
    assert keys.send().left == keys.send(["early"]).left == ("gone",)
    assert [(names, how.whole, how.lenient) for names, how in sendings.made] == [
        (["after", "early", "owned"], False, False),
        (["early"], False, False),
    ]
    assert delivery.remaining(keys.send()) == ["keys that left the network, until a deploy removes them: gone"]
    assert keys.send(whole=True) == Sent(removed=("gone",))
    assert keys.preview(whole=False).sent.left and keys.preview(whole=True).sent.removed


def test_keys_that_left_are_removed_after_the_activation_alone(sendings: Sendings, keys: Delivery) -> None:
    before = keys.send_before()
    assert before.left == ("gone",) and not before.removed
    keys.send_after(whole=True, lenient=False)
    assert keys.sent == Sent(removed=("gone",))
    [(early, _before), (after, how)] = sendings.made
    assert (early, after) == (["early", "owned"], ["after"]) and how.whole and not how.lenient


def test_a_system_that_only_boots_next_leaves_the_keys_of_the_running_one(sendings: Sendings, keys: Delivery) -> None:
    sendings.waits = ("owned",)
    keys.send_before()
    keys.send_after(whole=False, lenient=True)
    assert (keys.sent.left, keys.sent.removed, keys.sent.waits) == (("gone",), (), ("owned",))
    names, how = sendings.made[-1]
    assert names == ["after", "owned"] and how.lenient and not how.whole
    only = Delivery(keys._machine, "uuid", KEYS[1:2], Sources("m", {"early": "x"}, None, "/"), list[str]().append)
    sendings.waits = ()
    only.send_before()
    count = len(sendings.made)
    only.send_after(whole=False, lenient=True)
    assert only.sent.left == ("gone",)
    assert len(sendings.made) == count, "nothing is left to be sent"
