# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts, words and data as a host's shell gets them."""

from __future__ import annotations

import os
import subprocess

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import YES, Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import (
    ConnectionLost,
    Machine,
    compose,
    export,
    place,
    quote,
)
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed

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
    done.stdout = done.stdout.removeprefix(b"nix.ops answers\n")
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
    assert said.stdout.decode().splitlines()[-1] == place("records") == "/nix/var/nix/nix-ops/records"


def answering(stdout, exit_code=0):
    """A machine that answers this to everything."""
    return Machine("host", lambda *_words: Completed(("/bin/sh",), exit_code, stdout, ""), {})


def test_a_shell_that_did_not_run_the_script_is_no_answer():
    with pytest.raises(OpsError, match="did not run the script") as refused:
        answering("Welcome to this appliance!\n").ask("machine/describe", "/nix/var/nix/profiles/system")
    assert "Welcome to this appliance!" in str(refused.value)


def test_what_a_login_prints_before_the_answer_is_left_out():
    machine = answering("relinked yes\nnix.ops answers\nwritten yes\n")
    assert "relinked" not in machine.ask("deployment/record", schema={"written": Key(YES)})


def test_the_directories_of_nixos_are_on_the_path(shell):
    text = compose('main() { echo "$PATH"; }', (), {}, "")
    said = subprocess.run([*shell, "-s"], input=text, env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True)
    assert said.stdout.decode().splitlines()[-1].split(":") == [
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
