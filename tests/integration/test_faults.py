# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on the way to a machine and on it: each fault leaves it whole and says what to do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from integration.engine import SETTLED, controlled, other, provide, settle
from integration.networks import ACTIVATE, COPY, INFO, Network
from integration.outside import COPIED, in_words, left_over, stands, untouched
from integration.project import BIN
from integration.tasks import build_system, has_path, new_salt, run_tasks, wait_for

# An activation that goes on for as long as the machine has a file.
GATE = 'system.activationScripts.gate = "echo at the gate; while [ -e /run/gate ]; do sleep 0.1; done";'


@pytest.fixture(scope="module")
def target(machine):
    """One machine for all faults: each test compares with what it found."""
    return machine("target")


# On the way


def test_a_machine_that_does_not_answer(project, target):
    network = Network(project, target)
    target.link_down()
    try:
        with untouched(target):
            run = network.deploy("-e", "ansible_timeout=1", "-e", "deploy_ssh_timeout=1")
    finally:
        target.link_up()
    assert run.exit_code == 4, run.output
    assert run.statuses(INFO) == {"target": "unreachable"}
    message = run.of(INFO)["msg"]
    assert target.address in message
    assert "State: the running system is untouched" in message
    assert "Next: " in message


def test_nix_missing_on_the_machine(project, machine):
    bare = machine("bare", nix=False)
    network = Network(project, bare)
    with untouched(bare):
        run = network.deploy()
    assert run.exit_code == 2, run.output
    message = run.of(COPY)["msg"]
    assert message.startswith("bare: Nix is missing on the machine")
    assert "nix-store is not on the PATH" in message
    assert "State: the running system is untouched" in message
    assert "Next: " in message


def test_nix_missing_on_the_controller(project, target, tmp_path):
    network = Network(project, target)
    programs = tmp_path / "bin"
    programs.mkdir()
    for directory in ("/usr/bin", "/bin", "/usr/sbin"):
        for program in Path(directory).iterdir():
            link = programs / program.name
            if not program.name.startswith("nix") and not link.is_symlink():
                link.symlink_to(program)
    assert shutil.which("nix-instantiate", path=str(programs)) is None
    project.environment["PATH"] = f"{BIN}:{programs}"
    with untouched(target):
        run = network.deploy()
    assert run.exit_code == 4, run.output
    assert "nix-instantiate is not on the controller's PATH" in run.output
    assert "Next: ansible-playbook nix.ops.install" in run.output


def test_an_untrusted_user_without_root(project, machine):
    deployed = machine("deployed", user="deploy")
    system = build_system(project, '{ environment.etc.note.text = "unsigned"; }')
    with untouched(deployed):
        run = run_tasks(project, f"- nix.ops.nix_copy_closure: {{ paths: [{system}] }}", hosts="deployed")
    assert run.exit_code == 2, run.output
    message = run.of("nix.ops.nix_copy_closure")["msg"]
    assert "lacks a valid signature" in message
    assert "trusted-users" in message
    assert "sign_key_file" in message
    assert "State: the running system is untouched" in message
    assert not has_path(deployed, system)


def test_a_path_to_copy_that_does_not_exist(project, target):
    absent = "/nix/store/00000000000000000000000000000000-absent"
    with untouched(target):
        run = run_tasks(project, f"- nix.ops.nix_copy_closure: {{ paths: [{absent}] }}")
    message = run.of("nix.ops.nix_copy_closure")["msg"]
    assert message.startswith(f"target: {absent} is not in the controller's store")
    assert "State: nothing was copied" in message
    assert "Next: Build it" in message


def test_a_store_with_no_room(project, machine):
    small = machine("small", store_mib=64)
    big = 'environment.etc.big.source = pkgs.runCommand "big" { } "head -c 90000000 /dev/urandom >$out";'
    network = Network(project, small)
    network.define(big)
    before = small.inspect()
    run = network.deploy()
    assert run.exit_code == 2, run.output
    message = run.of(COPY)["msg"]
    assert message.startswith("small: the closure could not be copied to the machine")
    assert "No space left on device" in message
    assert "State: the running system is untouched" in message
    assert "nix-collect-garbage" in message
    after = small.inspect()
    assert after == {**before, "leftovers": [COPIED]}

    # What the message says to do: what has arrived by half takes room until then.
    small.run("nix-collect-garbage")
    network.define('environment.etc.big.text = "small";')
    again = network.deploy()
    assert again.exit_code == 0, again.output
    assert again.of(ACTIVATE)["changed"]
    assert small.run("cat /etc/big").stdout == "small"


# On the machine: the exit codes of switch-to-configuration

_EXITS = "printf '#!/bin/sh\\nexit %s\\n' >$out/bin/switch-to-configuration"

