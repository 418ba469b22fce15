# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of a network on a live machine: whole, with their owners, once, and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.keys import sending
from ansible_collections.nix.ops.plugins.plugin_utils.keys.sending import Sending, Sent
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import ComparedKeys
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import Machine as ScriptedMachine
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Key
from fleet import Machine
from integration.conftest import MachineFactory
from integration.engine import UUID, controlled, wait_on
from integration.networks import ACTIVATE, PLAN, Network, toplevels
from integration.project import Outcome, Project
from integration.tasks import nix

SEND = "Send the keys"
MARKER = "marker-5f2c91d0a7"
BINARY = bytes(range(256)) * 8 + MARKER.encode()

# As networks for NixOps and colmena have them.
KEYS = """
  deployment.keys = {
    old = "@MARKER@ old";
    text = { text = "@MARKER@ TEXT"; user = "web"; group = "keys"; permissions = "0640"; };
    file = { keyFile = ./secret; destDir = "/var/lib/secrets"; };
    command = { keyCommand = [ "sh" "-c" "cat secret; echo ran >>ran" ]; uploadAt = "post-activation"; };
    given = { };
    binary.name = "binary.p12";
  };
  users.users.web = { isSystemUser = true; group = "web"; };
  users.groups.web = { };
  # Is added to the unit of the key.
  systemd.services.text-key.unitConfig.Documentation = "man:text(5)";
  systemd.services.uses = {
    wantedBy = [ "multi-user.target" ];
    after = [ "text-key.service" "given-key.service" "keys.target" ];
    requires = [ "text-key.service" "given-key.service" ];
    wants = [ "keys.target" ];
    script = "cat /run/keys/text /run/keys/given >/dev/null; echo started >>/run/uses; while true; do sleep 60; done";
  };
"""


def keys(**replaced: str) -> str:
    """Return the network's part with the keys."""
    text = KEYS.replace("@MARKER@", MARKER)
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


def on(target: Machine, *paths: str) -> dict[str, tuple[str, str, str]]:
    """Return for each path its owner, its inode and its content, read past the network."""
    found = {}
    for path in paths:
        owner, inode = target.run(["stat", "-c", "%a:%U:%G %i", path]).stdout.split()
        found[path] = (owner, inode, target.run(["base64", "-w0", path]).stdout.strip())
    return found


def encoded(text: str | bytes) -> str:
    """Return a content as :func:`on` does."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def give(project: Project, **contents: Any) -> None:
    """Set the contents that Ansible gives, encrypted as a user has them."""
    project.write("password", "of the test")
    project.environment["ANSIBLE_VAULT_PASSWORD_FILE"] = "password"
    text = json.dumps({"nix_keys": {"binary": {"base64": encoded(BINARY)}, **contents}})
    file = project.write("group_vars/nixos/keys.yml", text)
    encrypted = subprocess.run(
        ["ansible-vault", "encrypt", "--output", str(file), "-"],
        input=text,
        cwd=project.directory,
        env=project.variables(),
        check=True,
        capture_output=True,
        text=True,
    )
    assert MARKER not in encrypted.stdout


def starts(target: Machine) -> int:
    """Return how often the unit that requires keys was started."""
    return len(target.run(["cat", "/run/uses"]).stdout.split())


ALL = [f"/run/keys/{name}" for name in ("old", "text", "command", "given", "binary.p12")] + ["/var/lib/secrets/file"]


@pytest.fixture
def target(machine: MachineFactory) -> Machine:
    """A fresh machine."""
    return machine("target")


@pytest.fixture
def network(project: Project, target: Machine) -> Network:
    """A network with keys, and contents for them."""
    (project.directory / "secret").write_bytes(f"{MARKER} file".encode())
    os.chmod(project.directory / "secret", 0o600)
    network = Network(project, target)
    network.define(target=keys())
    return network


def send(network: Network, *words: str) -> Outcome:
    """Send the keys alone."""
    return network.deployed(*words, playbook="nix.ops.send_keys")


@contextmanager
def watched_processes() -> Iterator[set[str]]:
    """Look at all processes' arguments and environments meanwhile; the set has those with the marker."""
    found: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            for file in (file for kind in ("cmdline", "environ") for file in Path("/proc").glob(f"[0-9]*/{kind}")):
                with suppress(OSError):
                    if MARKER.encode() in (text := file.read_bytes()):
                        found.add(f"{file}: {text!r}")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def found_marker(outcome: Outcome, project: Project, target: Machine, since: Path) -> list[str]:
    """Return where the marker is and should not be.

    :param since: only files that are newer than this one are searched.
    """
    own = {"example-config.nix", "secret"}
    toplevel = toplevels(outcome)["target"]
    derivation = nix("nix-store", "--query", "--deriver", toplevel)
    store = nix("nix-store", "--query", "--requisites", derivation, toplevel).split()
    script = """
        find /tmp /var/tmp /dev/shm -newer "$1" -type f -exec grep -lF "$0" {} +
        shift
        grep -rlF --devices=skip "$0" "$@"
    """
    listed = subprocess.run(
        ["sh", "-c", script, MARKER, since, project.directory, *store], check=False, capture_output=True, text=True
    ).stdout.splitlines()
    found = {path for path in listed if not (path.startswith(str(project.directory)) and Path(path).name in own)}
    told = outcome.output + json.dumps([one.result for one in outcome.results])
    found |= {"the output"} if MARKER in told else set()
    there = target.run(
        ["grep", "-rlsF", "--devices=skip", MARKER, "/run", "/tmp", "/var", "/etc", "/nix/var", "/root"], check=False
    ).stdout
    return sorted(found | {path for path in there.splitlines() if path not in ALL})


