# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo, as it works from a clean clone of this checkout, and what the README and a guide show of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet import Fleet, Machine
from fleet.network import Network

CHECKOUT = Path(__file__).parents[2]
README = CHECKOUT / "README.md"
DEPLOYING = CHECKOUT / "docs/deploying.md"
EXAMPLES = CHECKOUT / "examples"

# What is another one at each run, or would be another one of a user's.
_VARIES = (
    (r"/nix/store/[a-z0-9]{32}", "STORE"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME"),
    (r"24\.05\.20240531\.miniature", "24.05"),
    (r"198\.18\.\d+\.10|target\.example\.org", "ADDRESS"),
    (r"by [\w-]+@[\w.-]+", "by USER"),
    (r"SHA256:[A-Za-z0-9+/]{43}", "FINGERPRINT"),
    (r"/\S*/\.demo/(?!me/)|/home/me/", "HOME/"),
    # The widths of a table.
    (r"-{2,}", "--"),
    (r" +", " "),
)


@dataclass(frozen=True)
class Clone:
    """A clone with a demo fleet of its own, so that a user's demo can run beside the tests.

    :param network: the fleet's network, which the clone's ``target.nix`` names.
    """

    directory: Path
    state: Path
    network: Network

    def demo(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the demo's script to its end."""
        own_etc = [str(CHECKOUT / "tests/integration/own_etc.sh"), str(self.directory / ".etc")]
        return subprocess.run(
            # What it prepares is not prepared for the other tests of this computer.
            ["unshare", "--mount", *own_etc, str(self.directory / "examples/demo.sh"), *words],
            env={**self._bare_environment(), "XDG_STATE_HOME": str(self.state)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    @property
    def fleet(self) -> Fleet:
        """The demo's fleet."""
        return Fleet(self.state / "nix-ops-fleet/demo")

    @property
    def target(self) -> Machine:
        """The demo's machine."""
        return self.fleet.machine("target")

    @staticmethod
    def _bare_environment() -> dict[str, str]:
        ours = ("ANSIBLE_", "NIX_", "PYTHON", "XDG_STATE_HOME")
        return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture
def clone() -> Iterator[Clone]:
    """What a clone would hold if all files here were committed; without a trace afterwards."""
    # A socket's path has little room.
    base = Path(tempfile.mkdtemp(prefix="demo-"))
    directory, state = base / "clone", base / "state"
    conf = directory / ".etc/etc/nix/nix.conf"
    conf.parent.mkdir(parents=True)
    # The tests ask no cache.
    conf.write_text("substituters =\n")
    for name in _files():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, directory / name, follow_symlinks=False)
    network = Network.of(state / "nix-ops-fleet/demo")
    example = directory / "examples/target.nix"
    example.write_text(example.read_text().replace("198.18.249.10", network.address(0, behind=False)))
    clone = Clone(directory, state, network)
    try:
        yield clone
    finally:
        clone.fleet.down_all()
        network.remove()
        shutil.rmtree(base)


def _files() -> list[str]:
    command = ["git", "-c", f"safe.directory={CHECKOUT}", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if (CHECKOUT / name).exists()]


def test_the_demo_tells_its_story_and_goes_without_a_trace(clone):
    done = clone.demo()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ssh -F " in done.stdout
    story = blocks(README, "console")
    assert_shown(story[next(at for at, block in enumerate(story) if "nix.ops.create" in block) :], done.stdout)
    # A block of commands alone shows no output.
    shown = [block for block in blocks(DEPLOYING, "console") if "\N{HORIZONTAL ELLIPSIS}\n" in block]
    assert len(shown) == 4
    assert_shown(shown, done.stdout)
    running = "tr '\\0' '\\n' </proc/$(systemctl show --property=MainPID --value greeter)/cmdline | tail -n 1"
    assert "Hello, everybody!" in clone.target.run(f"cat $({running})").stdout

    cleaned = clone.demo("clean")
    assert cleaned.returncode == 0, cleaned.stdout + cleaned.stderr
    assert not (clone.directory / ".demo").exists()
    assert not (clone.state / "nix.ops").exists()
    assert not clone.state.exists() or not [*clone.state.rglob("*")]
    assert clone.network.number not in Network.owners()
    assert not [link for link in Path("/sys/class/net").iterdir() if link.name.startswith(clone.network.link(0))]
    roots = Path("/nix/var/nix/gcroots/auto").iterdir()
    assert not [root for root in roots if root.readlink().is_relative_to(clone.directory)]
    assert not [command for command in _commands() if str(clone.directory) in command]


def test_the_readme_shows_the_examples():
    target, config = blocks(README, "nix")[:2]
    for shown, name in ((target, "target.nix"), (config, "config.nix")):
        assert_shown([shown], (EXAMPLES / name).read_text())
    assert_shown(blocks(README, "yaml")[:1], (EXAMPLES / "deploy.yml").read_text())


def blocks(page: Path, language: str) -> list[str]:
    """Return a page's blocks in a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 200


def assert_shown(shown: list[str], text: str) -> None:
    """What is shown stands in a text, in its order, line by line, but for what an ellipsis stands for."""
    place, lines = 0, [_same(line) for line in text.splitlines()]
    for passage in re.split(r"^\N{HORIZONTAL ELLIPSIS}\n|\0", "\0".join(shown), flags=re.MULTILINE):
        wanted = [_same(line) for line in passage.splitlines()]
        places = range(place, len(lines) - len(wanted) + 1)
        found = next((at for at in places if lines[at : at + len(wanted)] == wanted), None)
        assert found is not None, f"not there, or not in this place:\n{passage}"
        place = found + len(wanted)


def _same(line: str) -> str:
    line = re.sub(r"\x1b\[[0-9;]*m", "", line)
    for pattern, word in _VARIES:
        line = re.sub(pattern, word, line)
    return line.strip()


def _commands() -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        # It may end while it is looked at.
        with suppress(OSError):
            found.append(process.read_text(errors="replace"))
    return found
