# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nix.ops.nixos_activate alone, in a user's own playbook and ad hoc."""

from __future__ import annotations

import json

import pytest

from integration.engine import SETTLED, controlled, provide, settle
from integration.networks import main_pids, standing
from integration.tasks import (
    GATE,
    build_system,
    close_gate,
    enter,
    new_salt,
    open_gate,
    put,
    read_until,
    run_tasks,
    service,
    traces_of_jobs,
    wait_for,
    write_inventory,
    write_play,
)


def task(toplevel, options="", keywords=""):
    """A task called Activate."""
    lines = "\n".join(f"    {line}" for line in [f'toplevel: "{toplevel}"', *options.splitlines()])
    return f"- name: Activate\n  nix.ops.nixos_activate:\n{lines}\n{keywords}"


def activate(project, toplevel, options="", *words, hosts="target", keywords=""):
    """Activate a toplevel that is in the machine's store."""
    return run_tasks(project, task(toplevel, options, keywords), *words, hosts=hosts)


def start(project, toplevel, options="", hosts="target", keywords=""):
    """Start to activate a toplevel with a gate, up to the gate; the run goes on."""
    play = write_play(project, task(toplevel, options, keywords), hosts)
    process = project.start("ansible-playbook", "-i", "hosts.yml" if hosts == "all" else f"{hosts},", play)
    return process, read_until(process, "> before the gate")


@pytest.fixture
def target(machine):
    """A machine that no one has deployed to."""
    return machine("target")


@pytest.fixture
def gated(project, target):
    """A system with a gate, in the machine's store; the gate is closed."""
    toplevel = build_system(project, GATE)
    put(target, toplevel)
    close_gate(target)
    return toplevel


def test_each_action(target, project):
    first = target.toplevel
    system, other = build_system(project, f"{{ {service('one', 'one')} }}"), build_system(project, GATE)
    put(target, system, other)

    dry = activate(project, system, "action: dry-activate")
    assert dry.statuses("Activate") == {"target": "ok"}
    assert dry.of("Activate")["units"]["started"] == []
    assert "would activate the configuration..." in dry.of("Activate")["output"]
    assert standing(target) == (first, first, first)

    tested = activate(project, system, "action: test").of("Activate")
    assert tested["changed"]
    assert standing(target) == (system, first, first)
    assert (tested["old_toplevel"], tested["toplevel"]) == (first, system)
    assert (tested["running"], tested["boots"]) == (system, first)
    assert (tested["old_generation"], tested["generation"]) == (1, 1)
    assert tested["units"]["started"] == ["one.service"]
    assert not activate(project, system, "action: test").changed

    booted = activate(project, other, "action: boot").of("Activate")
    assert standing(target) == (system, other, other)
    assert (booted["old_generation"], booted["generation"]) == (1, 2)
    assert (booted["running"], booted["boots"]) == (system, other)
    assert not activate(project, other, "action: boot").changed

    switched = activate(project, system).of("Activate")
    assert standing(target) == (system, system, system)
    assert (switched["old_generation"], switched["generation"]) == (2, 3)
    assert (switched["exit_code"], switched["step"]) == (0, "boot")
    assert traces_of_jobs(target) == []


def test_a_specialisation_runs_and_its_system_boots(target, project):
    small = build_system(project, "{ " + service("one", "small") + " }")
    link = f'mkdir $out/specialisation; ln -s ${{builtins.storePath "{small}"}} $out/specialisation/small\\n'
    system = build_system(project, f'{{ system.extraSystemBuilderCmds = "{link}"; }}')
    put(target, system)
    for action, stands in (("test", (small, target.toplevel, target.toplevel)), ("switch", (small, system, system))):
        done = activate(project, system, f"specialisation: small\naction: {action}")
        assert standing(target) == stands, done.output
    result = done.of("Activate")
    assert (result["toplevel"], result["specialisation"], result["running"]) == (system, "small", small)
    assert result["boots"] == system and result["changed"]
    assert not activate(project, system, "specialisation: small").changed
    assert "it has small" in activate(project, system, "specialisation: smal").of("Activate")["msg"]
    # Without it, the system itself runs again.
    assert activate(project, system).of("Activate")["units"]["stopped"] == ["one.service"]


