# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a machine, a file of state or Nix says is read or refused, and what is written can be read again.

`make fuzz` tries many more examples than a run of all tests does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.nix.ops.plugins.plugin_utils import display
from ansible_collections.nix.ops.plugins.plugin_utils.activation import protocol
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import record, state
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Acknowledged, Activated, State
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer, description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import quote
from ansible_collections.nix.ops.plugins.plugin_utils.network import cache, place
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Remembered, evaluation_of
from ansible_collections.nix.ops.plugins.plugin_utils.nix import Progress

_EXAMPLES = int(os.environ.get("NIX_OPS_FUZZ", "100"))
settings.register_profile(
    "nix.ops",
    max_examples=_EXAMPLES,
    deadline=None,
    database=None,
    # The same examples each time, or a run could fail that changed nothing.
    derandomize=_EXAMPLES <= 100,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("nix.ops")

UUID = "11111111-2222-3333-4444-555555555555"
# No surrogates but those that stand for bytes.
TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
# Lines that are nearly an answer.
LINES = st.lists(
    st.tuples(
        st.sampled_from([*description.DESCRIPTION, "journal", "", "x"]),
        st.sampled_from(["", " ", "  "]),
        TEXT | st.sampled_from(["yes", "7", "/nix/store/" + "0" * 32 + "-a", "kernel - -", UUID, "1 {}"]),
        st.sampled_from(["\n", "\r\n", "\x85", "\u2028", ""]),
    ).map("".join),
    max_size=20,
).map("".join)


@given(TEXT | LINES)
def test_any_answer_is_read_or_refused(text: str) -> None:
    for block in (None, "journal"):
        try:
            found = answer.read(text, description.DESCRIPTION, "machine", block=block)
        except OpsError:
            continue
        for key, values in found.values.items():
            allowed = description.DESCRIPTION[key]
            assert len(values) <= allowed.most
            assert all(allowed.value.fullmatch(value) for value in values)
            assert not any(re.search("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]", value) for value in values)


@given(LINES)
def test_what_a_block_has_is_never_an_answer(text: str) -> None:
    size = len(text.encode("utf-8", errors="surrogateescape"))
    try:
        found = answer.read(f"journal {size}\n{text}", description.DESCRIPTION, "machine", block="journal")
    except OpsError as error:
        # What is missing is said, and nothing of the block.
        assert "it has the line" not in str(error)
    else:
        assert found.values == {}


@given(TEXT | st.text('0123456789 {}[]":,-abc', max_size=40))
def test_any_record_is_read_or_damaged(text: str) -> None:
    if description.RECORD.value.fullmatch(text):
        found = record.read(text, UUID)
        assert found is not None
        assert (found.state is None) == (found.damage is not None)
    record.read_last(text, UUID)


WORDS = st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True)
# As a network may have them.
ADDRESSES = st.from_regex(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]{0,20}", fullmatch=True)
TIMES = st.integers(0, state.LATEST)
ACTIVATED = st.builds(
    Activated,
    st.from_regex(r"/nix/store/[0-9a-z]{32}-[a-z]{1,9}", fullmatch=True),
    st.sampled_from(sorted(state.ACTIONS)),
    st.none() | st.integers(0, 10**6),
    st.none() | st.integers(0, 255),
    TIMES,
    st.booleans(),
    st.none() | st.from_regex(r"[0-9a-f]{40}", fullmatch=True),
    st.booleans(),
    st.none() | st.from_regex(r"[ -~]{1,100}", fullmatch=True),
)
STATES = st.builds(
    State,
    st.just(UUID),
    WORDS,
    WORDS,
    st.builds(Remembered, st.none() | st.sampled_from(["20.09", "26.11"])),
    st.integers(0, 10**9),
    st.lists(ACTIVATED, max_size=5).map(tuple),
    st.none() | st.builds(Acknowledged, ADDRESSES, st.integers(1, 65535), TIMES),
    st.lists(WORDS, max_size=5).map(tuple),
)


@given(STATES)
def test_a_written_state_is_read_again(one: State) -> None:
    assert state.read(state.as_json(one), UUID) == one
    read = record.read(f"{one.revision} {json.dumps(state.as_json(one))}", UUID)
    assert read is not None
    assert read.state == one


@given(STATES, st.dictionaries(st.sampled_from(["activations", "inputs", "revision", "members", "acknowledged"]), JSON))
def test_a_state_with_any_values_is_read_or_damaged(one: State, values: dict[str, Any]) -> None:
    try:
        found = state.read({**state.as_json(one), **values}, UUID)
    except OpsError:
        return
    # What was accepted can be written and read.
    assert found is not None
    assert state.read(state.as_json(found), UUID) == found


@given(JSON)
def test_any_document_is_a_state_or_damaged(document: Any) -> None:
    with contextlib.suppress(OpsError):
        state.read(document, UUID)


@given(TEXT)
def test_no_control_character_is_shown(text: str) -> None:
    shown = display.plain(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", shown)
    assert len(shown) == len(text)
    shown.encode("utf-8")


@given(TEXT | st.text("stoppingarhefluwdkv: ,.\n"))
def test_any_output_of_a_switch_names_units_or_none(text: str) -> None:
    protocol.read_units(text)


@given(st.lists(TEXT))
def test_any_line_is_progress_of_nix_or_none(lines: list[str]) -> None:
    progress = Progress()
    for line in lines:
        progress.read(line)


DEFINITION = {
    "targetEnv": "none",
    "targetHost": "a",
    "targetPort": 22,
    "targetUser": None,
    "sshOptions": [],
    "sshHostKeys": [],
    "privilegeEscalationCommand": ["sudo"],
    "provisionSSHKey": True,
    "alwaysActivate": False,
    "hasFastConnection": None,
    "buildOnTarget": False,
    "owners": [],
    "tags": [],
    "keys": {},
    "unsupported": [],
    "nixosRelease": "24.05",
    "healthChecks": None,
    "address": None,
}


@given(st.sampled_from(sorted(set(DEFINITION) - {"nixosRelease", "healthChecks", "unsupported", "address"})), JSON)
def test_any_value_of_a_definition_is_taken_or_refused_by_name(option: str, value: Any) -> None:
    answered = {
        "network": {"description": ""},
        "definitions": {"a": {**DEFINITION, option: value}},
        "derivations": {},
    }
    try:
        evaluation_of(answered, ())
    except OpsError as error:
        assert f"deployment.{option}" in str(error) or option == "targetUser"


@given(TEXT)
def test_any_kept_evaluation_is_read_or_none(text: str) -> None:
    directory = place.directory("evaluations")
    directory.mkdir(parents=True, exist_ok=True)
    for kind in (text, json.dumps({"reads": [[text, text, text]], "answer": text, "messages": [text], "volatile": 1})):
        (directory / "x").write_text(kind, encoding="utf-8", errors="surrogateescape")
        kept = cache.load("x")
        if kept is not None:
            assert isinstance(kept.is_answer({}), bool)
            assert isinstance(kept.is_refusal({}), bool)


@pytest.mark.parametrize("shell", [["dash"], ["bash", "--posix"], ["busybox", "sh"]], ids=lambda words: words[0])
@given(st.lists(TEXT, min_size=1, max_size=20))
def test_any_value_reaches_a_shell_as_it_is(shell: list[str], values: list[str]) -> None:
    values = [value.replace("\0", "") for value in values]
    script = "printf '%s\\0' " + " ".join(map(quote, values))
    done = subprocess.run(shell, input=script.encode(errors="surrogateescape"), capture_output=True, check=True)
    assert done.stdout == b"".join(value.encode(errors="surrogateescape") + b"\0" for value in values)


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
