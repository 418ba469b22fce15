# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet keeps its promises, so that the other tests can rely on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleet import Fleet, FleetError, Kind, Machine
from fleet.fleet import fleets_directory
from fleet.network import Network

from .conftest import MachineFactory
from .project import Project
from .tasks import build_system, put

FLEET = Path(__file__).parents[1] / "fleet" / "fleet"


def test_machine_runs_its_first_system(machine: MachineFactory) -> None:
    target = machine()
    seen = target.inspect()
    assert seen["running"] == seen["booted"] == seen["profile"] == seen["boot_default"] == target.toplevel
    assert seen["generation"] == 1
    assert seen["system_state"] == "running"
    assert seen["failed_units"] == seen["leftovers"] == []
    assert seen["sshd_pid"] > 1
    assert target.ssh("id -un").stdout == "root\n"
    assert target.ssh("cat /proc/1/comm").stdout == "systemd\n"
    assert target.ssh(". /etc/os-release; echo $ID").stdout == "nixos\n"


@pytest.mark.parametrize(("debian", "nix"), [("bookworm", "2.8."), ("trixie", "2.26.")])
def test_debians_have_their_nix_and_no_python(machine: MachineFactory, debian: str, nix: str) -> None:
    target = machine(debian, debian=debian)
    assert f"(Nix) {nix}" in target.ssh("nix-store --version").stdout
    found = target.run("find / -xdev \\( -type f -o -type l \\) -name 'python*' -perm /111 -path '*bin/*'").stdout
    assert found == ""
    assert target.inspect()["system_state"] == "running"


def test_reboot_keeps_the_disk_and_changes_the_boot_id(machine: MachineFactory) -> None:
    target = machine()
    before = target.inspect()
    target.ssh("echo kept > /root/kept; sync")
    target.reboot()
    after = target.inspect()
    assert after["boot_id"] != before["boot_id"]
    assert after["machine_id"] == before["machine_id"]
    assert after["running"] == before["running"]
    assert target.ssh("cat /root/kept").stdout == "kept\n"


def test_power_cut_keeps_the_disk_and_changes_the_boot_id(machine: MachineFactory) -> None:
    target = machine()
    before = target.inspect()
    target.ssh("echo kept > /root/kept; sync")
    target.power_cut()
    target.wait_up(after=before["boot_id"])
    assert target.inspect()["boot_id"] != before["boot_id"]
    assert target.ssh("cat /root/kept").stdout == "kept\n"


def test_power_cut_that_stays_down(machine: MachineFactory) -> None:
    target = machine()
    target.power_cut(stay_down=True)
    assert target.state() == "stopped"
    with pytest.raises(FleetError, match="not running"):
        target.run("true")
    target.start()
    target.wait_up()
    assert target.ssh("id -un").stdout == "root\n"


def test_reset_forgets_the_disk_and_keeps_the_host_key(machine: MachineFactory) -> None:
    target = machine()
    key = target.host_public_key
    target.ssh("touch /root/forgotten /tmp/left-over")
    assert target.inspect()["leftovers"] == ["/tmp/left-over"]
    target.reset()
    assert target.inspect()["leftovers"] == []
    assert target.ssh("ls /root").stdout == ""
    assert target.host_public_key == key