def test_settled_machine_is_left_alone(target, project):
    before = target.inspect()
    settled = activate(project, target.toplevel)
    assert settled.statuses("Activate") == {"target": "ok"}
    assert "output" not in settled.of("Activate")
    assert target.inspect() == before
    forced = activate(project, target.toplevel, "force: true")
    assert forced.statuses("Activate") == {"target": "ok"}
    assert forced.of("Activate")["exit_code"] == 0
    assert "activating the configuration..." in forced.output
    assert standing(target) == (target.toplevel,) * 3


def test_what_is_done_with_units_is_told(target, project):
    def services(says, *more):
        kept = service("kept", says).replace("script", "restartIfChanged = false; script")
        reloaded = service("reloaded", says).replace("script", 'reloadIfChanged = true; reload = "true"; script')
        inplace = service("inplace", says).replace("script", "stopIfChanged = false; script")
        return "{ " + " ".join([service("same", "same"), service("other", says), kept, reloaded, inplace, *more]) + " }"

    old = build_system(project, services("old", service("gone", "gone")))
    new = build_system(project, services("new", service("added", "added")))
    put(target, old, new)
    assert activate(project, old).exit_code == 0
    names = ("same", "kept", "reloaded", "other", "inplace")
    pids = main_pids(target, *names)
    outcome = activate(project, new)
    result = outcome.of("Activate")
    assert result["units"] == {
        "stopped": ["gone.service"],
        "started": ["added.service"],
        "restarted": ["inplace.service", "other.service"],
        "reloaded": ["reloaded.service"],
        "not_restarted": ["kept.service"],
        "failed": [],
    }
    now = main_pids(target, *names)
    assert {name for name, pid in now.items() if pid != pids[name]} == {"other", "inplace"}
    lines = outcome.lines("target")
    assert lines[-1] == "activation finished successfully"
    assert result["output"].splitlines() == lines[: len(result["output"].splitlines())]


BAD = 'systemd.services.bad = { wantedBy = [ "multi-user.target" ]; script = "echo it is so bad; exit 7"; };'


@pytest.fixture(scope="module")
def failing(machine):
    """A machine for all units that fail: each test compares with what it found."""
    return machine("failing")


@pytest.fixture(scope="module")
def systems(failing, tmp_path_factory):
    """All of its systems by their names; a settled one runs."""
    return provide(failing, tmp_path_factory.mktemp("systems"), {**dict.fromkeys(SETTLED, ""), "bad": BAD})


@pytest.fixture
def controller(failing):
    """A controller of that machine."""
    with controlled(failing) as controller:
        yield controller


@pytest.fixture
def before(controller, systems):
    """What was seen there, while a settled system runs."""
    return settle(controller, systems)


@pytest.mark.parametrize("policy", ["rollback", "fail", "warn"])
def test_failed_unit_without_rollback(failing, systems, controller, before, policy):
    ran = controller.activate(systems["bad"], failed_units=policy, rollback="never")
    assert (ran.message is None) == (policy == "warn")
    boots = before["running"] if policy == "rollback" else systems["bad"]
    assert standing(failing) == (systems["bad"], boots, boots)
    assert ran.activation.exit_code == 4


