# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nix.ops.nix_copy_closure alone, in a user's own playbook and ad hoc."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from integration.networks import Counter
from integration.tasks import (
    build_package,
    build_system,
    enter,
    has_path,
    new_salt,
    nix,
    put,
    run_tasks,
    write_inventory,
)


@pytest.fixture
def tool(project):
    """A package in the controller's store, which no machine has seen, and what it refers to."""
    salt = new_salt()
    return build_package(project, "tool", salt), build_package(project, "base", salt)


def copy(project, path, *words, hosts="target", options="", keywords=""):
    """Run one task, called Copy, for one path."""
    return run_tasks(
        project,
        f"- name: Copy\n  nix.ops.nix_copy_closure:\n    paths: [{path}]\n{options and '    ' + options}\n{keywords}",
        *words,
        hosts=hosts,
    )


# The ssh of a user who has a store at a host "builder". This one is the controller's.
BUILDER = """#!/bin/sh
case "$*" in
    *nix-daemon*)
        echo "$*" >>"${0%/*}/asked"
        case "$*" in *'echo started'*) echo started ;; esac
        exec nix-daemon --stdio --store local
        ;;
esac
exec /usr/bin/ssh "$@"
"""

# A copy from a machine that is trusted.
FROM = "direction: from\n    require_signatures: false"


def sizes(*paths):
    """What paths take in the controller's store."""
    return sum(int(size) for size in nix("nix-store", "--query", "--size", *paths).split())


@pytest.mark.both_pairs
def test_only_what_is_missing_is_copied(machine, project, tool):
    tool, base = tool
    target = machine("target")
    put(target, base)
    outcome = copy(project, tool)
    assert outcome.exit_code == 0, outcome.output
    result = outcome.of("Copy")
    assert (result["paths"], result["bytes"]) == ([tool], sizes(tool))
    assert result["changed"]
    assert has_path(target, tool)
    assert outcome.lines("target") == [
        "copying 1 paths...",
        f"copying path '{tool}' to 'ssh://target'...",
        "closures copied successfully",
    ]
    assert target.inspect()["leftovers"] == []

    # When all is there, that is found out in one round trip.
    ssh = Counter(project, "ssh")
    again = copy(project, tool)
    assert again.statuses("Copy") == {"target": "ok"}
    assert (again.of("Copy")["paths"], again.of("Copy")["bytes"]) == ([], 0)
    assert len(ssh.runs()) == 1

    # The user's own store is behind another ssh than the machine.
    builder = project.directory / ".builder"
    builder.mkdir()
    (builder / "ssh").write_text(BUILDER)
    (builder / "ssh").chmod(0o755)
    project.environment |= {"PATH": f"{builder}:{project.variables()['PATH']}", "NIX_REMOTE": "ssh-ng://builder"}
    other = build_package(project, "tool", new_salt())
    elsewhere = copy(project, other)
    assert elsewhere.of("Copy")["changed"], elsewhere.output
    assert has_path(target, other)
    assert "nix-daemon" in (builder / "asked").read_text()


@pytest.mark.both_pairs
@pytest.mark.parametrize("debian", ["bookworm", "trixie"])
def test_to_and_from_each_version_of_nix(machine, project, tool, debian):
    tool, base = tool
    target = machine(debian, debian=debian)
    assert copy(project, tool, hosts=debian).of("Copy")["changed"]
    assert has_path(target, tool)
    taken = sizes(tool, base)
    nix("nix-store", "--delete", tool, base)
    # Nobody has signed what was built here.
    refused = copy(project, tool, hosts=debian, options="direction: from").of("Copy")["msg"]
    assert "signature" in refused and "set 'require_signatures' to false" in refused
    assert not Path(tool).exists()
    task = {"hosts": debian, "options": FROM}
    would = copy(project, tool, "--check", **task).of("Copy")
    assert sorted(would["paths"]) == sorted([tool, base])
    assert not Path(tool).exists()
    result = copy(project, tool, **task).of("Copy")
    assert sorted(result["paths"]) == sorted([tool, base])
    assert result["bytes"] == taken
    assert Path(tool).exists()
    assert not copy(project, tool, **task).changed