def test_keys_are_sent_once_and_are_nowhere_else(network: Network, project: Project, target: Machine) -> None:
    listed = project.run("ansible-inventory", "-i", "example.network.yml", "--host", "target")
    assert "/var/lib/secrets/file" in listed.output
    assert MARKER not in listed.output
    refused = network.deploy()
    assert "no content for the keys binary, given" in refused.output
    assert "nothing" not in target.run(["ls", "/run"]).stdout and not refused.changed

    give(project, given=f"{MARKER} given")
    with watched_processes() as seen:
        first = network.deployed("-vvvv")
    assert not seen
    assert first.of(PLAN)["machines"]["target"]["does"] == "copy, switch, keys"
    changes = first.of(ACTIVATE)["key_changes"]
    assert set(changes["added"]) == {"old", "text", "file", "command", "given", "binary"}
    there = on(target, *ALL)
    assert {path: (owner, content) for path, (owner, _inode, content) in there.items()} == {
        "/run/keys/old": ("600:root:root", encoded(f"{MARKER} old")),
        "/run/keys/text": ("640:web:keys", encoded(f"{MARKER} TEXT")),
        "/run/keys/command": ("600:root:root", encoded(f"{MARKER} file")),
        "/run/keys/given": ("600:root:root", encoded(f"{MARKER} given")),
        "/run/keys/binary.p12": ("600:root:root", encoded(BINARY)),
        "/var/lib/secrets/file": ("600:root:root", encoded(f"{MARKER} file")),
    }
    assert not found_marker(first, project, target, project.directory / "password")
    wait_on(target, "systemctl is-active uses keys.target text-key", "the unit that requires keys")
    assert starts(target) == 1
    shown = target.run("systemctl show --property=Documentation,Type --value text-key").stdout.replace('"', "").split()
    assert sorted(shown) == ["man:text(5)", "oneshot"]

    again = network.deployed()
    assert not again.changed, again.output
    assert on(target, *ALL) == there and starts(target) == 1

    # In check mode no command is run, and nothing is touched.
    give(project, given=f"{MARKER} other")
    network.define(target=keys(TEXT="other"))
    ran = (project.directory / "ran").read_text()
    preview = send(network, "--check", "--diff")
    assert preview.of(SEND)["replaced"] == ["given", "text"]
    assert preview.of(SEND)["unknown"] == ["command"]
    assert MARKER not in preview.output
    assert on(target, *ALL) == there and (project.directory / "ran").read_text() == ran

    changed = send(network)
    assert changed.of(SEND)["replaced"] == ["given", "text"]
    assert set(changed.of(SEND)["restarted"]) == {"given-key.service", "text-key.service"}
    now = on(target, *ALL)
    assert {path for path in ALL if now[path] != there[path]} == {"/run/keys/given", "/run/keys/text"}
    wait_on(target, "[ $(wc -l </run/uses) -ge 2 ] && systemctl is-active uses", "the restart")
    assert starts(target) == 2, "both keys are in place before it is restarted"
    assert not send(network).changed

    # A network that does not evaluate keeps no key from its machine whose content is elsewhere.
    config = (project.directory / "example-config.nix").read_text()
    project.write("example-config.nix", "{ broken")
    (project.directory / "secret").write_text(f"{MARKER} new")
    meanwhile = send(network, "-e", '{"keys_names": ["file", "given"]}')
    assert meanwhile.of(SEND)["replaced"] == ["file"]
    project.write("example-config.nix", config)

    # What left the network stays while the old system runs, which has no user for a new key either.
    late = """
      deployment.keys.late = { text = "x"; user = "late"; };
      users.users.late = { isSystemUser = true; group = "web"; };
    """
    network.define(target=keys(TEXT="other", **{'old = "': '# "'}) + late)
    assert send(network, "-e", '{"keys_names": ["text"]}').of(SEND)["left"] == ["old"]
    for added in (["late"], []):
        booting = network.deployed("-e", "deploy_action=boot").of(ACTIVATE)["key_changes"]
        assert (booting["added"], booting["left"], booting["removed"]) == (added, ["old"], [])
    assert on(target, "/run/keys/old")["/run/keys/old"] == there["/run/keys/old"]

    ran = (project.directory / "ran").read_text()
    dry = network.deployed("-e", "deploy_action=dry-activate").of(ACTIVATE)["key_changes"]
    assert (dry["removed"], dry["unknown"]) == (["old"], ["command"])
    assert (project.directory / "ran").read_text() == ran

    # It is removed by the deploy that makes it leave.
    left = network.deployed()
    assert on(target, "/run/keys/late")["/run/keys/late"][0] == "600:late:root"
    assert left.of(ACTIVATE)["key_changes"]["removed"] == ["old"]
    assert target.run(["ls", "/run/keys/old"], check=False).returncode != 0
    assert starts(target) == 2

    # A machine that goes back to its old system gets its old keys back.
    before = [content for _owner, _inode, content in on(target, *ALL[1:]).values()]
    give(project, given=f"{MARKER} bad")
    bad = 'systemd.services.bad = { wantedBy = [ "multi-user.target" ]; script = "false"; };'
    network.define(target=keys(TEXT="other", **{'old = "': '# "'}) + bad)
    failed = network.deploy()
    assert failed.of(ACTIVATE)["rolled_back"] and "target> the old keys are back: given" in failed.output
    assert [content for _owner, _inode, content in on(target, *ALL[1:]).values()] == before
    assert not [name for name in target.run(["ls", "-A", "/run/keys"]).stdout.split() if name.startswith(".")]
    wait_on(target, "systemctl is-active uses", "the unit with its old keys")
    assert starts(target) == 4
    give(project, given=f"{MARKER} other")

    # After a reboot /run is empty. Without the keys, the system would not be healthy and would boot back.
    network.define(target=keys(TEXT="other", **{'old = "': '# "'}) + 'deployment.healthChecks.units = [ "uses" ];')
    rebooted = network.deployed("-e", "deploy_reboot=always").of(ACTIVATE)
    assert rebooted["rebooted"] and not rebooted["rolled_back"]
    assert on(target, *ALL[1:])["/run/keys/given"][2] == encoded(f"{MARKER} other")

    # A key that can't be sent after the acknowledgement does not hide what runs.
    target.run("rm /run/keys/command && mkdir /run/keys/command")
    good = 'systemd.services.good = { wantedBy = [ "multi-user.target" ]; script = "true"; };'
    network.define(target=keys(TEXT="other", **{'old = "': '# "'}) + good)
    failed = network.deploy()
    assert "the key command could not be sent" in failed.output
    assert "the system was activated; no key was touched" in failed.output
    target.run('grep -rF "$(readlink -f /run/current-system)" /nix/var/nix/nix-ops/records')