@pytest.mark.parametrize("policy", ["rollback", "fail", "warn"])
def test_failed_unit(failing, systems, controller, before, policy):
    ran = controller.activate(systems["bad"], failed_units=policy)
    assert (ran.message is None) == (policy == "warn")
    ended = ran.activation
    stays = policy != "rollback"
    assert (ended.exit_code, ended.step) == (4, "boot" if stays else "rollback")
    assert ended.rolled_back == ("no" if stays else "yes")
    assert ended.changed
    assert ended.units.failed == ("bad.service",)
    assert "it is so bad" in ended.journal["bad.service"]
    assert ended.after.failed_units == (("bad.service",) if stays else ())
    runs = systems["bad"] if stays else before["running"]
    assert standing(failing) == (runs, runs, runs)
    assert traces_of_jobs(failing) == []
    if policy != "warn":
        assert "units failed" in ran.failed
        assert "bad.service" in ran.failed
        assert "it is so bad" in ran.failed
        assert f"runs and boots {runs}" in ran.failed
        assert ("gone back to what ran before" in ran.failed) != stays


@pytest.mark.parametrize("policy", ["rollback", "warn"])
def test_a_task_with_a_failed_unit(target, project, policy):
    system = build_system(project, f"{{ {BAD} }}")
    put(target, system)
    outcome = activate(project, system, f"failed_units: {policy}")
    assert (outcome.exit_code == 0) == (policy == "warn")
    result = outcome.of("Activate")
    stays = policy != "rollback"
    assert (result["exit_code"], result["step"]) == (4, "boot" if stays else "rollback")
    assert result["rolled_back"] != stays
    assert result["changed"]
    assert result["units"]["failed"] == ["bad.service"]
    assert "it is so bad" in result["journal"]["bad.service"]
    assert result["failed_units"] == (["bad.service"] if stays else [])
    if policy == "warn":
        assert "units failed: bad.service" in outcome.output


def test_another_profile(target, project):
    system = build_system(project, f"{{ {service('one', 'one')} }}")
    put(target, system)
    profile = "/nix/var/nix/profiles/system-profiles/try"
    result = activate(project, system, f"profile: {profile}").of("Activate")
    assert result["exit_code"] == 0, result
    assert (result["old_generation"], result["generation"]) == (None, 1)
    assert target.run(f"readlink -f {profile}").stdout.strip() == system
    seen = target.inspect()
    assert (seen["running"], seen["profile"], seen["generation"]) == (system, target.toplevel, 1)


def test_two_at_the_same_time(target, project, gated):
    process, seen = start(project, gated)
    before = target.inspect()
    second = activate(project, target.toplevel, "force: true")
    message = second.of("Activate")["msg"]
    assert "another activation is at work" in message
    assert f"switch of {gated} by " in message
    assert f"(process {process.pid})" in message
    assert "since " in message
    assert "changed nothing" in message
    after = target.inspect()
    assert (after["running"], after["profile"]) == (before["running"], before["profile"])
    open_gate(target)
    assert project.finish(process, seen).exit_code == 0
    assert standing(target) == (gated, gated, gated)
    assert traces_of_jobs(target) == []


def test_connection_dropped_in_the_middle(target, project, gated):
    process, seen = start(project, gated)
    # While it is being followed: all of Ansible's connections, not sshd.
    wait_for(lambda: target.run("pgrep -fx 'sleep 0.1'", check=False).returncode == 0, "it is followed")
    target.run("pkill -KILL -f '^sshd: root'")
    seen += read_until(process, "connection lost, reconnecting")
    open_gate(target)
    outcome = project.finish(process, seen)
    assert outcome.exit_code == 0, outcome.output
    assert "opened" in outcome.lines("target")
    assert "behind the gate" in outcome.lines("target")
    assert outcome.of("Activate")["exit_code"] == 0
    assert outcome.of("Activate")["output"].count("before the gate") == 1
    assert standing(target) == (gated, gated, gated)
    assert traces_of_jobs(target) == []


