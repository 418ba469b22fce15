# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources are edited in the lines of their option alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.source_text import ABSENT, Edit, dump, edit, hide

PATH = "/srv/target.network.yml"

SOURCE = """\
---
# The deployment of the shop.
plugin: nix.ops.network
name: target  # as the customers call it

uuid: 9e8652aa-e64a-11f1-b7ab-02fc00000001
files:
  # Where the machines are.
  - target.nix
  - config.nix # what they run

  # Kept for the auditors.
  - audit.nix
arguments:
  domain: example.org  # since 2024
  # Made by ansible-vault encrypt_string.
  token: !vault |
          $ANSIBLE_VAULT;1.1;AES256
          3130
  ports: [22, 80]   # both
nix_path: [nixpkgs=./nixpkgs, "a b=./c"]  # pinned
# The end.
"""


def changed(text: str, path: str, value: Any) -> str:
    """The source after one edit; the path has dots."""
    return edit(text, [Edit(tuple(path.split(".")), value)], PATH)


@pytest.mark.parametrize(
    "path, value, old, new",
    [
        ("name", "shop", "name: target  #", "name: shop  #"),
        ("name", "a: b", "name: target  #", "name: 'a: b'  #"),
        ("files", ["target.nix", "new.nix", "audit.nix"], "  - config.nix # what they run\n", "  - new.nix\n"),
        ("files", ["config.nix", "audit.nix"], "  - target.nix\n", ""),
        (
            "files",
            ["target.nix", "config.nix", "audit.nix", "new.nix"],
            "  - audit.nix\n",
            "  - audit.nix\n  - new.nix\n",
        ),
        ("arguments.domain", "example.net", "domain: example.org  #", "domain: example.net  #"),
        ("arguments.domain", {"a": [1, None]}, "domain: example.org  #", "domain: {a: [1, null]}  #"),
        ("arguments.domain", ABSENT, "  domain: example.org  # since 2024\n", ""),
        ("arguments.ports", [22], "[22, 80]   #", "[22]   #"),
        ("arguments.new", "x", "  ports: [22, 80]   # both\n", "  ports: [22, 80]   # both\n  new: x\n"),
        (
            "arguments.token",
            "plain",
            "!vault |\n          $ANSIBLE_VAULT;1.1;AES256\n          3130\n",
            "plain\n",
        ),
        ("nix_path", ["a b=./c"], '[nixpkgs=./nixpkgs, "a b=./c"]  #', '["a b=./c"]  #'),
        ("nix_path", ABSENT, 'nix_path: [nixpkgs=./nixpkgs, "a b=./c"]  # pinned\n', ""),
        ("flake", ".", "  # pinned\n", "  # pinned\nflake: .\n"),
        ("options", {"cores": 2}, "  # pinned\n", "  # pinned\noptions:\n  cores: 2\n"),
        ("options.cores", 2, "  # pinned\n", "  # pinned\noptions:\n  cores: 2\n"),
    ],
)
def test_one_option_changes(path: str, value: Any, old: str, new: str) -> None:
    assert SOURCE.count(old) == 1
    assert changed(SOURCE, path, value) == SOURCE.replace(old, new)


@pytest.mark.parametrize("path, value", [("name", "target"), ("flake", ABSENT), ("arguments.ports", [22, 80])])
def test_what_is_so_already_stays(path: str, value: Any) -> None:
    assert changed(SOURCE, path, value) == SOURCE


@pytest.mark.parametrize(
    "before, path, value, after",
    [
        ("plugin: p\nfiles: a.nix\n", "files", ["a.nix", "b.nix"], "plugin: p\nfiles: [a.nix, b.nix]\n"),
        ("plugin: p\nfiles:\n- a\n- b\n", "files", ["b", "c"], "plugin: p\nfiles:\n- b\n- c\n"),
        ("plugin: p\nfiles:\n  - a", "files", ["a", "b"], "plugin: p\nfiles:\n  - a\n  - b\n"),
        ("plugin: p", "name", "n", "plugin: p\nname: n\n"),
        ("plugin: p\r\nname: a # c\r\n", "flake", ".", "plugin: p\r\nname: a # c\r\nflake: .\r\n"),
        ("{plugin: p, name: 'a'}\n", "name", "b", "{plugin: p, name: b}\n"),
        ("{plugin: p, name: 'a'}\n", "flake", ".", "{plugin: p, name: 'a', flake: .}\n"),
        ('plugin: p\narguments: {a: 1, b: "2"} # c\n', "arguments.a", ABSENT, 'plugin: p\narguments: {b: "2"} # c\n'),
        ("plugin: p\narguments:\n  a: 1\nname: n\n", "arguments.a", ABSENT, "plugin: p\nname: n\n"),
        ("plugin: p\narguments:\n", "arguments.a", 1, "plugin: p\narguments: {a: 1}\n"),
        ("plugin: p\nname: # none yet\n", "name", "n", "plugin: p\nname: n # none yet\n"),
        ("plugin: p\na: # c\n  b: 1\n  # d\n  e: 2\nz: 1\n", "a", 3, "plugin: p\na: 3 # c\nz: 1\n"),
        ("\ufeffplugin: p\nname: a\n", "name", "b", "\ufeffplugin: p\nname: b\n"),
        ("plugin: p\nname: a\n...\n", "flake", ".", "plugin: p\nname: a\nflake: .\n...\n"),
        ("plugin: p\nname: a\n  b\n  # c\nz: 1\n", "name", ABSENT, "plugin: p\n  # c\nz: 1\n"),
    ],
)
def test_other_ways_of_writing(before: str, path: str, value: Any, after: str) -> None:
    assert changed(before, path, value) == after