def test_check_mode_writes_nothing(machine, project, tool):
    target = machine("target")
    before = target.run("find /nix/store /nix/var/nix/gcroots /root /tmp | sort").stdout
    outcome = copy(project, tool[0], "--check", options="gc_root: /nix/var/nix/gcroots/nix-ops/kept")
    result = outcome.of("Copy")
    assert sorted(result["paths"]) == sorted(tool)
    assert result["bytes"] == sizes(*tool)
    assert result["changed"]
    assert target.run("find /nix/store /nix/var/nix/gcroots /root /tmp | sort").stdout == before


def test_gc_root_protects_from_its_arrival_on(machine, project, tool):
    tool, base = tool
    target = machine("target")
    root = "/nix/var/nix/gcroots/nix-ops/it's"
    outcome = copy(project, tool, options=f'gc_root: "{root}"')
    assert outcome.exit_code == 0, outcome.output
    assert target.run(["readlink", root]).stdout.strip() == tool
    target.run("nix-store --gc")
    assert has_path(target, tool) and has_path(target, base)
    target.run(["rm", root])
    target.run("nix-store --gc")
    assert not has_path(target, tool)


def test_signed_paths_come_from_a_machine(machine, project, tool):
    target = machine("target")
    put(target, tool[0])
    key = project.directory / "key"
    nix("nix-store", "--generate-binary-cache-key", "tests", str(key), f"{key}.pub")
    target.run("cat >/root/key", stdin=key.read_bytes())
    sign = "nix --extra-experimental-features nix-command store sign --recursive --key-file /root/key"
    target.run(f"{sign} {tool[0]}")
    nix("nix-store", "--delete", *tool)
    project.environment["NIX_CONFIG"] = (
        f"{project.variables()['NIX_CONFIG']}\ntrusted-public-keys = {Path(f'{key}.pub').read_text()}"
    )
    outcome = copy(project, tool[0], options="direction: from\n    compress: true")
    assert outcome.exit_code == 0, outcome.output
    assert sorted(outcome.of("Copy")["paths"]) == sorted(tool)
    assert Path(tool[0]).exists()


def test_compressed(machine, project, tool):
    target = machine("target")
    assert copy(project, tool[0], options="compress: true").exit_code == 0
    assert has_path(target, tool[0])


def test_substitutes_come_from_the_machines_own_cache(machine, project, tool):
    tool, base = tool
    target = machine("target")
    cache = project.directory / "binary-cache"
    nix("nix", "--extra-experimental-features", "nix-command", "copy", "--to", f"file://{cache}", base)
    packed = subprocess.run(["tar", "-C", cache, "-c", "."], check=True, capture_output=True).stdout
    target.run("mkdir /srv/cache && tar -C /srv/cache -x", stdin=packed)
    target.run(
        "rm /etc/nix/nix.conf; cat >/etc/nix/nix.conf",
        stdin=(b"build-users-group =\nsandbox = false\nsubstituters = file:///srv/cache\nrequire-sigs = false\n"),
    )
    outcome = copy(project, tool, options="substitutes: true")
    assert outcome.exit_code == 0, outcome.output
    assert has_path(target, tool)
    result = outcome.of("Copy")
    assert sorted(result["paths"]) == sorted([tool, base])
    assert result["bytes"] == sizes(tool, base)
    # What the cache has did not go over the connection.
    assert f"copying path '{base}' to 'ssh://" not in outcome.output

    # Also when there is nothing that the cache does not have.
    target.run(["nix-store", "--delete", tool, base])
    result = copy(project, base, options="substitutes: true").of("Copy")
    assert (result["paths"], result["changed"]) == ([base], True)


