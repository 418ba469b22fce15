# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a relay is addressed, and how what it hands out is read and kept apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.store import via

PATH = "/nix/store/01lsv12nymvba7a80a0wc1rn4bj1cbkg-base"


@pytest.mark.parametrize(
    ("store", "told"),
    [
        (None, "nix-ssh@gateway:2222"),
        ("ssh://10.0.0.5", "nix-ssh@10.0.0.5:22"),
        ("ssh://root@gateway.example.org:24/", "root@gateway.example.org:24"),
        ("ssh://nix-ssh@[fd00::5]:24", "nix-ssh@fd00::5:24"),
    ],
)
def test_address(store: str | None, told: str) -> None:
    assert str(via.address(store, "gateway", 2222)) == told


def test_address_of_the_controller_may_have_any_family() -> None:
    assert via.address(None, "fd00::5", None) == via.Address("nix-ssh", "fd00::5", 22)


@pytest.mark.parametrize(
    "store",
    ["10.0.0.5", "http://10.0.0.5", "ssh://-oProxyCommand=x@a", "ssh://a -o x", "ssh://a:0", "ssh://a:99999", "ssh://"],
)
def test_an_address_that_could_be_read_as_an_option_is_refused(store: str) -> None:
    with pytest.raises(OpsError, match="is not an address of the relay's store"):
        via.address(store, "gateway", None)


def test_what_a_store_has_registered_is_read() -> None:
    other = PATH.replace("base", "other")
    dump = f"{PATH}\naa\n152\n\n0\n{other}\nbb\n7\n/nix/store/x.drv\n2\n{PATH}\n{other}"
    assert via.registered(dump) == {
        PATH: ("aa", 152, frozenset()),
        other: ("bb", 7, frozenset({PATH, other})),
    }


@pytest.mark.parametrize("dump", [PATH, f"{PATH}\naa\nmany\n\n0", f"{PATH}\naa\n1\n\n2\n{PATH}"])
def test_a_damaged_dump_is_refused(dump: str) -> None:
    with pytest.raises(ValueError):
        via.registered(dump)


def test_one_process_copies_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with via._alone("gateway", 1, lambda _line: None):
        lock = (tmp_path / "nix.ops/via-gateway.lock").open()
        assert not via._locks(lock.fileno())
    assert via._locks(lock.fileno())
    lock.close()