SEVERAL = [Key(f"k{number}", f"/run/keys/k{number}") for number in range(20)]
ON_DISK = Key("disk", "/var/lib/secrets/disk", permissions="0400")
LATE = Key("late", "/mnt/late/key")


def contents_of(word: str, *keys: Key) -> dict[str, bytes]:
    """Return contents, of which some are long enough for a sending to be interrupted."""
    return {key.name: f"{word} {key.name} ".encode() * (200_000 if key.name in ("k1", "disk") else 50) for key in keys}


@pytest.mark.both_pairs
def test_keys_are_whole_however_a_sending_ends(target: Machine) -> None:
    keys = (*SEVERAL, ON_DISK)
    versions = [contents_of(word, *keys) for word in ("even", "odd")]
    hashes = {key.path: {hashlib.sha256(one[key.name]).hexdigest() for one in versions} for key in keys}
    strict = Sending(UUID)

    def check_whole() -> None:
        told = target.run(["sha256sum", *hashes]).stdout
        assert all(line.split()[0] in hashes[line.split()[1]] for line in told.splitlines())

    with controlled(target) as controller:
        # Nothing has mounted it so far.
        unit = "[Mount]\nWhat=tmpfs\nWhere=/mnt/late\nType=tmpfs\n"
        target.run("cat >/run/systemd/system/mnt-late.mount && systemctl daemon-reload", stdin=unit.encode())
        assert set(sending.send(controller.machine(), [LATE], contents_of("x", LATE), strict).added) == {"late"}
        target.run("mountpoint /mnt/late && test -f /mnt/late/key")
        assert sending.send(controller.machine(), keys, versions[0], strict).removed == ("late",)

        def send(version: int) -> None:
            os.setsid()
            sending.send(controller.machine(), keys, versions[version], strict)

        for number, seconds in enumerate((0.1, 0.25, 0.4, 0.6, 0.9)):
            process = multiprocessing.get_context("fork").Process(target=send, args=((number + 1) % 2,))
            process.start()
            time.sleep(seconds)
            if seconds == 0.4:
                target.link_down()
                time.sleep(0.5)
            with suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
            target.link_up()
            check_whole()
        sending.send(controller.machine(), keys, versions[0], strict)
        whole = controller.machine()._execute
        cut = ScriptedMachine("target", lambda command, stdin, wait: whole(command, stdin[:-1000], wait), {})
        with pytest.raises(OpsError, match="could not be sent"):
            sending.send(cut, keys, versions[1], replace(strict, differing=[key.name for key in keys]))
        check_whole()
        assert not sending.send(controller.machine(), keys, versions[0], strict)
        sending.send(controller.machine(), keys, versions[1], strict)
        assert not sending.send(controller.machine(), keys, versions[1], strict)
        assert not target.run("find /run/keys /var/lib/secrets -name '.*nix-ops*'").stdout

        # What another activation may put back is not touched.
        target.run("systemd-run --unit=nix-ops-activation sleep 60")
        before = sending.send(controller.machine(), keys, versions[0], replace(strict, before=True))
        assert before == Sent(is_activating=True)
        target.run("systemctl stop nix-ops-activation")
        assert not sending.send(controller.machine(), keys, versions[1], strict)

    target.reboot()
    with controlled(target) as controller:
        asked = sending.question(UUID, keys, versions[1])
        found = description.describe(controller.machine(), record=UUID, keys=asked)
        assert set(found.missing_keys) == {key.name for key in SEVERAL} and found.keys == ("disk",)
        assert found.compared_keys == ComparedKeys(tuple(range(len(SEVERAL))), ())
        assert len(sending.send(controller.machine(), keys, versions[1], strict).added) == len(SEVERAL)
        target.run("test -e /run/keys/done")