def test_machine_takes_what_it_lacks_from_a_relay(machine, project, tool):
    tool, base = tool
    target, relay = machine("target", debian="trixie"), machine("relay")
    write_inventory(
        project, {one.name: {"ansible_host": one.address, "ansible_user": "root"} for one in (target, relay)}
    )

    def take(path, root="copied-a"):
        options = (
            f"gc_root: /nix/var/nix/gcroots/nix-ops/{root}\n    via: relay\n    via_store: ssh://root@{relay.address}"
        )
        return copy(project, path, "--limit", "target", hosts="all", options=options)

    # The relay does not know the machine yet, and the message has the key to enter.
    refused = take(tool).of("Copy")["msg"]
    public = target.run("cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub").stdout.strip()
    assert f'keys = [ "{public}" ]' in refused and has_path(relay, tool) and not has_path(target, tool)
    relay.run("cat >>/root/.ssh/authorized_keys", stdin=f'restrict,command="nix-store --serve" {public}\n'.encode())

    ssh = Counter(project, "ssh")
    outcome = take(tool)
    assert outcome.exit_code == 0, outcome.output
    assert sorted(outcome.of("Copy")["paths"]) == sorted([tool, base])
    assert outcome.of("Copy")["bytes"] == sizes(tool, base)
    assert f"target> copying path '{tool}' from 'ssh://root@relay'..." in outcome.output
    assert has_path(target, tool) and has_path(target, base)
    # The controller itself has sent nothing.
    assert not [words for words in ssh.runs() if "--serve" in words]
    assert relay.run("readlink /nix/var/nix/gcroots/nix-ops/via-copied-a-target").stdout.strip() == tool
    assert target.inspect()["leftovers"] == ["/nix/var/nix/gcroots/nix-ops/copied-a"]
    assert not take(tool).changed

    # A relay that was broken into hands out something else.
    other = build_package(project, "tool", new_salt())
    put(relay, other)
    relay.run(["sh", "-c", f"chmod u+w {other} && echo evil >>{other}"])
    relay.run(
        f"hash=$(nix-hash --type sha256 {other}) size=$(nix-store --dump {other} | wc -c)"
        f' && nix-store --dump-db {other} | sed "2s/.*/$hash/;3s/.*/$size/" >/tmp/evil'
        " && nix-store --register-validity --hash-given --reregister </tmp/evil"
    )
    refused = take(other, "copied-b").of("Copy")["msg"]
    assert f"relay has handed out other contents than the controller has: {other}" in refused
    assert not has_path(target, other)


@pytest.mark.both_pairs
def test_user_who_is_not_trusted(machine, project, tool):
    tool, base = tool
    target = machine("user", user="deploy")
    key, public = project.directory / "secret.key", project.directory / "public.key"
    nix("nix-store", "--generate-binary-cache-key", "test-1", str(key), str(public))
    refused = copy(project, tool, hosts="user")
    message = refused.of("Copy")["msg"]
    assert "lacks a" in message
    assert "signature" in message
    assert "sign_key_file" in message
    assert "trusted-users" in message
    assert not has_path(target, base)

    system = build_system(project, f'{{ nix.settings.trusted-public-keys = [ "{public.read_text().strip()}" ]; }}')
    put(target, system)
    target.run([f"{system}/bin/switch-to-configuration", "test"])
    signed = copy(project, tool, hosts="user", options=f"sign_key_file: {key}")
    assert signed.exit_code == 0, signed.output
    assert sorted(signed.of("Copy")["paths"]) == sorted([tool, base])
    assert has_path(target, tool)


def test_user_with_sudo(machine, project, tool):
    tool, base = tool
    target = machine("user", user="deploy")
    outcome = copy(project, tool, hosts="user", keywords="  become: true")
    assert outcome.exit_code == 0, outcome.output
    assert has_path(target, tool)
    assert "to 'ssh://user'" in outcome.output
    target.run(["nix-store", "--delete", tool, base])


@pytest.mark.both_pairs
@pytest.mark.parametrize("names_the_user", [True, False], ids=["inventory", "ssh_config"])
def test_sudo_that_wants_a_password(machine, project, tool, names_the_user):
    tool, base = tool
    target = machine("asked", user="deploy", sudo_password="s e'c$")
    variables: dict[str, object] = {"ansible_become": True, "ansible_become_password": "s e'c$"}
    if names_the_user:
        variables["ansible_user"] = "deploy"
    write_inventory(project, {"asked": variables})
    outcome = copy(project, tool, hosts="all")
    assert outcome.exit_code == 0, outcome.output
    result = outcome.of("Copy")
    assert sorted(result["paths"]) == sorted([tool, base])
    assert result["bytes"] == sizes(tool, base)
    assert has_path(target, tool)
    nix("nix-store", "--delete", tool, base)
    refused = copy(project, tool, hosts="all", options="direction: from").of("Copy")["msg"]
    assert "a copy as a file has no signatures" in refused and "State: nothing was copied" in refused
    back = copy(project, tool, hosts="all", options=FROM)
    assert back.exit_code == 0, back.output
    assert Path(tool).exists()
    assert target.inspect()["leftovers"] == []
    assert "s e'c$" not in outcome.output


