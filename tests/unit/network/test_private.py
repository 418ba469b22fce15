# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private keys stay out of the store."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation, private
from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluation import definitions
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network
from networks.support import NIX_PATH


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a private key in it, in a directory that the source names."""
    (tmp_path / ".cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.delenv("NIX_PATH", raising=False)
    monkeypatch.setattr(evaluation, "_answers", {})
    keys = tmp_path / "project" / "keys"
    keys.mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", tmp_path.name, "-f", keys / "web"], check=True)
    return tmp_path / "project"


def network(project: Path, text: str) -> Network:
    (project / "network.nix").write_text(f"{{ web.deployment.owners = [ ({text}) ]; }}", encoding="utf-8")
    return Network("a", "u", (str(project / "network.nix"),), nix_path=NIX_PATH, ssh_keys=str(project / "keys"))


@pytest.mark.parametrize(
    "text",
    [
        '"${./.}"',
        '"${./keys}"',
        '"${./keys/web}"',
        "builtins.readFile ./keys/web",
        '"${builtins.path { path = ./.; }}"',
    ],
)
def test_network_that_would_copy_a_key_is_refused(project: Path, text: str) -> None:
    with pytest.raises(OpsError, match=f"would copy the private key {project}/keys/web into the Nix store"):
        definitions(network(project, text))


def test_network_may_read_the_public_half_and_what_is_beside(project: Path) -> None:
    (project / "beside").write_text("beside", encoding="utf-8")
    found = definitions(network(project, "builtins.readFile ./keys/web.pub + builtins.readFile ./beside"))
    assert found.definitions["web"].owners[0].endswith("beside")


def test_network_may_copy_a_key_that_is_encrypted(project: Path) -> None:
    (project / "keys" / "web").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n", encoding="utf-8")
    assert definitions(network(project, '"${./.}"')).definitions


def flake(project: Path) -> Network:
    (project / "flake.nix").write_text(
        """{ outputs = _: { nixosConfigurations.web = import <nixpkgs/nixos/lib/eval-config.nix> {
          system = builtins.currentSystem;
          modules = [ ];
        }; }; }""",
        encoding="utf-8",
    )
    return Network("a", "u", flake=str(project), nix_path=NIX_PATH, ssh_keys=str(project / "keys"))


def git(project: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True)


def test_flake_outside_of_git_with_keys_in_it_is_refused(project: Path) -> None:
    with pytest.raises(OpsError, match="would copy the private key"):
        definitions(flake(project))


def test_flake_in_git_is_refused_if_a_key_is_tracked(project: Path) -> None:
    git(project, "init", "-q")
    one = flake(project)
    git(project, "add", "flake.nix")
    assert definitions(one).definitions
    git(project, "add", ".")
    with pytest.raises(OpsError, match="would copy the private key"):
        definitions(one)


def copied_by(project: Path, copy: Callable[[Path], Path]) -> str:
    text = f'derivation {{ name = "x"; system = "x"; builder = "x"; src = {copy(project)}; }}'
    done = subprocess.run(["nix-instantiate", "--expr", text], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("copy", [lambda project: project, lambda project: project / "keys" / "web"])
def test_key_that_is_in_the_store_is_found(project: Path, copy: Callable[[Path], Path]) -> None:
    # Another key, of the same size.
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", project / "keys" / "db"], check=True)
    keys = private.private_keys(str(project / "keys"))
    drv = copied_by(project, copy)
    with pytest.raises(OpsError, match=r"the private key .*/keys/(web|db) is in the Nix store, .*: /nix/store/"):
        private.check_store([drv], keys, env={})
    (project / "network.nix").write_text("", encoding="utf-8")
    private.check_store([copied_by(project, lambda project: project / "network.nix")], keys, env={})
