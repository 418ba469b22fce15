# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Places on the controller, and the links that move from those of version 0.1.0."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible import constants

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import fact_cache, places, toplevels
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.toplevels import Links
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
SOURCE = "/net/example.network.yml"
OLD, NEW = (f"/nix/store/{letter * 32}-nixos-system-target" for letter in "ab")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("XDG_STATE_HOME", "AWX_PRIVATE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_places_are_below_the_home_directory():
    state = "/home/me/.local/state/nix.ops"
    assert str(places.keys(UUID)) == f"{state}/keys/{UUID}"
    assert str(places.toplevels(UUID, "example", SOURCE)) == f"{state}/toplevels/{UUID}"
    # As a user writes it, so that others can share the file.
    assert places.facts(UUID) == f"~/.local/state/nix.ops/facts/{UUID}"


def test_the_state_directory_is_the_users_choice(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert str(places.keys(UUID)) == f"/state/nix.ops/keys/{UUID}"
    assert str(places.toplevels(UUID, "example", SOURCE)) == f"/state/nix.ops/toplevels/{UUID}"
    assert places.facts(UUID) == f"/state/nix.ops/facts/{UUID}"


def test_links_of_a_job_stay_in_its_directory(monkeypatch):
    monkeypatch.setenv("AWX_PRIVATE_DATA_DIR", "/runner")
    network = Network("example", UUID, files=("/net/a.nix",))
    found = toplevels.links(network, SOURCE, ["target"])
    assert found.paths() == ["/net/.nix-ops/toplevels/example/target"]
    assert found.old is None


def test_a_user_without_a_home_directory_is_told(monkeypatch):
    def expanduser(_path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", expanduser)
    with pytest.raises(OpsError, match="XDG_STATE_HOME"):
        places.keys(UUID)


def test_private_directories(tmp_path):
    tmp_path.chmod(0o755)
    before = os.umask(0)
    try:
        places.make_private(tmp_path / "a/b")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("", "a", "a/b")]
    assert modes == [0o755, 0o700, 0o700]


@pytest.fixture
def links(monkeypatch, tmp_path):
    """The links of a project in which version 0.1.0 has built two machines."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    old = tmp_path / ".nix-ops/toplevels/example"
    old.mkdir(parents=True)
    for machine in ("target", "other"):
        (old / machine).symlink_to(OLD)
    network = Network("example", UUID, files=(str(tmp_path / "a.nix"),))
    return toplevels.links(network, str(tmp_path / "example.network.yml"), ["target"])


def test_an_old_link_goes_once_there_is_a_new_one(links):
    assert links.targets() == [OLD]
    links.make_directory()
    links.remove_old()
    assert (links.old / "target").is_symlink()
    Path(*links.paths()).symlink_to(NEW)
    links.remove_old()
    assert links.targets() == [NEW]
    # That of a machine that was not built is its only root.
    assert [path.name for path in links.old.iterdir()] == ["other"]
    both = Links(links.directory, links.old, ["target", "other"])
    Path(links.directory, "other").symlink_to(NEW)
    both.remove_old()
    assert list(links.old.parents[1].iterdir()) == []
    links.remove_old()


def test_files_of_the_user_stay(links):
    links.make_directory()
    (links.old / "target").unlink()
    (links.old / "target").write_text("mine")
    Path(*links.paths()).symlink_to(NEW)
    links.remove_old()
    assert (links.old / "target").read_text() == "mine"


def test_a_link_of_the_users_choice_leaves_old_ones_alone(links, tmp_path):
    chosen = Links(tmp_path / "chosen", None, ["target"])
    chosen.make_directory()
    assert chosen.targets() == [str(tmp_path / "chosen/target")]
    chosen.remove_old()
    assert (links.old / "target").is_symlink()


def test_a_state_directory_that_can_not_be_made(links):
    Path(links.directory).parents[2].write_text("a file")
    with pytest.raises(OpsError, match="XDG_STATE_HOME"):
        links.make_directory()


class FileCache:
    """A fact cache in a directory."""

    facts_grow_old = False

    def contains(self, key):
        return False

    def __init__(self, directory):
        self.directory = directory

    def get_option(self, name):
        return {"_uri": self.directory}[name]


@pytest.mark.parametrize(
    ("directory", "is_old"), [("/net/.nix-ops/facts", True), (f"/state/nix.ops/facts/{UUID}", False)]
)
def test_facts_of_the_old_place_are_told(monkeypatch, directory, is_old):
    monkeypatch.setattr(fact_cache, "_open", lambda: FileCache(directory))
    hint = fact_cache.hint(UUID)
    assert (hint is not None) is is_old
    if hint:
        assert f'mv /net/.nix-ops/facts "$HOME/.local/state/nix.ops/facts/{UUID}"' in hint
        assert hint.endswith(f"fact_caching_connection = ~/.local/state/nix.ops/facts/{UUID}")
    monkeypatch.setenv("AWX_PRIVATE_DATA_DIR", "/runner")
    assert fact_cache.hint(UUID) is None


@pytest.mark.parametrize(
    ("directory", "is_refused"),
    [
        (f"~/.local/state/nix.ops/facts/{UUID}", True),
        # An ansible.cfg names the state directory of the user who created the deployment.
        (f"/home/other/state/nix.ops/facts/{UUID}", True),
        ("/net/.nix-ops/facts", True),
        ("/runner/project/facts", True),
        ("/runner/artifacts/1/fact_cache", False),
        ("/srv/facts", False),
    ],
)
def test_a_job_loses_facts_in_its_container(monkeypatch, directory, is_refused):
    monkeypatch.setattr(fact_cache, "_open", lambda: FileCache(directory))
    monkeypatch.setattr(constants, "CACHE_PLUGIN", "jsonfile")
    fact_cache.check(UUID)
    monkeypatch.setenv("AWX_PRIVATE_DATA_DIR", "/net")
    if is_refused:
        with pytest.raises(OpsError, match="gone at the end of the job"):
            fact_cache.check(UUID)
    else:
        fact_cache.check(UUID)


def test_the_toplevels_of_the_latest_deploys_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = []

    def add_root(argv, what, *, env):
        made.append(argv[-1])
        Path(argv[3]).symlink_to(argv[-1])

    monkeypatch.setattr(nix, "lines", add_root)
    monkeypatch.setattr(Path, "exists", lambda _path: True)
    for day in range(10, 35):
        toplevels.keep(UUID, f"202601{day}-120000-0000", {"target": f"/nix/store/{day}"}, {})
    assert made[0] == "/nix/store/10"
    assert toplevels.kept(UUID, "target") == {f"/nix/store/{day}" for day in range(15, 35)}
    assert toplevels.kept(UUID, "*") == toplevels.kept(UUID, "other") == frozenset()