def test_link_down_and_up_with_the_true_exit_code(target, project):
    gate = GATE.removesuffix("}")
    system = build_system(project, gate + 'system.activationScripts.zz = "echo at the end; false"; }')
    put(target, system)
    close_gate(target)
    # A dead link is found out within seconds here.
    write_inventory(
        project, {"target": {"ansible_ssh_extra_args": "-o ServerAliveInterval=1 -o ServerAliveCountMax=1"}}
    )
    process, seen = start(project, system, hosts="all")
    target.link_down()
    open_gate(target)
    seen += read_until(process, "connection lost, reconnecting")
    target.link_up()
    outcome = project.finish(process, seen)
    result = outcome.of("Activate")
    assert result["exit_code"] == 2, outcome.output
    assert "at the end" in outcome.lines("target")
    assert "the activation script failed" in result["msg"]
    assert result["boots"] == target.toplevel


def test_a_dead_connection_that_another_task_had_opened(target, project, gated):
    # The first task opens a connection that never finds out by itself that the link is dead.
    tasks = f"""
    - name: Open
      ansible.builtin.raw: "true"
    - name: Activate
      nix.ops.nixos_activate:
        toplevel: {gated}
    """
    process = project.start("ansible-playbook", "-i", "target,", write_play(project, tasks, "target"))
    seen = read_until(process, "> before the gate")
    target.link_down()
    seen += read_until(process, "connection lost, reconnecting")
    target.link_up()
    open_gate(target)
    outcome = project.finish(process, seen)
    assert outcome.exit_code == 0, outcome.output
    assert outcome.of("Activate")["running"] == gated


def test_sudo_that_can_not_be_used_for_a_moment(machine, project):
    target = machine("deploy", user="deploy")
    gated = build_system(project, GATE)
    put(target, gated)
    close_gate(target)
    write_inventory(project, {"deploy": {"ansible_become": True}})
    process, seen = start(project, gated, hosts="all")
    target.run("chmod 0666 /etc/sudoers")
    open_gate(target)
    seen += read_until(process, "no answer, asking again")
    target.run("chmod 0440 /etc/sudoers")
    outcome = project.finish(process, seen)
    assert outcome.exit_code == 0, outcome.output
    assert outcome.of("Activate")["running"] == target.inspect()["profile"] == gated


def test_sshd_restarted_by_the_switch(target, project):
    system = build_system(project, f'{{ services.openssh.extraConfig = "# {new_salt()}"; }}')
    put(target, system)
    before = target.inspect()["sshd_pid"]
    outcome = activate(project, system)
    assert outcome.exit_code == 0, outcome.output
    assert "sshd.service" in outcome.of("Activate")["units"]["restarted"]
    assert target.inspect()["sshd_pid"] != before
    assert standing(target) == (system, system, system)


def test_killed_activation_is_told(target, project, gated):
    process, seen = start(project, gated)
    target.run("systemctl kill --signal=KILL nix-ops-activation.service")
    outcome = project.finish(process, seen)
    message = outcome.of("Activate")["msg"]
    assert "the activation was killed" in message
    assert f"boots {target.toplevel}" in message
    assert standing(target)[1:] == (target.toplevel, target.toplevel)
    assert traces_of_jobs(target) == []
    # The next one is not held up.
    target.run("rm /run/gate")
    assert activate(project, gated).exit_code == 0


def test_environment_is_seen_by_the_activation_alone(target, project):
    gate = GATE.removesuffix("}")
    system = build_system(
        project, gate + 'system.activationScripts.env = "echo \\"$NIXOS_NO_SYNC $MINE\\" > /root/seen"; }'
    )
    put(target, system)
    close_gate(target)
    keywords = '  environment: {NIXOS_NO_SYNC: "1", MINE: "it\'s $(secret)\\n& \\"more\\""}'
    process, seen = start(project, system, keywords=keywords)
    unit = "nix-ops-activation.service"
    told = target.run(["runuser", "-u", "deploy", "--", "systemctl", "show", unit]).stdout
    assert "MainPID=" in told
    listed = target.run("ps -eo args").stdout
    everyone = target.run(
        ["runuser", "-u", "deploy", "--", "sh", "-c", "cat /proc/[0-9]*/environ /run/nix-ops*/* 2>/dev/null || true"]
    ).stdout
    for text in (told, listed, everyone):
        assert "secret" not in text
    open_gate(target)
    outcome = project.finish(process, seen)
    assert outcome.exit_code == 0, outcome.output
    assert target.run("cat /root/seen").stdout == '1 it\'s $(secret)\n& "more"\n'


