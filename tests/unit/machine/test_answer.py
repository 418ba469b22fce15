# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine answers is read by a schema, and by nothing else."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer, description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed
from answers import answered

SCHEMA = {
    "boots": Key(re.compile("[a-z/]*"), required=True),
    "failed": Key(re.compile(r"[a-z.]+"), most=2),
    "rolled_back": Key(answer.YES),
}


def read(text: str) -> answer.Answer:
    """Read an answer of the machine ``target``, whose block is its journal."""
    return answer.read(text, SCHEMA, "target", block="journal")


def test_an_answer_is_lines_of_a_key_and_a_value() -> None:
    found = read("boots /nix\nfailed a.service\nfailed b.service\n")
    assert found.one("boots") == "/nix"
    assert found.all("failed") == ("a.service", "b.service")
    assert found.all("rolled_back") == ()
    assert "rolled_back" not in found


def test_an_empty_value_counts_as_missing() -> None:
    assert read("boots \n").one("boots") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rolled_back yes\n",
        "boots /nix",
        "boots /nix\n\n",
        "boots /nix\nboots /nix\n",
        "boots /nix\r\n",
        "boots /nix\nfailed A\n",
        "boots /nix\nfailed a\nfailed b\nfailed c\n",
        "boots /nix\nunknown x\n",
        "boots /nix\nrolled_back no\n",
        "boots /nix\nrolled_back yes\x00\n",
        "boots /nix\u2028rolled_back yes\n",
        "boots /nix\x85rolled_back yes\n",
        "boots /nix\vrolled_back yes\n",
        "boots /nix\njournal 3\nab",
        "boots /nix\njournal x\n",
        "journal 0\n",
        "boots /nix\njournal 1",
    ],
)
def test_an_answer_that_the_schema_does_not_allow_is_refused(text: str) -> None:
    with pytest.raises(OpsError, match="target: the machine's answer is not valid: ") as refused:
        read(text)
    assert "State: nothing of the answer was used" in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_an_endless_answer_is_refused() -> None:
    with pytest.raises(OpsError, match="longer than") as refused:
        read("boots /nix\n" + "failed a\n" * 2_000_000)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("text", ["", "rolled_back yes\n", "\u2028rolled_back yes\n", "grün\n\n", "\udcff\n"])
def test_a_block_is_never_read_as_lines(text: str) -> None:
    size = len(text.encode("utf-8", errors="surrogateescape"))
    found = read(f"boots /nix\njournal {size}\n{text}")
    assert found.block == text
    assert "rolled_back" not in found


STANDING = """running /nix/store/00000000000000000000000000000000-a
booted\x20
profile\x20
generation 7
boot_default\x20
boot_id 01234567-89ab-cdef-0123-456789abcdef
part kernel  /nix/store/00000000000000000000000000000000-linux/bzImage
part initrd\x20\x20
part kernel-modules\x20\x20
part systemd\x20\x20
system_state running
nix_store /run/current-system/sw/bin/nix-store
"""


def describe(text: str) -> description.Description:
    """Describe a machine that answers this."""
    done = Completed(("/bin/sh",), 0, answered(text), "")
    return description.describe(Machine("target", lambda *_words: done, {}))


def test_a_machine_describes_itself() -> None:
    found = describe(STANDING)
    assert found.standing.generation == 7
    assert found.standing.running == "/nix/store/00000000000000000000000000000000-a"
    assert found.release is None


def test_generations_have_versions_where_they_are_asked_for() -> None:
    entries = "".join(f"generation_entry {number} 10 /nix/store/{number}\n" for number in (10, 9, 8))
    details = "generation_details 10 6.6.32 kernel,initrd 24.05 (Uakari)\ngeneration_details 8 - - -\n"
    found = describe(f"{STANDING}{entries}{details}")
    eight, nine, ten = found.generations
    assert (ten.kernel, ten.reboot_parts, ten.nixos_version) == ("6.6.32", ("kernel", "initrd"), "24.05 (Uakari)")
    assert (nine.kernel, nine.reboot_parts, nine.nixos_version) == (None, None, None)
    assert (eight.kernel, eight.reboot_parts, eight.nixos_version) == (None, (), None)
    assert description.generations_of(description.as_json(found)) == found.generations


@pytest.mark.parametrize(
    ("version", "release"),
    [("24.05", "24.05"), ("20.09.4407.1c1f5649bb9", "20.09"), ("20.09pre-git", "20.09"), ("rolling", None)],
)
def test_the_release_is_the_first_two_numbers_of_the_version(version: str, release: str | None) -> None:
    assert describe(f"{STANDING}release {version}\n").release == release


@pytest.mark.parametrize(
    ("line", "forged"),
    [
        ("generation 7", "generation 7e7"),
        ("generation 7", "generation 99999999999999999999"),
        ("running /nix/store/00000000000000000000000000000000-a", "running /etc"),
        ("running /nix/store/00000000000000000000000000000000-a", "running /nix/store/../../etc"),
        ("system_state running", "system_state running\nfailed \x1b[2K"),
        ("system_state running", "system_state running\ngeneration_entry x y z"),
        ("system_state running", "system_state running\ngeneration_details 1 6.6 shell 24.05"),
        ("part kernel ", "part shell "),
        ("boot_id 0", "boot_id \u2028"),
    ],
)
def test_a_description_that_could_be_more_than_data_is_refused(line: str, forged: str) -> None:
    assert line in STANDING
    with pytest.raises(OpsError, match="not valid"):
        describe(STANDING.replace(line, forged))


def test_what_runs_and_boots_in_words() -> None:
    standing = description.Standing("/nix/store/a", "/nix/store/a", "/nix/store/b", 2, "/nix/store/c")
    assert standing.sentence() == "runs /nix/store/a, boots /nix/store/c"
    unread = replace(standing, boot_default=None)
    assert unread.sentence() == "runs /nix/store/a, boots /nix/store/b, its profile (the boot menu can't be read)"
    unwritten = "may boot an older system: the boot entry of its profile, /nix/store/b, was not written"
    assert replace(unread, boot_unfinished=True).sentence() == f"runs /nix/store/a, {unwritten}"
    unknown = replace(unread, running=None, profile=None)
    assert "runs an unknown system, boots an unknown system, its profile" in unknown.sentence()