def test_snapshot_is_what_a_machine_starts_from(machine: MachineFactory) -> None:
    target = machine()
    first = target.inspect()
    # A file of a lower layer that is gone, a directory that is renamed, and a file that is new.
    target.run("rm /usr/bin/pgrep; mv /root/.ssh /root/moved; echo kept >/root/kept; cp -a /root/moved /root/.ssh")
    target.snapshot("changed")
    assert target.state() == "stopped"
    for _time in range(2):
        target.reset(to="changed")
        assert target.ssh("cat /root/kept; ls /root/moved /usr/bin/pgrep", check=False).stdout == (
            "kept\n/root/moved:\nauthorized_keys\n"
        )
        target.run("rm -r /root/moved; echo changed >/root/kept")
    # Any other boot of the machine stays over the snapshot.
    target.power_cut(stay_down=True)
    target.start()
    target.wait_up()
    assert target.run("cat /root/kept").stdout == "changed\n"
    # Over a snapshot another can be made.
    target.snapshot("more")
    target.reset(to="more")
    assert target.run("cat /root/kept; ls /root/moved", check=False).stdout == "changed\n"
    assert target.snapshots == ["changed", "more"]

    target.reset()
    assert target.run("ls /root /usr/bin/pgrep").stdout == "/usr/bin/pgrep\n\n/root:\n"
    after = target.inspect()
    assert (after["machine_id"], after["running"]) == (first["machine_id"], first["running"])
    with pytest.raises(FleetError, match="no snapshot 'other'; there are: changed, more"):
        target.reset(to="other")
    with pytest.raises(FleetError, match="no snapshot of that"):
        machine("small", store_mib=64).snapshot("small")


CHANGES = [
    "touch /root/new",
    "rm /usr/bin/pgrep",
    "echo >>/root/.ssh/authorized_keys",
    "mkdir /run/new",
    "touch /tmp/new",
    "mount -t tmpfs tmpfs /mnt",
    "ip address add 192.0.2.1/32 dev lo",
    "systemctl restart sshd",
    "systemd-run --quiet sleep infinity",
    "rm /nix/var/nix/profiles/system-1-link",
    "nix-store --add /etc/hosts",
]


def test_machine_that_no_test_has_changed_is_given_again_without_a_boot(machine: MachineFactory) -> None:
    target = machine()
    boot_id = target.inspect()["boot_id"]
    target.ssh("nix-store --query --requisites /run/current-system")
    assert machine().inspect()["boot_id"] == boot_id
    unchanged = target.traces()
    for change in CHANGES:
        target.run(change)
        changed = target.traces()
        assert changed != unchanged, change
        unchanged = changed
    target.link_down()
    assert target.traces() != unchanged
    assert machine().inspect()["boot_id"] != boot_id


def test_link_down_leaves_the_way_past_the_network(machine: MachineFactory) -> None:
    target = machine()
    target.link_down()
    with pytest.raises(FleetError):
        target.ssh("true", timeout=1)
    assert target.run("systemctl is-active sshd").stdout == "active\n"
    target.link_up()
    target.wait_up(timeout=10)


def test_deploy_user_has_sudo_and_is_not_trusted(machine: MachineFactory) -> None:
    target = machine("user", user="deploy")
    assert target.ssh("id -un; sudo -n id -un").stdout == "deploy\nroot\n"
    assert target.ssh("test -w /nix/store", check=False).returncode == 1
    # The daemon takes from him what speaks for itself, and of what was built elsewhere only what is signed.
    assert target.ssh("echo content > /tmp/content && nix-store --add /tmp/content").stdout.startswith("/nix/store/")
    words = [
        "nix-build",
        str(Path(__file__).with_name("unsigned.nix")),
        "--no-out-link",
        "--option",
        "substituters",
        "",
    ]
    built = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    exported = subprocess.run(["nix-store", "--export", built], capture_output=True, check=True).stdout
    refused = target.ssh("nix-store --import", stdin=exported, check=False)
    assert refused.returncode == 1
    assert "lacks a valid signature" in refused.stderr or "lacks a signature" in refused.stderr
    assert target.ssh("sudo nix-store --import", stdin=exported).stdout.strip() == built


def test_sudo_that_wants_a_password_and_a_fish_shell(machine: MachineFactory) -> None:
    target = machine("user", user="deploy", sudo_password="s e'c$", shell="fish")
    assert target.ssh("sudo -n true", check=False).returncode == 1
    assert target.ssh("sudo -S -p '' id -un", stdin=b"s e'c$\n").stdout == "root\n"
    assert target.ssh("set -q FISH_VERSION; and echo (id -un)").stdout == "deploy\n"