def test_user_without_and_with_become(machine, project):
    target = machine("user", user="deploy")
    system = build_system(project, f"{{ {service('one', 'one')} }}")
    put(target, system)
    before = target.inspect()
    refused = activate(project, system, hosts="user").of("Activate")
    assert "it needs root: set become" in refused["msg"]
    assert target.inspect() == before
    outcome = activate(project, system, hosts="user", keywords="  become: true")
    assert outcome.exit_code == 0, outcome.output
    assert standing(target) == (system, system, system)


def test_connection_that_is_not_ssh(target, project):
    write_inventory(project, {"target": enter(project, target)})
    system = build_system(project, f"{{ {service('one', 'one')} }}")
    put(target, system)
    outcome = activate(project, system, hosts="all")
    assert outcome.exit_code == 0, outcome.output
    assert outcome.of("Activate")["units"]["started"] == ["one.service"]
    assert standing(target) == (system, system, system)
    assert traces_of_jobs(target) == []


def test_what_can_not_be_activated_is_refused(target, project):
    before = target.inspect()
    system = build_system(project, f"{{ {service('one', 'one')} }}")
    outcome = run_tasks(
        project,
        f"""
        - name: Not in the machine's store
          nix.ops.nixos_activate: {{toplevel: {system}}}
          ignore_errors: true
        - name: In no store
          nix.ops.nixos_activate: {{toplevel: "--help"}}
          ignore_errors: true
        - name: A file in it
          nix.ops.nixos_activate: {{toplevel: "{system}/bin/../init"}}
          ignore_errors: true
        - name: No profile
          nix.ops.nixos_activate: {{toplevel: {target.toplevel}, profile: /nix/var/nix/profiles/../../../etc/x}}
          ignore_errors: true
        - name: No action
          nix.ops.nixos_activate: {{toplevel: {target.toplevel}, action: reboot}}
          ignore_errors: true
        """,
    )
    assert "not a NixOS system in this machine's store" in outcome.of("Not in the machine's store")["msg"]
    assert "not the path of a system" in outcome.of("In no store")["msg"]
    assert "not the path of a system" in outcome.of("A file in it")["msg"]
    assert "is not a valid profile" in outcome.of("No profile")["msg"]
    assert "must be one of" in outcome.of("No action")["msg"]
    assert target.inspect() == before


def test_check_mode_and_diff(target, project):
    system = build_system(
        project, f"{{ pkgs, ... }}: {{ environment.systemPackages = [ pkgs.hello ]; {service('one', 'one')} }}"
    )
    before = target.inspect()
    would = activate(project, system, "", "--check", "--diff")
    assert would.statuses("Activate") == {"target": "changed"}
    assert "hello: ∅ → 2.12.1" in would.output
    assert "unit one.service: new" in would.output
    assert target.inspect() == before
    put(target, system)
    done = activate(project, system, "", "--diff")
    assert done.of("Activate")["diff"] == would.of("Activate")["diff"]
    settled = activate(project, system, "", "--check", "--diff")
    assert settled.statuses("Activate") == {"target": "ok"}
    assert settled.of("Activate")["diff"] == {"prepared": ""}


def test_ad_hoc(target, project):
    system = build_system(project, f"{{ {service('one', 'one')} }}")
    put(target, system)
    options = json.dumps({"toplevel": system, "action": "test"})
    outcome = project.ad_hoc("target", "-i", "target,", "-m", "nix.ops.nixos_activate", "-a", options)
    assert outcome.exit_code == 0, outcome.output
    assert "target | CHANGED" in outcome.output
    assert "the following new units were started: one.service" in outcome.output
    assert standing(target)[0] == system
