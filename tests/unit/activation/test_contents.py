# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a preview shows of two systems in the store: limited, and no secret of a user."""

from __future__ import annotations

import json
import re

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.activation import contents


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A directory that stands for the store."""
    monkeypatch.setattr(contents, "_STORE", str(tmp_path))
    monkeypatch.setattr(contents, "_ACCOUNTS", re.compile(rf"{re.escape(str(tmp_path))}/\S+users-groups\.json"))
    for name in ("old", "new"):
        (tmp_path / name / "etc").mkdir(parents=True)
    return tmp_path


def differ(store, name, old, new):
    """Have a file of /etc in two systems."""
    for system, content in (("old", old), ("new", new)):
        if content is not None:
            (store / system / "etc" / name).write_bytes(content)
    return contents.etc(str(store / "old"), str(store / "new"), [name])


def test_a_changed_file_is_shown_as_a_difference(store):
    assert differ(store, "motd", b"hello\nyou\n", b"hello\nworld\n") == (
        *("--- /etc/motd now", "+++ /etc/motd then", "@@ -1,2 +1,2 @@", " hello", "-you", "+world"),
    )
    assert differ(store, "new", None, b"x\n")[-1] == "+x"
    assert differ(store, "gone", b"x\n", None)[-1] == "-x"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"x" * 70_000])
def test_what_is_no_text_or_too_large_is_not_shown(store, content):
    assert differ(store, "data", b"hello\n", content) == ()


def test_what_leads_out_of_the_store_is_not_shown(store, tmp_path_factory):
    secret = tmp_path_factory.mktemp("outside") / "secret"
    secret.write_text("secret\n")
    (store / "new" / "etc" / "link").symlink_to(secret)
    assert differ(store, "link", b"hello\n", None) == ()


def test_much_is_left_out(store):
    long = b"".join(b"%d\n" % number for number in range(100))
    shown = differ(store, "long", None, long)
    assert (len(shown), shown[-1]) == (41, "(63 more lines of /etc/long)")
    for name in "abcdefgh":
        (store / "new" / "etc" / name).write_bytes(long)
    shown = contents.etc(str(store / "old"), str(store / "new"), "abcdefgh")
    assert (len(shown), shown[-1]) == (165, "(the contents of further files in /etc are left out)")


def accounts(store, system, users, groups):
    """Describe the users and groups of a system."""
    spec = store / f"{system}-users-groups.json"
    spec.write_text(json.dumps({"mutableUsers": True, "users": users, "groups": groups}))
    (store / system / "activate").write_text(f"perl -w update-users-groups.pl {spec}\n")


def test_users_and_groups_are_named_without_their_passwords(store):
    old = {"name": "bob", "shell": "/bin/sh", "hashedPassword": "$6$old"}
    new = {"name": "bob", "shell": "/bin/fish", "hashedPassword": "$6$new"}
    accounts(store, "old", [old, {"name": "eve"}, {"name": "root"}], [{"name": "wheel", "members": []}])
    accounts(store, "new", [new, {"name": "ada"}, {"name": "root"}], [{"name": "wheel", "members": ["bob"]}])
    shown = contents.accounts(str(store / "old"), str(store / "new"))
    assert shown == (
        "user ada: new",
        "user bob: other hashedPassword, shell",
        "user eve: gone",
        "group wheel: other members",
    )
    (store / "new" / "activate").write_text("nothing\n")
    assert contents.accounts(str(store / "old"), str(store / "new")) == ()


def test_parameters_of_the_kernel(store):
    for system, text in (("old", "quiet loglevel=4"), ("new", "loglevel=7 quiet")):
        (store / system / "kernel-params").write_text(text)
    both = str(store / "old"), str(store / "new")
    assert contents.kernel_parameters(*both) == ("kernel parameters: -loglevel=4 +loglevel=7",)
    assert contents.kernel_parameters(both[0], both[0]) == ()
    (store / "new" / "kernel-params").write_text("loglevel=4 quiet")
    assert contents.kernel_parameters(*both) == ("kernel parameters: in another order",)