@pytest.mark.both_pairs
def test_connection_that_is_not_ssh(machine, project, tool):
    tool, base = tool
    target = machine("target")
    write_inventory(project, {"target": enter(project, target)})
    outcome = copy(project, tool, hosts="all", options="gc_root: /nix/var/nix/gcroots/nix-ops/copied")
    assert outcome.exit_code == 0, outcome.output
    assert sorted(outcome.of("Copy")["paths"]) == sorted([tool, base])
    assert has_path(target, tool)
    nix("nix-store", "--delete", tool, base)
    assert copy(project, tool, hosts="all", options=FROM).exit_code == 0
    assert Path(tool).exists()
    assert target.inspect()["leftovers"] == ["/nix/var/nix/gcroots/nix-ops/copied"]
    assert target.run("find /root -name '*ansible*tmp*' -type d").stdout == ""
    assert target.run("find /root/.ansible/tmp -mindepth 1 2>/dev/null || true").stdout == ""


@pytest.mark.both_pairs
def test_every_character_in_the_options_of_ssh(machine, project, tool):
    target = machine("target")
    identity = project.directory / "my \"key\" of $(touch never) & 'me'"
    identity.write_text(target.identity_file.read_text())
    identity.chmod(0o600)
    known = project.directory / "known hosts"
    known.write_text(target.known_hosts_file.read_text())
    project.configure()
    # First ssh's own quotes, then those of a shell.
    words = [f'IdentityFile="{str(identity).replace(chr(34), chr(92) + chr(34))}"', f'UserKnownHostsFile="{known}"']
    options = shlex.join(word for option in words for word in ("-o", option))
    variables = {"ansible_host": target.address, "ansible_user": "root", "ansible_ssh_common_args": options}
    write_inventory(project, {"it": variables})
    outcome = copy(project, tool[0], hosts="all")
    assert outcome.exit_code == 0, outcome.output
    assert has_path(target, tool[0])
    assert not list(project.directory.glob("never"))


def test_path_that_does_not_exist(machine, project):
    target = machine("target")
    nowhere = "/nix/store/00000000000000000000000000000000-nowhere"
    before = target.inspect()
    message = copy(project, nowhere).of("Copy")["msg"]
    assert f"{nowhere} is not in the controller's store" in message
    assert "nothing was copied" in message
    assert "is not in" in copy(project, nowhere, "--check").of("Copy")["msg"]
    message = copy(project, nowhere, options="direction: from").of("Copy")["msg"]
    assert nowhere in message
    wrong = ["/etc/passwd", "/nix/store/../etc", "--help", "/nix/store/x;touch"]
    outcome = run_tasks(
        project,
        f"""
        - name: Copy
          nix.ops.nix_copy_closure: {{path: "{{{{ item }}}}"}}
          loop: {json.dumps(wrong)}
        """,
    )
    messages = [result["msg"] for result in outcome.of("Copy")["results"]]
    assert all("is not a path in the Nix store" in message for message in messages)
    assert len(messages) == len(wrong)
    assert target.inspect() == before


@pytest.mark.both_pairs
def test_local_connection(project, tool):
    outcome = copy(project, tool[0], hosts="localhost")
    assert outcome.statuses("Copy") == {"localhost": "ok"}
    assert outcome.of("Copy")["paths"] == []


@pytest.mark.both_pairs
def test_ad_hoc(machine, project, tool):
    target = machine("target")
    options = json.dumps({"path": tool[0]})
    outcome = project.ad_hoc("target", "-i", "target,", "-m", "nix.ops.nix_copy_closure", "-a", options)
    assert outcome.exit_code == 0, outcome.output
    assert "target | CHANGED" in outcome.output
    assert has_path(target, tool[0])


@pytest.mark.parametrize("root", ["/root/precious", "/nix/var/nix/gcroots/../../../../root/x", "relative"])
def test_a_gc_root_is_never_made_elsewhere(machine, project, root):
    target = machine("target")
    target.run("echo precious >/root/precious")
    path = build_package(project, "base", new_salt())
    outcome = run_tasks(project, f'- nix.ops.nix_copy_closure: {{path: "{path}", gc_root: "{root}"}}')
    assert "is not a path below /nix/var/nix/gcroots" in outcome.output
    assert target.run("cat /root/precious").stdout == "precious\n"
