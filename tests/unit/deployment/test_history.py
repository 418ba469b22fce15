# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What machines go back to, from what they have recorded and what they still have."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import history
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.history import Choice, Past
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import DEPLOY, Activated
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Generation, Standing

# 2026-01-0N 12:00 UTC.
NOON = 1767268800 - 86400
DAY = 86400


def toplevel(name: str) -> str:
    return f"/nix/store/{name * 32}-nixos-system-{name}"


def deploy(day: int) -> str:
    return f"2026010{day}-120000-00{day}{day}"


def on(day: int) -> int:
    return NOON + day * DAY


def activated(name: str, day: int, *, of: int | None = -1, **other: Any) -> Activated:
    """An activation on a day, of the deploy of that day."""
    of = day if of == -1 else of
    rest: dict[str, Any] = {"action": "switch", "exit_code": 0, **other}
    when = on(day) + 60
    return Activated(toplevel(name), generation=None, time=when, deploy=deploy(of) if of else None, **rest)


def past(profile: str, *activations: Activated, generations: str = "abcd", kept: str = "", gone: int = 0) -> Past:
    """A machine that boots a system.

    :param activations: the earliest first.
    :param generations: the systems of its generations, from 1 on, each made on the day of its number.
    :param gone: how many of the first generations are gone.
    """
    numbered = [Generation(number, toplevel(name), on(number)) for number, name in enumerate(generations, 1)][gone:]
    number = max((one.number for one in numbered if one.toplevel == toplevel(profile)), default=None)
    standing = Standing(toplevel(profile), toplevel(profile), toplevel(profile), number, None)
    return Past(standing, tuple(reversed(activations)), tuple(numbered), frozenset(map(toplevel, kept)))


def chosen(choice: Choice) -> dict[str, tuple[str, int | None, str | None]]:
    return {
        host: (one.toplevel[-1], one.generation.number if one.generation else None, one.deploy)
        for host, one in choice.targets.items()
    }


def back(to: str, one: Past) -> tuple[str, int | None, str | None]:
    """What one machine goes back to."""
    return chosen(history.choose(to, {"web": one}))["web"]


def refused(to: str, **pasts: Past) -> str:
    with pytest.raises(OpsError) as error:
        history.choose(to, pasts)
    assert error.value.state == "nothing was touched"
    return f"{error.value}"


def test_ids_are_valid_and_tell_when_the_deploy_began():
    assert DEPLOY.fullmatch(history.new_id(on(1)))
    assert history.new_id(on(1)).startswith("20260101-120000-")
    assert history.new_id(1) != history.new_id(1)


def test_previous_is_what_the_machine_booted_before():
    assert back("previous", past("c", activated("b", 2), activated("c", 3))) == ("b", 2, deploy(2))
    # Without a record the next lower generation, and never the same system under another number.
    assert back("previous", past("c", generations="abcc")) == ("b", 2, None)
    assert back("previous", past("b", activated("b", 2))) == ("a", 1, None)
    # What boots by nobody's deploy is undone first.
    assert back("previous", past("d", activated("b", 2), activated("c", 3))) == ("c", 3, deploy(3))


def test_a_deploy_that_was_undone_does_not_come_back():
    undone = (activated("a", 1), activated("b", 2), activated("a", 3, of=1))
    assert back("previous", past("c", *undone, activated("c", 4))) == ("a", 1, deploy(1))
    assert back(
        "previous", past("b", activated("a", 1), activated("b", 2), activated("c", 3), activated("b", 4, of=2))
    ) == (
        *("a", 1),
        deploy(1),
    )
    # To the first one under a new number, since its generation was deleted.
    first = (activated("a", 1), activated("b", 2), activated("c", 3), activated("a", 4, of=1))
    assert "it has no earlier system" in refused("previous", web=past("a", *first, generations="abca", gone=1))
    # The same system deployed anew is another deploy, and one that failed is none.
    failed = activated("d", 3, rolled_back=True)
    test = activated("d", 3, action="test")
    assert back("previous", past("b", activated("a", 1), activated("b", 2), failed, test)) == ("a", 1, deploy(1))
    again = (activated("a", 1), activated("b", 2), activated("b", 3))
    assert back("previous", past("b", *again)) == ("a", 1, deploy(1))


def test_previous_undoes_the_latest_deploy_of_several_machines():
    web = past("c", activated("a", 1), activated("b", 2), activated("c", 3))
    db = past("b", activated("a", 1), activated("b", 2))
    strange = past("d", activated("a", 1))
    choice = history.choose("previous", {"web": web, "db": db, "strange": strange})
    assert chosen(choice) == {"web": ("b", 2, deploy(2))}
    assert choice.stays == dict.fromkeys(["db", "strange"], f"was no part of the deploy {deploy(3)}")
    # Without ids each machine goes back.
    old = {name: past("b", activated("a", 1, of=None), activated("b", 2, of=None)) for name in ("web", "db")}
    assert chosen(history.choose("previous", old)) == {"web": ("a", 1, None), "db": ("a", 1, None)}


