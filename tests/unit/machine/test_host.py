# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts, words and data as a host's shell gets them."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import YES, Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import (
    AnotherMachine,
    ConnectionLost,
    Identity,
    Machine,
    compose,
    export,
    place,
    quote,
    script,
)
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed
from answers import BOOT_ID, answered

SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"]]

SHOW = """
main() {
    for word; do printf '<%s>' "$word"; done
    printf ' GREETING=<%s> data=<' "${GREETING-}"
    cat
    printf '>'
    return 7
}
"""


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def shell(request):
    return request.param


def run(shell, words=(), environment=None, data=""):
    text = compose(SHOW, words, environment or {}, data)
    done = subprocess.run([*shell, "-s"], input=text, capture_output=True, check=False)
    done.stdout = re.sub(rb"\Anix\.ops answers [0-9a-f-]{36} .*\n|nix\.ops ends [0-9]+\n\Z", b"", done.stdout)
    return done


@pytest.mark.parametrize(
    "word",
    [
        "",
        "plain",
        "two words",
        "line\nbreak",
        "trailing\n\n",
        "$(touch /tmp/x) `id` $HOME",
        "'single' \"double\" \\back",
        "-n",
        "%041",
        "grün",
        "a\tb\rc",
        "\n\nboth ends\n\n",
        "\n",
        "'",
        "''\\'\"'",
        "!history $((1)) ${x} *?[a] ~ # & | ; < > ( )",
        # Not UTF-8, and what dash and busybox use inside for themselves.
        os.fsdecode(bytes(range(0x80, 0x100))),
        os.fsdecode(b"a\x81'\x88\x7f\x01\x02\n\xff"),
        "long '\n" * 15_000,
    ],
    ids=lambda word: repr(word[:12]),
)
def test_a_word_arrives_as_it_is(shell, word):
    raw = os.fsencode(word)
    done = run(shell, (word, word), {"GREETING": word}, f"{word}\n")
    assert (done.stdout, done.stderr) == (b"<%s><%s> GREETING=<%s> data=<%s\n>" % (raw, raw, raw, raw), b"")


def test_words_variables_and_data_do_not_mix(shell):
    done = run(shell, ("a", "b c"), {"GREETING": "it's\n$HOME"}, "line 1\n$(id) `id`\nDATA-\n")
    assert done.stdout.decode() == "<a><b c> GREETING=<it's\n$HOME> data=<line 1\n$(id) `id`\nDATA-\n>"


def test_a_large_amount_of_data_arrives_whole(shell):
    data = "".join(f"/nix/store/path-{number}\n" for number in range(20000))
    assert data in run(shell, data=data).stdout.decode()


def test_the_exit_code_is_that_of_main(shell):
    assert run(shell).returncode == 7


def test_a_value_with_nul_is_refused():
    with pytest.raises(OpsError, match="NUL"):
        compose(SHOW, ("a\0b",), {}, "")


def test_a_variable_without_a_proper_name_is_refused():
    with pytest.raises(OpsError, match="'A B' is not a valid name"):
        compose(SHOW, (), {"A B": "x"}, "")


@pytest.mark.parametrize("write", [quote, lambda value: export({"A": value})])
def test_a_value_with_nul_is_never_quoted(write):
    with pytest.raises(OpsError, match="NUL"):
        write("a\0b")


def test_the_environment_does_not_replace_a_place(shell):
    text = compose('main() { echo "$nix_ops_records"; }', (), {"nix_ops_records": "/tmp"}, "")
    said = subprocess.run([*shell, "-s"], input=text, capture_output=True, check=True)
    assert said.stdout.decode().splitlines()[-2] == place("records") == "/nix/var/nix/nix-ops/records"


def answering(*answers, exit_code=0):
    """A machine that gives these answers, one after the other."""
    left = list(answers)
    return Machine("host", lambda *_words: Completed(("/bin/sh",), exit_code, left.pop(0), "refused"), {})


WRITTEN = {"written": Key(YES)}


@pytest.mark.parametrize("exit_code", [0, 1, 127])
def test_a_shell_that_did_not_run_the_script_is_no_answer(exit_code):
    with pytest.raises(OpsError, match="did not answer the script") as refused:
        answering("Welcome to this appliance!\n", exit_code=exit_code).run("machine/describe")
    assert "refused" in str(refused.value)
    assert "StdinNull" in str(refused.value)


