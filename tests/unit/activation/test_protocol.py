# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What switch-to-configuration says, and what is refused before anything is touched."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import SYSTEM_PROFILE
from ansible_collections.nix.ops.plugins.plugin_utils.activation import protocol
from ansible_collections.nix.ops.plugins.plugin_utils.activation.protocol import (
    Access,
    Activation,
    ActivationFailed,
    Goal,
    Policy,
    Units,
    read_units,
)
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine, PasswordMissing
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed
from answers import answered
from networks.support import NETWORKS

OLD, NEW = "/nix/store/" + "0" * 32 + "-nixos-system-old", "/nix/store/" + "1" * 32 + "-nixos-system-new"


def test_a_unit_that_is_stopped_and_started_was_restarted():
    assert read_units(
        "stopping the following units: gone.service, web.service\n"
        "NOT restarting the following changed units: getty@tty1.service\n"
        "activating the configuration...\n"
        "reloading the following units: dbus.service\n"
        "restarting the following units: sshd.service\n"
        "starting the following units: web.service\n"
        "the following new units were started: new.service\n"
        "warning: the following units failed: bad.service, worse.service\n"
    ) == Units(
        stopped=("gone.service",),
        started=("new.service",),
        restarted=("sshd.service", "web.service"),
        reloaded=("dbus.service",),
        not_restarted=("getty@tty1.service",),
        failed=("bad.service", "worse.service"),
    )


def test_a_dry_activation_is_read_alike():
    assert read_units(
        "would stop the following units: web.service\n"
        "would restart the following units: sshd.service\n"
        "would start the following units: web.service\n"
    ) == Units(restarted=("sshd.service", "web.service"))