# What is set, the exit code, what the message says, whether the new system was running.
EXIT_CODES = {
    "a check before the switch": (
        'system.preSwitchChecks.no = "echo the check says no; false";',
        1,
        "a check before the switch refused it",
        False,
    ),
    "a snippet of the activation": (
        'system.activationScripts.no = "echo the snippet says no; false";',
        2,
        "the activation script failed",
        True,
    ),
    "tmpfiles": (
        'systemd.tmpfiles.rules = [ "d /proc/no-room-for-this 0755 root root - -" ];',
        3,
        "systemd could not be reloaded",
        True,
    ),
    "a unit": (
        'systemd.services."no\\\\x2dgood" = { wantedBy = [ "multi-user.target" ];'
        ' serviceConfig.Type = "oneshot"; script = "echo the unit says no; false"; };',
        4,
        "units failed",
        True,
    ),
    "the init interface": (
        "systemd.package = pkgs.systemd // { interfaceVersion = 3; };",
        100,
        "needs a reboot",
        False,
    ),
    "a panic": (f'system.systemBuilderCommands = "{_EXITS % 101}";', 101, "broke down", False),
    "no permission": (f'system.systemBuilderCommands = "{_EXITS % 126}";', 126, "can't be run on this machine", False),
    "no interpreter": (
        "system.systemBuilderCommands = \"sed -i '1s|.*|#!/nowhere/perl|' $out/bin/switch-to-configuration\";",
        127,
        "can't be run on this machine",
        False,
    ),
}


def _boot_loader(does: str) -> str:
    # Its name is that of the boot loader whose menu is there.
    hook = f'pkgs.writeScript "install-systemd-boot.sh" "#!/bin/sh\\n{does}\\n"'
    return f"boot.loader.external = {{ enable = true; installHook = {hook}; }};"


BOOT_LOADER = _boot_loader("echo the boot loader says no; exit 1")


@pytest.fixture(scope="module")
def systems(target, tmp_path_factory):
    """All systems of what follows by their names; a settled one runs."""
    described = {
        **dict.fromkeys(SETTLED, ""),
        **{fault: config for fault, (config, *_rest) in EXIT_CODES.items()},
        "the boot loader": BOOT_LOADER,
        "the boot loader hangs": _boot_loader("echo the boot loader waits; sleep 1000000"),
        "the check hangs": 'system.preSwitchChecks.hang = "sleep 1000000";',
        "gate": GATE,
    }
    return provide(target, tmp_path_factory.mktemp("systems"), described)


@pytest.fixture
def controller(target):
    """A controller of the machine."""
    with controlled(target) as controller:
        yield controller


@pytest.fixture
def before(controller, systems):
    """What was seen on the machine, which runs a settled system."""
    return settle(controller, systems)


@pytest.mark.parametrize("rollback", ["auto", "never"])
@pytest.mark.parametrize("fault", EXIT_CODES)
def test_an_exit_code_of_switch_to_configuration(target, systems, controller, before, tell, fault, rollback):
    _config, exit_code, says, ran_new = EXIT_CODES[fault]
    new = systems[fault]
    ran = controller.activate(new, rollback=rollback)
    message = ran.failed
    assert ran.activation.exit_code == exit_code
    assert message.startswith("target: ")
    assert says in message

    after = target.inspect()
    back = rollback == "auto" and (ran_new or fault == "a panic")
    running = new if ran_new and not back else before["running"]
    assert stands(after) == (running, before["profile"], before["boot_default"])
    assert f"State: it {in_words(running, before['boot_default'])}" in message
    assert "Next: " in message
    assert (ran.activation.rolled_back != "no") == back
    assert ("gone back to what ran before" in message) == back
    assert after["sshd_pid"] == before["sshd_pid"]
    assert after["failed_units"] == (["no\\x2dgood.service"] if fault == "a unit" and not back else [])
    assert left_over(after) == []
    if fault == "a unit":
        assert ran.activation.units.failed == ("no\\x2dgood.service",)
        # The end of its log.
        assert "the unit says no" in message
    # What is left of a switch that was not undone.
    mended = other(systems, before["running"])
    assert controller.activate(mended).done.changed
    assert stands(target.inspect()) == (mended, mended, mended)
    how = {"auto": "", "never": ", and rollback is never"}[rollback]
    tell(f"exit code {exit_code}: {fault}{how}", before, after, says=message, then="succeeds")


def test_a_deploy_with_a_unit_that_fails(project, target):
    config, exit_code, says, _ran_new = EXIT_CODES["a unit"]
    network = Network(project, target)
    network.define(config)
    before = target.inspect()
    run = network.deploy()
    assert run.exit_code == 2, run.output
    answer = run.of(ACTIVATE)
    assert (answer["exit_code"], answer["rolled_back"]) == (exit_code, True)
    assert answer["units"]["failed"] == ["no\\x2dgood.service"]
    assert says in answer["msg"]
    assert "the unit says no" in answer["journal"]["no\\x2dgood.service"]
    after = target.inspect()
    assert stands(after) == stands(before)
    assert after["leftovers"] == [COPIED]


