# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A newcomer types the README, word for word, on a Debian that has nothing yet."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

from integration.conftest import MachineFactory
from integration.containerfile import Image, clean_root
from integration.project import NIXPKGS
from integration.test_demo import EXAMPLES, README, assert_shown, blocks

# What the README says for a computer that reaches Ansible Galaxy and nixos.org, and what is typed here.
OFFLINE = {
    "ansible-galaxy collection install nix.ops": "ansible-galaxy collection install --offline /srv/nix-ops.tar.gz",
    "install_nixpkgs=nixos-25.05": "install_nixpkgs=/srv/nixpkgs",
}
# The settings that a user has already: no cache is asked, and the sandbox has no shell, as Debian 12's.
CONF = "# Mine.\nsubstituters =\nsandbox-paths =\n"
PREPARE = "ansible-playbook nix.ops.install -e install_nixpkgs=/srv/nixpkgs"
# Holds the locks of apt and dpkg as another apt does, for some seconds.
APT = """
import fcntl, os, time
done, told = os.pipe()
# A lock is not inherited.
if os.fork():
    assert os.read(done, 1)
    os._exit(0)
held = [open(f"/var/lib/{name}", "w") for name in ("apt/lists/lock", "dpkg/lock-frontend", "dpkg/lock")]
for file in held:
    fcntl.lockf(file, fcntl.LOCK_EX)
os.write(told, b"1")
os.close(1), os.close(2)
time.sleep(3)
held[0].close()
time.sleep(7)
"""


class Desk:
    """A root without Ansible, Nix and ssh, which is a chroot, and its user's terminal.

    :param directory: where the root keeps what is written.
    """

    def __init__(self, directory: Path) -> None:
        self._image = Image((clean_root(),))
        self._directory = directory
        self.root = directory / "root"
        [collection] = Path(os.environ["ANSIBLE_COLLECTIONS_PATH"]).parent.glob("nix-ops-*.tar.gz")
        self._binds = [
            (collection, "/srv/nix-ops.tar.gz"),
            (NIXPKGS, "/srv/nixpkgs"),
            # The miniature of nixpkgs has no other program.
            (Path("/bin/busybox"), "/usr/bin/busybox"),
        ]

    def write(self, name: str, text: str) -> None:
        """Write a file of the root."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def type(self, *lines: str, fails: str | None = None) -> str:
        """Type lines into one shell, in /home/me.

        :param fails: the line that has to fail.
        :returns: what the terminal shows.
        """
        script = ["set -e", "mkdir -p /home/me", "cd /home/me"]
        for line in lines:
            script += [f"printf '%s\\n' {shlex.quote('$ ' + line)}"]
            script += [f"if {line}; then exit 99; fi" if line == fails else line]
        self.write("run/typed", "\n".join(script) + "\n")
        # How this host reaches its package registries.
        ours = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        done = subprocess.run(
            self._image.command(["sh", "/run/typed"], self.root, self._binds, environment={"HOME": "/root", **ours}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


def typed(block: str) -> list[str]:
    """Return the commands of a block."""
    lines = re.findall(r"^\$ (.*)$", block, re.MULTILINE)
    for ours, here in OFFLINE.items():
        lines = [line.replace(ours, here) for line in lines]
    return lines


def test_the_readme_word_for_word(machine: MachineFactory, tmp_path: Path) -> None:
    target, desk = machine("target"), Desk(tmp_path)
    desk.write("etc/nix/nix.conf", CONF)
    # A package registry may be busy for a moment.
    desk.write("etc/apt/apt.conf.d/90retries", 'Acquire::Retries "5";\n')
    shown = blocks(README, "console")
    story = next(number for number, block in enumerate(shown) if "nix.ops.create" in block)
    before = [line for block in shown[:story] for line in typed(block)]
    assert PREPARE in before

    [named] = re.findall(r"`(apt install [^`]*)`", README.read_text())
    desk.type("apt-get -qq update", f"{named} -qq -y")
    # Another apt is at work while the controller is prepared.
    hold = f"python3 -c {shlex.quote(APT)}"
    prepared = desk.type(*(one for line in before for one in ([hold, line] if line == PREPARE else [line])))
    assert_prepared(desk, prepared)

    key = (desk.root / "root/.ssh/id_ed25519.pub").read_text()
    target.run(f"echo {shlex.quote(key)} >>/root/.ssh/authorized_keys")
    for name in ("target.nix", "config.nix", "deploy.yml"):
        desk.write(f"home/me/{name}", (EXAMPLES / name).read_text().replace("198.18.249.10", target.address))
    activate = next(line for line in before if line.startswith(". "))
    again = [f"{PREPARE} --check", PREPARE]
    commands = [line for block in shown[story:] for line in typed(block)]
    refused = next(line for line in commands if line == "ansible-playbook deploy.yml")
    output = desk.type(activate, *again, *commands, fails=refused)
    assert_shown(shown[story:], output)
    recaps = re.findall(r"^localhost .* changed=(\d+) ", output, re.MULTILINE)
    assert recaps[:2] == ["0", "0"], "it is prepared once"
    source = (desk.root / "home/me/target.network.yml").read_text()
    assert "nix_path:\n  - nixpkgs=/srv/nixpkgs\n" in source


def assert_prepared(desk: Desk, output: str) -> None:
    """Nothing of the user's is overwritten, and what had to be added is told."""
    conf = (desk.root / "etc/nix/nix.conf").read_text()
    assert conf.startswith(CONF)
    assert "# BEGIN of nix.ops.install\n" in conf and "\nsandbox = false\n" in conf
    assert [path.read_text() for path in (desk.root / "etc/nix").glob("nix.conf.*~")] == [CONF]
    assert "nixbld:" in (desk.root / "etc/group").read_text()
    assert '"nixpkgs: /srv/nixpkgs"' in output