def test_a_deploy_is_where_each_machine_was_after_it():
    web = past("c", activated("a", 1), activated("b", 2), activated("c", 3))
    db = past("d", activated("a", 1), activated("d", 4))
    assert chosen(history.choose(deploy(2), {"web": web, "db": db})) == {
        "web": ("b", 2, deploy(2)),
        "db": ("a", 1, deploy(1)),
    }
    assert "no machine remembers the deploy 20260109-120000-0000" in refused("20260109-120000-0000", web=web, db=db)
    assert f"remembered: {deploy(3)}, {deploy(2)}, {deploy(1)}." in refused("20260109-120000-0000", web=web)
    # A machine that came later.
    new = past("c", activated("c", 3), generations="..c", gone=2)
    assert "new: nothing is known of it at 2026-01-02" in refused(deploy(2), web=web, new=new)
    # The clock of a machine does not count where the controller's is known.
    early = past("b", activated("a", 1, of=2), activated("b", 1, of=4))
    assert chosen(history.choose(deploy(3), {"web": web, "early": early}))["early"] == ("a", 1, deploy(2))
    # An id that no clock has told.
    strange = "99999999-999999-0000"
    odd = past("a", Activated(toplevel("a"), "switch", None, 0, 5, deploy=strange))
    assert "web: 99999999-999999-0000 is not the id of a deploy" in refused(strange, odd=odd, web=web)


def test_a_date_is_what_the_machine_booted_then():
    web = past("c", activated("b", 2), activated("c", 3))
    assert back("2026-01-02T18:00:00+00:00", web) == ("b", 2, deploy(2))
    assert back("2026-01-02 11:00:00+00:00", web) == ("a", 1, None), "of its generations"
    assert back("2026-01-04", web) == ("c", 3, deploy(3)), "the end of the day"
    assert back("2030-01-01", web) == ("c", 3, deploy(3))
    went_back = past("b", activated("b", 2), activated("c", 3), activated("b", 4, of=2))
    assert back("2026-01-03T18:00:00+00:00", went_back) == ("c", 3, deploy(3))
    assert back("2026-01-04T18:00:00+00:00", went_back) == ("b", 2, deploy(2))
    assert "web: nothing is known of it at 1999-12-3" in refused("1999-12-31 12:00", web=web)
    for wrong in ("yesterday", "", "12 00", "-1", "0001-01-01", "switch", "/nix/store/abc"):
        assert "rollback_to is" in refused(wrong, web=web) or wrong == "0001-01-01"


def test_a_number_or_a_system_is_of_one_machine():
    web = past("c", activated("b", 2))
    assert back("2", web) == ("b", 2, deploy(2))
    assert back(toplevel("a"), web) == ("a", 1, None)
    assert "web: it has no generation 7; it has\n  generation 4, 2026-01-04" in refused("7", web=web)
    assert f"{toplevel('x')} is not there any more" in refused(toplevel("x"), web=web)
    assert "2 machines are chosen" in refused("2", web=web, db=web)
    assert "a system of one machine" in refused(toplevel("a"), web=web, db=web)


def test_what_is_gone_is_refused_unless_the_controller_keeps_it():
    line = (activated("a", 1), activated("b", 2))
    assert back("previous", past("b", *line, gone=1, kept="a")) == ("a", None, deploy(1))
    message = refused("previous", web=past("b", *line, gone=1))
    assert f"web: {toplevel('a')} is not there any more; it has" in message
    assert "nix.ops.generations" in message
    assert history.protected(past("b", *line)) == {toplevel("a")}
    assert history.protected(past("a", generations="a")) == set()


def test_the_deploys_of_several_machines():
    web = past("b", activated("a", 1, origin="me@laptop", revision="a" * 40), activated("b", 2))
    db = past("a", activated("a", 1), activated("c", 3, rolled_back=True))
    found = history.deploys({"web": web, "db": db})
    assert [(one.id, one.machines, one.origin) for one in found] == [
        (deploy(2), ("web",), None),
        (deploy(1), ("web", "db"), "me@laptop"),
    ]


def test_a_long_list_of_generations_is_cut():
    many = Past(
        Standing(None, None, None, None, None), (), tuple(Generation(n, toplevel("a"), n) for n in range(1, 400))
    )
    assert refused("500", web=many).count("  generation ") == 20
    assert time.strftime("%Y-%m", time.localtime(399)) in refused("500", web=many)