def test_a_boot_loader_that_fails_after_a_good_test(target, systems, controller, before, tell):
    new = systems["the boot loader"]
    message = controller.activate(new).failed
    after = target.inspect()
    assert stands(after) == (new, new, before["boot_default"])
    assert "the new system runs, but its boot entry could not be written" in message
    assert "the boot loader says no" in message
    assert f"State: it {in_words(new, before['boot_default'])}" in message

    # It is not taken for done.
    assert not controller.standing().stands_at(new, "switch")
    again = controller.activate(new)
    assert again.failed
    assert again.activation.step == "boot"

    assert controller.activate(other(systems, before["running"])).done.changed
    assert len(set(stands(target.inspect()))) == 1
    tell("the boot loader fails", before, after, says=message, then="succeeds")


def test_a_boot_loader_that_hangs(target, systems, controller, before, tell):
    new = systems["the boot loader hangs"]
    ran = controller.activate(new, boot_timeout=3)
    message = ran.failed
    after = target.inspect()
    assert stands(after) == (new, new, before["boot_default"])
    assert left_over(after) == []
    assert (ran.activation.step, ran.activation.exit_code) == ("boot", 124)
    assert "the new system runs, but its boot entry could not be written in time" in message
    assert "the boot loader waits" in message
    assert f"State: it {in_words(new, before['boot_default'])}" in message
    assert "'boot_timeout'" in message
    assert target.run("pgrep -f '[s]leep 1000000'", check=False).stdout == ""

    assert not controller.standing().stands_at(new, "switch")
    assert controller.activate(other(systems, before["running"])).done.changed
    assert len(set(stands(target.inspect()))) == 1
    tell("the boot loader hangs", before, after, says=message, then="succeeds")


def test_a_boot_loader_that_hangs_where_only_what_boots_is_set(target, systems, controller, before):
    ran = controller.activate(systems["the boot loader hangs"], action="boot", boot_timeout=3)
    assert "its boot entry could not be written in time (exit code 124)" in ran.failed
    after = target.inspect()
    assert stands(after) == stands(before)
    assert left_over(after) == []


def test_a_dry_activation_that_hangs(target, systems, controller, before):
    ran = controller.activate(systems["the check hangs"], action="dry-activate", switch_timeout=3)
    assert "the switch did not end in time (exit code 124 of switch-to-configuration dry-activate)" in ran.failed
    assert "'switch_timeout'" in ran.failed
    after = target.inspect()
    assert stands(after) == stands(before)
    assert left_over(after) == []


def test_a_boot_loader_that_fails_where_the_boot_menu_can_not_be_read(project, target):
    network = Network(project, target)
    network.define(BOOT_LOADER)
    target.run("rm -r /boot/loader")
    answer = network.deploy().of(ACTIVATE)
    new = answer["toplevel"]
    state = f"it runs {new}, may boot an older system: the boot entry of its profile, {new}, was not written"
    assert state in answer["msg"]
    assert answer["boots"] is None

    # It is not taken for done, although it runs and its profile names what it shall be.
    again = network.deploy()
    assert again.exit_code == 2
    assert again.of(ACTIVATE)["step"] == "boot"

    network.define()
    assert network.deployed().changed
    assert not network.deployed().changed


def test_another_switch_at_work_on_the_machine(target, systems, controller, before):
    lock = (
        "mkdir -p /run/nixos; flock /run/nixos/switch-to-configuration.lock sh -c 'echo $$ >/run/holder; exec sleep 60'"
    )
    holder = subprocess.Popen([*target.enter(), "/bin/sh", "-c", lock])
    wait_for(lambda: target.run("cat /run/holder", check=False).stdout, "the lock is held")
    try:
        ran = controller.activate(other(systems, before["running"]))
    finally:
        target.run("kill $(cat /run/holder); rm /run/holder")
        holder.wait()
    assert "another switch-to-configuration is at work" in ran.failed
    assert ran.activation.exit_code == 11
    assert f"State: it {in_words(before['running'], before['boot_default'])}" in ran.failed
    assert "Next: Wait for the other switch to end" in ran.failed
    # Nothing had changed, so nothing went back.
    assert "gone back" not in ran.failed and ran.activation.rolled_back == "no"
    assert stands(target.inspect()) == stands(before)


def test_two_deploys_of_one_machine_at_the_same_time(target, systems, controller, before, tell):
    new, others = systems["gate"], other(systems, before["running"])
    target.run("touch /run/gate")
    first = controller.start(new)
    try:
        first.read_until("at the gate")
        with controlled(target) as elsewhere:
            message = elsewhere.activate(others).failed
        assert message.startswith("target: another activation is at work on the machine")
        assert f"(process {first.pid})" in message
        assert "this run has changed nothing there" in message
        assert "Next: Wait for it to end" in message
    finally:
        target.run("rm /run/gate")
    assert first.finish().done.changed
    after = target.inspect()
    assert stands(after) == (new, new, new)
    assert left_over(after) == []
    assert controller.activate(others).done.changed
    tell("two controllers deploy at once", before, after, says=message, then="succeeds")


def test_a_toplevel_that_is_not_on_the_machine(project, target, controller):
    system = build_system(project, f'{{ environment.etc.note.text = "{new_salt()}"; }}')
    with untouched(target):
        message = controller.activate(system).failed
    assert f"{system} is not a NixOS system in this machine's store" in message
    assert "State: nothing was activated" in message
    assert "Next: " in message