TABLE = tomllib.loads((NETWORKS.parent / "nixpkgs" / "switching.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("message", TABLE["message"], ids=lambda message: message["text"])
def test_each_message_of_both_variants_is_read(message):
    units = ("a.service", r"dev-disk-by\x2dlabel-x.swap")
    named = units[:1] if message["text"].startswith("Failed to ") else units
    said = f"before\n{message['text'].format(', '.join(named))}\nafter\n"
    expected = {message["means"]: named} if "means" in message else {}
    assert read_units(said) == Units(**expected)


@pytest.mark.parametrize("row", TABLE["exit_code"], ids=lambda row: str(row["code"]))
def test_each_exit_code_of_both_variants_is_told(row):
    assert row["code"] == 0 or row["code"] in protocol._EXIT_CODES


def failed_with(code: int, output: str) -> str:
    standing = Standing(OLD, OLD, OLD, 1, OLD, False, ())
    done = Activation(NEW, "switch", standing, standing, code, "activate", read_units(output), output)
    return protocol._describe_exit_code(done, code)


def test_where_it_gives_up_the_exit_code_means_nothing():
    assert "the activation script failed" in failed_with(2, "Failed to run activate script\n")
    for text in ("This is not a NixOS installation!", "Error: Failed to open dbus connection"):
        assert f"it gave up: {text} (exit code 2" in failed_with(2, f"{text}\n")


def test_a_job_that_failed_names_its_unit():
    assert failed_with(4, "Failed to start web.service\n").endswith(": web.service")
    assert read_units("Failed to start x.service: Unit x.service not found.\n").failed == ("x.service",)
    assert read_units("  Failed to start x.service - X.\nFailed to start the web server.\n").failed == ()


def test_the_miniature_says_and_returns_what_the_table_has():
    script = (NETWORKS.parent / "nixpkgs/nixos/modules/system/switch-to-configuration.sh").read_text(encoding="utf-8")
    said = re.findall(r'(?:say|announce) "([^"]+)', script)
    said += [f"{how} the following units" for how in re.findall(r'^apply \w+ "\$\w+" (\w+)$', script, re.MULTILINE)]
    known = [message["text"].split("{}")[0] for message in TABLE["message"]]
    for text in said:
        start = text.split("$")[0].partition("\n")[0]
        assert not start or any(one.startswith(start) or start.startswith(one) for one in known), text
    codes = {int(code) for code in re.findall(r"(?:exit|result=)\s*([0-9]+)", script)}
    assert codes <= {row["code"] for row in TABLE["exit_code"]}


@pytest.mark.parametrize("toplevel", ["", "/etc", "/nix/store/../../etc", OLD + "/bin", "$(id)", "--help"])
def test_what_is_no_toplevel_is_refused(toplevel):
    with pytest.raises(OpsError, match="not the path of a system"):
        Goal(toplevel, "switch", SYSTEM_PROFILE).check()


@pytest.mark.parametrize("profile", ["", "/etc/passwd", "/nix/var/nix/profiles/../x", "/nix/var/nix/profiles/a b"])
def test_what_is_no_profile_is_refused(profile):
    with pytest.raises(OpsError, match="is not a valid profile"):
        Goal(OLD, "switch", profile).check()


def test_a_profile_below_another_directory_is_accepted():
    Goal(OLD, "switch", "/nix/var/nix/profiles/system-profiles/test").check()


@pytest.mark.parametrize(
    ("running", "profile", "boot_default", "nothing_to_do"),
    [
        (NEW, NEW, NEW, {"switch", "boot", "test"}),
        (NEW, NEW, None, {"switch", "boot", "test"}),
        (NEW, OLD, OLD, {"test"}),
        (OLD, NEW, NEW, {"boot"}),
        (NEW, NEW, OLD, {"test"}),
        (OLD, OLD, OLD, set()),
    ],
)
def test_an_action_has_nothing_to_do_where_the_machine_stands_already(running, profile, boot_default, nothing_to_do):
    standing = Standing(running, OLD, profile, 1, boot_default, False, ())
    actions = {"switch", "boot", "test", "dry-activate"}
    assert {action for action in actions if standing.stands_at(NEW, action)} == nothing_to_do


def test_a_boot_entry_that_was_not_written_is_something_to_do():
    standing = Standing(NEW, OLD, NEW, 2, None, True, ())
    assert not standing.stands_at(NEW, "switch")
    assert not standing.stands_at(NEW, "boot")
    assert "was not written" in standing.sentence()


def test_what_boots_is_not_claimed_where_the_menu_can_not_be_read():
    assert "can't be read" in Standing(NEW, OLD, NEW, 2, None, False, ()).sentence()
    assert Standing(NEW, OLD, NEW, 2, NEW, False, ()).sentence() == f"runs and boots {NEW}"


@pytest.mark.parametrize("times", [(0, 60, 600, 600), (1800, -1, 600, 600), (1800, 60, 0, 600), (1800, 60, 600, 0)])
def test_times_that_are_none_are_refused(times):
    switch, confirm, reboot, boot = times
    with pytest.raises(OpsError, match="has to be at least 1"):
        Policy(True, switch, confirm, "rollback", "never", reboot, boot).check()


# A key without a value ends in a space.
BEFORE = "".join(f"{key} \n" for key in ("running", "booted", "profile", "generation", "boot_default"))
BEFORE += "boot_id 00000000-0000-0000-0000-000000000000\npart kernel  \n"


def machine(*answers):
    """Return a machine that gives these answers, and then loses its connections."""
    left = list(answers)

    def execute(_command, _stdin, _wait):
        if not left:
            raise ConnectionLost("no route to host")
        code, said = left.pop(0)
        return Completed(("sh",), code, "" if said is None else answered(said, code), "")

    return Machine("target", execute, {})


def activate(target):
    protocol.activate(
        target,
        Goal(NEW, "switch", SYSTEM_PROFILE),
        Policy(True, 60, 60, "rollback"),
        Access(lambda _directory, _word: None, lambda _word: "keep", None, 0),
        holder="a test",
        on_line=lambda _line: None,
        patience=0,
    )


@pytest.mark.parametrize("answer", [(0, "started nowhere\n"), (0, None), (0, ""), (1, ""), (137, None)])
def test_without_a_valid_answer_it_is_not_known_whether_an_activation_began(answer):
    with pytest.raises(OpsError) as failure:
        activate(machine(answer))
    assert failure.value.state == "it is not known whether the activation began; if it did, it goes on by itself"


def test_a_refusal_tells_that_nothing_was_activated():
    with pytest.raises(OpsError) as failure:
        activate(machine((0, "refused root\n")))
    assert failure.value.state == "nothing was activated"


def test_an_activation_whose_outcome_is_not_told_has_ended():
    started = f"{BEFORE}started /run/nix-ops-0123456789abcdef\n"
    with pytest.raises(OpsError, match="has not answered") as failure:
        activate(machine((0, started), (0, "job ended 2 rollback\nlog 0\n")))
    assert failure.value.state == (
        "the activation has ended with exit code 2; it is not known what runs and what boots"
    )


def done(exit_code: int | None, step: str, **more: Any) -> Activation:
    """An activation that ended."""
    standing = Standing(OLD, OLD, OLD, 1, OLD)
    return replace(Activation(NEW, "switch", standing, standing, exit_code, step, Units(), "shown"), **more)


@pytest.mark.parametrize(
    ("activation", "cause", "expected"),
    [
        (done(0, "rollback", rolled_back="yes"), PasswordMissing("no password", "host"), "-K"),
        (done(0, "rollback", rolled_back="yes"), ConnectionLost("refused"), "keeps the controller out"),
        (done(None, "reboot", rolled_back="reboot"), None, "journalctl --boot=-1"),
        (done(None, "reboot", rolled_back="reboot", unhealthy=("tcp 80",)), None, "what the checks found"),
        (done(None, "reboot"), None, "Run the same again."),
    ],
)
def test_the_next_step_fits_what_happened(activation, cause, expected):
    failure = ActivationFailed("it failed", activation, machine(), cause)
    assert expected in str(failure.next_step)
    assert (failure.output, failure.journal) == ("shown", "")


@pytest.mark.parametrize(
    ("action", "rollback", "step", "told"),
    [
        ("switch", True, "activate", "the switch ends by .* at the latest, then the machine waits 60 s .* goes back"),
        ("switch", False, "activate", "the switch ends by .* and the new system stays"),
        ("boot", True, "activate", "keeps the new system"),
        ("test", True, "acknowledge", "the new system runs, and the machine goes back to what ran before by "),
        ("switch", True, "check", "the new system runs, and the machine goes back"),
        ("switch", True, "rollback", "is going back"),
        ("switch", True, "profile", "keeps the new system"),
        ("switch", True, "reboot", "boots back 600 s after its boot"),
        ("dry-activate", True, "activate", "nothing is activated"),
    ],
)
def test_what_a_machine_does_by_itself_is_known_at_each_step(action, rollback, step, told):
    goal, policy = protocol.Goal(NEW, action, "/nix/var/nix/profiles/system"), Policy(rollback, 1800, 60, "rollback")
    access = protocol.Access(lambda _directory, _word: None, lambda _word: "keep", None, 30)
    assert re.search(told, protocol._course(goal, policy, access, step))


def test_a_waiting_machine_tells_the_seconds_that_are_left():
    refused = ConnectionLost("ssh: connect to host a port 22: Connection refused\nmore")

    def confirm(_directory, _word):
        raise refused

    access = protocol.Access(confirm, lambda _word: "keep", None, 0)
    machine = Machine("target", lambda *_words: Completed((), 0, "", ""), {})
    waiting = protocol._Acknowledgements(access, "/run/a", machine, lambda _line: None)
    assert waiting.waits(60) == ""
    waiting("acknowledge")
    assert waiting.waits(60) == f"it has 60 s left to be reached over a new connection ({str(refused).splitlines()[0]})"