@pytest.mark.parametrize(
    "text, path, value, why",
    [
        ("plugin: p\nfiles: [a, # c\n  b]\n", "files", ["a"], "comments between its brackets"),
        ("plugin: p\nname: a\nname: b\n", "name", "c", "has it twice"),
        ("plugin: p\na: &x [1]\nfiles: *x\n", "files", [2], "would change with it"),
        ("plugin: p\nname: &x a\nb: *x\n", "name", ABSENT, "would change with it"),
        ("plugin: p\narguments: !vault |\n  $ANSIBLE\n", "arguments.a", 1, "is not a mapping there"),
        ("plugin: p\nfiles:\n  -\n    a\n", "files", ["b"], "not in lines of its own"),
        ("$ANSIBLE_VAULT;1.1;AES256\n3130\n", "name", "c", "encrypted as a whole"),
        ("plugin: p\n---\nname: a\n", "name", "c", "can't be read"),
        ("- plugin\n", "name", "c", "not a mapping"),
        ("plugin: [\n", "name", "c", "can't be read"),
    ],
)
def test_what_is_not_safe_is_refused(text: str, path: str, value: Any, why: str) -> None:
    with pytest.raises(OpsError, match="(?s)" + why) as refused:
        changed(text, path, value)
    assert refused.value.next_step and refused.value.state == "nothing was changed"


def test_values_are_hidden() -> None:
    shown = hide(SOURCE, "arguments", PATH, lambda _name: "(hidden)")
    assert "example.org" not in shown and "3130" not in shown and "80" not in shown
    assert "  domain: (hidden)  # since 2024\n" in shown and "  token: (hidden)\n" in shown
    assert hide("plugin: p\n", "arguments", PATH, str) == "plugin: p\n"


COMMENTS = st.lists(st.sampled_from(["# one", "# two: 2", "", "#- a", "# 'x"]), max_size=2)
NAMES = ("name", "uuid", "files", "arguments", "nix_path", "hostname")
TEXTS = st.text(st.sampled_from("ab:#-{}[]'\"\\ \n&*!|>%@,?é\u2028"), max_size=8)
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(-9, 99), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    lambda below: st.one_of(
        st.lists(below, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c"]), below, max_size=3)
    ),
    max_leaves=4,
)


@st.composite
def written(draw: st.DrawFn, name: str) -> str:
    """The lines of an option, with comments within and beside it."""
    value = draw(VALUES)
    style = draw(st.sampled_from(["block", "flow", "json"]))
    if style == "json":
        lines = [f"{name}: {json.dumps(value)}"]
    elif style == "flow":
        lines = [f"{name}: {yaml.safe_dump([value], default_flow_style=True, width=9999).strip()[1:-1]}"]
    else:
        lines = yaml.safe_dump({name: value}, width=9999, default_flow_style=False).splitlines()
    if draw(st.booleans()) and len(lines) == 1:
        lines[0] += "  # beside"
    return "\n".join([*draw(COMMENTS), *lines, ""])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_everything_else_stays_byte_for_byte(data: st.DataObject) -> None:
    names = data.draw(st.permutations(NAMES))
    segments = {name: data.draw(written(name)) for name in names}
    end = data.draw(st.sampled_from(["", "# the end\n", "\n\n# end\n"]))
    text = "plugin: p\n" + "".join(segments.values()) + end
    try:
        before = yaml.safe_load(text)
    except yaml.YAMLError:
        return
    name = data.draw(st.sampled_from([*names, "flake"]))
    value = data.draw(st.one_of(VALUES, st.just(ABSENT)))
    try:
        after = changed(text, name, value)
    except OpsError as refused:
        assert "can't be changed safely" in str(refused)
        return
    wanted = {key: one for key, one in before.items() if key != name}
    assert yaml.safe_load(after) == (wanted if value is ABSENT else {**before, name: value})
    position = 0
    for other, segment in segments.items():
        # The comments before the option stay as well.
        kept = segment if other != name else segment[: segment.index(f"{name}:")]
        assert kept in after[position:], (other, after)
        position = after.index(kept, position) + len(kept)
    assert after.endswith(end)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), VALUES, min_size=1), st.data())
def test_entries_stay_byte_for_byte(known: dict[str, Any], data: st.DataObject) -> None:
    lines = [f"  {name}: {json.dumps(value)} # {name}\n" for name, value in known.items()]
    text = f"plugin: p\narguments:\n{''.join(lines)}name: n\n"
    # YAML has another idea of numbers than JSON.
    known = yaml.safe_load(text)["arguments"]
    name = data.draw(st.sampled_from(["a", "b", "c", "d"]))
    value = data.draw(st.one_of(VALUES, st.just(ABSENT)))
    after = changed(text, f"arguments.{name}", value)
    wanted = {key: one for key, one in known.items() if key != name} | ({} if value is ABSENT else {name: value})
    assert yaml.safe_load(after).get("arguments", {}) == wanted
    assert all(line in after for line in lines if not line.startswith(f"  {name}:"))


@settings(derandomize=True, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b"]), VALUES))
def test_what_is_written_reads_back(options: dict[str, Any]) -> None:
    assert yaml.safe_load(dump(options)) == options