def test_machine_behind_a_jump_host(machine: MachineFactory) -> None:
    jump = machine("jump")
    behind = machine("behind", jump="jump")
    machine_id = behind.inspect()["machine_id"] + "\n"
    assert behind.ssh("cat /etc/machine-id").stdout == machine_id
    # Without a configuration file, as a network's ssh options say it.
    words = ["ssh", "-F", "none", *behind.ssh_args, f"{behind.user}@{behind.address}", "cat /etc/machine-id"]
    assert subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout == machine_id
    jump.link_down()
    with pytest.raises(FleetError):
        behind.ssh("true", timeout=1)
    jump.link_up()
    behind.wait_up(timeout=10)


def test_small_store_is_full_early_and_survives_a_reboot(machine: MachineFactory) -> None:
    target = machine("small", store_mib=64)
    target.run("head -c 8M /dev/zero > /nix/kept")
    full = target.run("head -c 80M /dev/zero > /nix/too-much", check=False)
    assert "No space left on device" in full.stderr
    target.reboot()
    assert target.run("stat -c %s /nix/kept").stdout == f"{8 << 20}\n"
    assert target.run("df --output=target /nix | tail -n 1").stdout == "/nix\n"


def test_machine_without_nix(machine: MachineFactory) -> None:
    target = machine("bare", nix=False)
    assert target.ssh("nix-store --version", check=False).returncode == 127
    assert target.inspect()["running"] == target.toplevel


def test_up_is_idempotent_and_refuses_another_kind(fleet: Fleet, machine: MachineFactory) -> None:
    boot_id = machine().inspect()["boot_id"]
    assert fleet.up("target").inspect()["boot_id"] == boot_id
    with pytest.raises(FleetError, match="another kind"):
        fleet.up("target", Kind(user="deploy"))


def test_machine_made_anew_is_reached_at_once(fleet: Fleet, machine: MachineFactory) -> None:
    # Another one keeps the bridge up, and with it what this computer knows of the address.
    machine()
    former = machine("anew")
    fleet.down("anew")
    start = time.monotonic()
    assert machine("anew").address == former.address
    assert time.monotonic() - start < 10


def test_secrets_are_private(machine: MachineFactory) -> None:
    target = machine()
    private = (target.identity_file, target.known_hosts_file, target.ssh_config, target.directory / "host_key")
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    assert target.ssh("stat -c %a /etc/ssh/ssh_host_ed25519_key").stdout == "600\n"


def _traces(directory: Path, machine: Machine) -> list[str]:
    """What is there of a machine and its fleet on the host."""
    number = machine.namespace.partition("-")[0]
    told = [
        subprocess.run(words, capture_output=True, text=True, check=True).stdout
        for words in (["ip", "-brief", "link"], ["ip", "netns"], ["losetup", "--all"])
    ]
    lines = [line for text in told for line in text.splitlines()]
    lines += Path("/proc/mounts").read_text().splitlines()
    lines += [str(path) for path in Path("/sys/fs/cgroup").glob("**/nix-ops-fleet-*")]
    lines += [path.read_text().replace("\0", " ") for path in Path("/proc").glob("[0-9]*/cmdline") if _readable(path)]
    lines += [str(path) for path in directory.parent.glob(f"*{directory.name}*")]
    ours = (f"{number}-", f"{number}m", f"{number} ", str(directory))
    return [line for line in lines if any(mark in line for mark in ours)]


def _readable(path: Path) -> bool:
    try:
        path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True


def test_killed_start_leaves_nothing_that_down_does_not_remove() -> None:
    directory = fleets_directory() / f"pytest-{os.getpid()}-killed"
    command = [sys.executable, str(FLEET), "--directory", str(directory)]
    with subprocess.Popen([*command, "up", "one", "two", "--store-mib", "64"], start_new_session=True) as start:
        papers = directory / "machines" / "one" / "state.json"
        while not papers.exists() and start.poll() is None:
            time.sleep(0.01)
        os.killpg(start.pid, signal.SIGKILL)
    machine = Fleet(directory).machine("one")
    assert _traces(directory, machine)
    subprocess.run([*command, "down", "--all"], check=True, timeout=30)
    assert _traces(directory, machine) == []