@pytest.mark.parametrize(
    "said",
    [
        "sudo: a password is needed",
        "Sorry, user deploy is not allowed to execute '/bin/sh -s' as root on host.",
        "deploy is not in the sudoers file.",
        "bash: sudo: command not found",
        "doas: Operation not permitted",
    ],
)
def test_a_user_who_may_not_become_root_is_told_so(said):
    refusing = Machine("host", lambda *_words: Completed(("/bin/sh",), 1, "", f"Warning: hello\n{said}\n"), {})
    with pytest.raises(OpsError) as refused:
        refusing.run("machine/describe")
    assert str(refused.value).startswith(f"host: commands can't be run as root there: {said}\nState: ")
    assert "wheel" in (refused.value.next_step or "")


@pytest.mark.parametrize("cut", ["", "nix.ops ends", "nix.ops ends 0", "nix.ops ends x\n"])
def test_an_answer_without_its_end_is_none(cut):
    whole = answered("written yes\n")
    with pytest.raises(OpsError, match="its end is missing"):
        answering(whole[: whole.index("nix.ops ends")] + cut).ask("deployment/record", schema=WRITTEN)


def test_what_a_login_prints_around_the_answer_is_left_out():
    machine = answering("relinked yes\n" + answered("written yes\n") + "Goodbye!\n")
    assert machine.ask("deployment/record", schema=WRITTEN).all("written") == ("yes",)


def test_the_last_end_counts():
    told = answering(answered("log 16\nnix.ops ends 4\n\n")).ask("machine/job", block="log")
    assert told.block == "nix.ops ends 4\n\n"


def test_the_exit_code_is_the_script_s_even_if_the_connection_loses_it():
    assert answering(answered("", 3)).run("machine/boot").exit_code == 3


OTHER_BOOT, ONE, OTHER = (f"{number}e7bd76b-6b5c-4b0b-8ff7-0ad38ac39e5b" for number in (1, 3, 4))


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        (("", BOOT_ID), ("", BOOT_ID), True),
        (("", BOOT_ID), (ONE, BOOT_ID), True),
        ((ONE, BOOT_ID), (ONE, OTHER_BOOT), True),
        (("", BOOT_ID), ("", OTHER_BOOT), False),
        (("", BOOT_ID), (ONE, OTHER_BOOT), False),
        ((ONE, BOOT_ID), ("", OTHER_BOOT), False),
        ((ONE, BOOT_ID), (OTHER, OTHER_BOOT), False),
    ],
)
def test_another_machine_that_answers_is_told_from_a_reboot(first, second, is_same):
    answers = [answered("", machine_id=machine_id, boot_id=boot_id) for machine_id, boot_id in (first, second)]
    machine = answering(*answers)
    machine.run("machine/boot")
    if is_same:
        machine.run("machine/boot")
        return
    with pytest.raises(AnotherMachine):
        machine.run("machine/boot")


def test_another_machine_runs_nothing_of_the_script(shell):
    text = compose("main() { echo ran; }", (), {}, "", Identity(OTHER_BOOT))
    done = subprocess.run([*shell, "-s"], input=text, capture_output=True, check=False)
    assert b"ran" not in done.stdout
    assert re.fullmatch(rb"nix\.ops answers [0-9a-f-]{36} .*\nnix\.ops ends 1\n", done.stdout)


@pytest.mark.parametrize("kept", [ONE, "", "$(id)", f"{ONE}x", "\x1b[31m"])
def test_a_machine_s_id_outlives_a_reboot(shell, tmp_path, kept):
    functions = script("machine/answers") + f"nix_ops_identity={quote(str(tmp_path / 'kept' / 'identity'))}\n"

    def run(text):
        asked = subprocess.run([*shell, "-c", functions + text], capture_output=True, check=False, text=True)
        return asked.returncode, (asked.stdout.split() or [""])[-1]

    if kept:
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "identity").write_text(f"{kept}\n")
    run("make_identity; make_identity")
    code, told = run(f"begin_answer {OTHER_BOOT} {ONE}")
    assert (code, told if kept == ONE else "") == (0 if kept == ONE else 1, kept if kept == ONE else "")
    if not kept:
        assert run(f"begin_answer {OTHER_BOOT} {told}")[0] == 0


def test_the_directories_of_nixos_are_on_the_path(shell):
    text = compose('main() { echo "$PATH"; }', (), {}, "")
    said = subprocess.run([*shell, "-s"], input=text, env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True)
    assert said.stdout.decode().splitlines()[-2].split(":") == [
        "/usr/bin",
        "/bin",
        "/run/wrappers/bin",
        "/nix/var/nix/profiles/default/bin",
        "/run/current-system/sw/bin",
    ]


def test_what_failed_is_told_although_nothing_can_be_removed_any_more():
    def execute(_command, _stdin, _wait):
        raise ConnectionLost("no route to host")

    machine = Machine("host", execute, {})
    with pytest.raises(OpsError, match="the build failed"):
        try:
            raise OpsError("the build failed")
        finally:
            machine.tidy("store/temporary", "remove", "/tmp/x")
