# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is removed when a machine or a deployment is forgotten, and what stays."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import configuration, forgetting
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.discovery import Deployment
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
OTHER = "11111111-2222-4333-8444-555555555555"

DEPLOY = "20261122-165500-a1b2"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the controller keeps of two machines of a deployment, and of another deployment."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    state = tmp_path / "state/nix.ops"
    for uuid in (UUID, OTHER):
        for name in ("web", "db"):
            for kind in ("keys", "toplevels"):
                (state / kind / uuid).mkdir(parents=True, exist_ok=True)
            (state / "keys" / uuid / name).write_text("private")
            (state / "keys" / uuid / f"{name}.pub").write_text("public")
            (state / "toplevels" / uuid / name).symlink_to("/nix/store/nowhere")
            (state / "deploys" / uuid / DEPLOY).mkdir(parents=True, exist_ok=True)
            (state / "deploys" / uuid / DEPLOY / name).symlink_to("/nix/store/nowhere")
        (state / "known_hosts").mkdir(exist_ok=True)
        known = state / "known_hosts" / uuid
        known.write_text("web ssh-ed25519 A\ndb ssh-ed25519 B\nweb2 ssh-ed25519 C\n")
        known.chmod(0o600)
    return state


@pytest.fixture
def shop(tmp_path: Path, state: Path) -> Deployment:
    path = tmp_path / "net/shop.network.yml"
    path.parent.mkdir()
    path.write_text("plugin: nix.ops.network\n")
    return Deployment(str(path), "shop", UUID, None, hosts={"web": "web-1"})


def kept(state: Path, uuid: str) -> set[str]:
    files = [*state.glob(f"*/{uuid}/*"), *state.glob(f"*/{uuid}"), *state.glob(f"deploys/{uuid}/*/*")]
    return {str(one.relative_to(state)) for one in files if not one.is_dir() or one.is_symlink()}


def test_one_machine(shop: Deployment, state: Path) -> None:
    before, others = kept(state, UUID), kept(state, OTHER)
    removal = forgetting.of_machine(UUID, "shop", "web", shop.path)
    assert len(removal.paths()) == 5
    forgetting.remove(removal)
    gone = {f"keys/{UUID}/web", f"keys/{UUID}/web.pub", f"toplevels/{UUID}/web", f"deploys/{UUID}/{DEPLOY}/web"}
    assert kept(state, UUID) == before - gone and kept(state, OTHER) == others
    known = state / "known_hosts" / UUID
    assert known.read_text() == "db ssh-ed25519 B\nweb2 ssh-ed25519 C\n"
    assert stat.S_IMODE(known.stat().st_mode) == 0o600
    assert sorted(os.listdir(known.parent)) == sorted([UUID, OTHER])
    assert forgetting.of_machine(UUID, "shop", "web", shop.path).paths() == []


def test_a_deployment(shop: Deployment, state: Path) -> None:
    others = kept(state, OTHER)
    forgetting.remove(forgetting.of_deployment(shop, keeps_keys=False))
    assert not Path(shop.path).exists()
    assert not kept(state, UUID) and not (state / "keys" / UUID).exists() and kept(state, OTHER) == others


def test_the_keys_of_machines_that_exist_stay(shop: Deployment, state: Path) -> None:
    forgetting.remove(forgetting.of_deployment(shop, keeps_keys=True))
    assert kept(state, UUID) == {f"keys/{UUID}/{name}" for name in ("web", "web.pub", "db", "db.pub")}
    lines = forgetting.left(shop, ["web-1"])
    assert f"their private keys stay in {state}/keys/{UUID}: they may accept no other ones" in lines


@pytest.mark.parametrize("case", ["own", "edited", "of two deployments"])
def test_the_configuration_that_was_written_for_it(shop: Deployment, state: Path, case: str) -> None:
    directory = Path(shop.path).parent
    cfg, facts = directory / "ansible.cfg", state / "facts" / UUID
    cfg.write_text(configuration.compose(shop.path, UUID, ("auto",)))
    enabled = configuration.of_directory(str(directory))
    assert enabled is not None
    cfg.write_text(configuration.compose(shop.path, UUID, enabled.enabled))
    facts.mkdir(parents=True)
    if case == "edited":
        cfg.write_text(cfg.read_text() + "# mine\n")
    elif case == "of two deployments":
        (directory / "other.network.yml").write_text("plugin: nix.ops.network\n")
    forgetting.remove(forgetting.of_deployment(shop, keeps_keys=False))
    assert (cfg.exists(), facts.exists()) == ((False, False) if case == "own" else (True, True))


def test_machines_that_exist(shop: Deployment) -> None:
    forgetting.check_no_machines(shop, [])
    with pytest.raises(OpsError, match=r"still has machines: web-1; no longer in the network: old\n") as refused:
        forgetting.check_no_machines(shop, ["old", "web-1"])
    assert "nix.ops.destroy" in str(refused.value) and "delete_force=true" in str(refused.value)