def test_two_fleets_do_not_collide(machine: MachineFactory) -> None:
    target = machine()
    other = Fleet(fleets_directory() / f"pytest-{os.getpid()}-other")
    try:
        twin = other.up("target")
        assert twin.address != target.address
        assert twin.inspect()["machine_id"] != target.inspect()["machine_id"]
        assert twin.ssh("cat /etc/machine-id").stdout != target.ssh("cat /etc/machine-id").stdout
    finally:
        other.down_all()
    assert target.ssh("id -un").stdout == "root\n"


def test_list_tells_all_that_a_user_needs(fleet: Fleet, machine: MachineFactory) -> None:
    target = machine()
    command = [sys.executable, str(FLEET), "--directory", str(fleet.directory), "list", "--json"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    facts = next(fact for fact in listed if fact["name"] == "target")
    assert facts["state"] == "ready"
    words = ["ssh", "-F", "none", *facts["ssh_args"], f"{facts['user']}@{facts['address']}", "id -un"]
    assert subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout == "root\n"
    assert target.host_public_key in Path(facts["known_hosts_file"]).read_text()


def test_a_number_that_is_asked_for_is_given_to_one_fleet(tmp_path: Path) -> None:
    network = Network.of(tmp_path / "one")
    try:
        with pytest.raises(FleetError, match=f"The number {network.number} is taken, by the fleet in {tmp_path}/one"):
            Fleet(tmp_path / "other", network.number).up("target")
        assert not (tmp_path / "other").exists()
        with pytest.raises(FleetError, match=f"This fleet has the number {network.number}"):
            Network.of(tmp_path / "one", 254)
    finally:
        network.remove()
    with pytest.raises(FleetError, match="0 to 254"):
        Network.of(tmp_path / "one", 255)


def test_reset_by_hand_makes_a_machine_new(fleet: Fleet, machine: MachineFactory) -> None:
    target = machine()
    target.ssh("touch /root/old")
    subprocess.run([sys.executable, str(FLEET), "--directory", str(fleet.directory), "reset", "target"], check=True)
    assert target.ssh("ls /root/old", check=False).returncode != 0


def test_system_that_differs_in_what_is_critical_is_not_switched_to(machine: MachineFactory, project: Project) -> None:
    target = machine()

    def system(inhibitors: str) -> str:
        toplevel = build_system(project, f"{{ system.switch.inhibitors = {{ {inhibitors} }}; }}")
        put(target, toplevel)
        return toplevel

    def switch(toplevel: str, action: str) -> subprocess.CompletedProcess[str]:
        return target.run([f"{toplevel}/bin/switch-to-configuration", action], check=False)

    first = system('bus = "one"; init = "a b"; gone = "x";')
    second = system('bus = "two"; init = "a b"; new = "y";')
    assert json.loads(Path(first, "switch-inhibitors").read_text()) == {"bus": "one", "init": "a b", "gone": "x"}
    # What runs first says nothing of it.
    assert switch(first, "test").returncode == 0
    for action in ("check", "dry-activate", "test", "switch"):
        refused = switch(second, action)
        assert refused.returncode == 1
        wanted = "\nThere are changes to critical components of the system:\n\nbus : one -> two\n\n"
        assert refused.stdout.startswith(wanted)
        assert "Pre-switch checks failed" in refused.stderr
        assert target.inspect()["running"] == first
    assert switch(second, "boot").returncode == 0
    target.run(["env", "NIXOS_NO_CHECK=1", f"{second}/bin/switch-to-configuration", "test"])
    assert target.inspect()["running"] == second
