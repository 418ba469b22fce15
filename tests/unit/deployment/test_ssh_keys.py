# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Key pairs: made once, never readable by others, and always two halves of one."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment.ssh_keys import (
    comment,
    generate,
    path_of,
    public_key,
    ssh_options,
    vault_id,
    why_not_kept,
)
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def ssh_keygen(*words: str | Path) -> str:
    return subprocess.run(["ssh-keygen", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Where a key pair shall be."""
    return tmp_path / "state" / "keys" / "web"


def test_keys_stand_in_the_users_own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert path_of(UUID, "web") == f"/state/nix.ops/keys/{UUID}/web"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert path_of(UUID, "web") == f"/home/me/.local/state/nix.ops/keys/{UUID}/web"
    assert path_of(UUID, "web", "/srv/team/../keys") == "/srv/keys/web"


def test_keys_never_stand_where_all_can_read_or_ssh_finds_none(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/nix/store")
    for directory in ("/nix/store", "/nix/store/../store/x", str(tmp_path / "link" / "x")):
        with pytest.raises(OpsError, match="would be in the Nix store"):
            path_of(UUID, "web", directory)
    for directory in ("/a\nb", "/a${HOME}"):
        with pytest.raises(OpsError, match="ssh can't be given the path"):
            path_of(UUID, "web", directory)


def test_pair_is_made_once(key: Path) -> None:
    old = os.umask(0)
    try:
        public = generate(str(key), comment("web", "example"))
    finally:
        os.umask(old)
    kind, _data, said = public.split(" ", 2)
    assert (kind, said) == ("ssh-ed25519", "nix.ops key of web in example")
    assert ssh_keygen("-y", "-P", "", "-f", key).split()[:2] == public.split()[:2]
    assert Path(f"{key}.pub").read_text() == f"{public}\n"
    assert (mode(key), mode(key.parent), mode(key.parent.parent)) == (0o600, 0o700, 0o700)
    assert sorted(os.listdir(key.parent)) == ["web", "web.pub"]
    assert generate(str(key), "another") == public_key(str(key)) == public


def test_private_key_is_never_readable_by_others(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link
    seen: list[tuple[int, int]] = []

    def spy(source: str, target: str) -> None:
        seen.append((mode(Path(source)), mode(Path(source).parent)))
        link(source, target)

    monkeypatch.setattr(os, "link", spy)
    generate(str(key), "of the test")
    assert seen == [(0o600, 0o700)]


def test_runs_at_once_end_with_one_pair(key: Path) -> None:
    code = "import sys; from ansible_collections.nix.ops.plugins.plugin_utils.deployment import ssh_keys; "
    code += "sys.stdin.read(); print(ssh_keys.generate(sys.argv[1], sys.argv[2]))"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(key), f"run {number}"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    for run in runs:
        assert run.stdin is not None
        run.stdin.close()
    public = set()
    for run in runs:
        assert run.stdout is not None
        public.add(run.stdout.read().strip())
        run.stdout.close()
        assert run.wait() == 0
    assert public == {public_key(str(key))} == {Path(f"{key}.pub").read_text().strip()}
    assert sorted(os.listdir(key.parent)) == ["web", "web.pub"]


def test_other_run_that_is_faster_wins(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def late(source: str, target: str) -> None:
        ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", "faster", "-f", key)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert generate(str(key), "slower").endswith(" faster")


def test_half_a_pair_is_made_whole(key: Path) -> None:
    public = generate(str(key), "of the test")
    beside = Path(f"{key}.pub")
    for wrong in (None, "", "garbage", ssh_public_key_of_another(key)):
        if wrong is None:
            beside.unlink()
        else:
            beside.write_text(wrong)
        assert public_key(str(key)) == public
        assert generate(str(key), "another") == public
        assert beside.read_text() == f"{public}\n"
    # A public half alone is nothing.
    key.unlink()
    assert public_key(str(key)) is None
    again = generate(str(key), "of the test")
    assert again != public
    assert beside.read_text() == f"{again}\n"


def ssh_public_key_of_another(key: Path) -> str:
    other = key.with_name("other")
    ssh_keygen("-q", "-t", "ed25519", "-N", "", "-f", other)
    return Path(f"{other}.pub").read_text()


def test_key_of_another_kind_with_its_own_comment_is_taken(key: Path) -> None:
    key.parent.mkdir(parents=True)
    ssh_keygen("-q", "-t", "ecdsa", "-m", "PEM", "-N", "", "-C", "the team's", "-f", key)
    assert public_key(str(key)) == Path(f"{key}.pub").read_text().strip()


@pytest.mark.parametrize("open_to", [0o640, 0o604, 0o620])
def test_modes_that_ssh_refuses_are_refused(key: Path, open_to: int) -> None:
    generate(str(key), "of the test")
    key.chmod(open_to)
    with pytest.raises(OpsError) as error:
        public_key(str(key))
    assert str(key) in error.value.what
    assert error.value.next_step is not None
    assert f"chmod 600 {key}" in error.value.next_step


def encrypted_by_a_vault(key: Path) -> None:
    key.write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")


def protected_by_a_passphrase(key: Path) -> None:
    ssh_keygen("-q", "-t", "ed25519", "-N", "passphrase", "-C", "protected", "-f", key)
    Path(f"{key}.pub").unlink()


@pytest.mark.parametrize("protect", [encrypted_by_a_vault, protected_by_a_passphrase])
def test_protected_key_s_public_half_is_read_beside_it(key: Path, protect: Callable[[Path], None]) -> None:
    key.parent.mkdir(parents=True)
    protect(key)
    key.chmod(0o600)
    with pytest.raises(OpsError) as error:
        public_key(str(key))
    assert f"{key} is protected" in error.value.what
    public = ssh_public_key_of_another(key)
    Path(f"{key}.pub").write_text(public)
    assert public_key(str(key)) == public.strip()


@pytest.mark.parametrize("content", ["", "garbage\n", "ssh-ed25519 AAAA of another\n"])
def test_what_is_no_private_key_is_named_and_kept(key: Path, content: str) -> None:
    key.parent.mkdir(parents=True)
    key.write_text(content)
    key.chmod(0o600)
    for what in (lambda: public_key(str(key)), lambda: generate(str(key), "of the test")):
        with pytest.raises(OpsError, match=str(key)):
            what()
    assert key.read_text() == content


def test_place_that_is_taken_is_named(key: Path) -> None:
    key.mkdir(parents=True)
    with pytest.raises(OpsError, match=f"{key} is not a private key"):
        public_key(str(key))
    key.rmdir()
    key.symlink_to("nowhere")
    with pytest.raises(OpsError, match="is a link to nowhere"):
        generate(str(key), "of the test")
    key.unlink()
    # A machine called web.pub beside one called web.
    generate(f"{key}.pub", "of the test")
    with pytest.raises(OpsError, match=r"web\.pub is a private key"):
        generate(str(key), "of the test")
    assert not key.exists()


def test_place_that_can_not_be_written_is_named(key: Path, tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(OpsError, match="can't be written") as error:
        generate(str(key), "of the test")
    assert str(key) in error.value.what


def test_ssh_keygen_that_is_missing_is_named(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(OpsError, match="ssh-keygen is not on the controller's PATH"):
        generate(str(key), "of the test")
    assert os.listdir(key.parent) == []


def test_words_that_look_like_options_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    public = generate("-y", "-t rsa")
    assert public == public_key("-y")
    assert public.startswith("ssh-ed25519 ")
    assert public.endswith(" -t rsa")


def test_key_that_would_be_lost_is_told(key: Path, tmp_path: Path) -> None:
    assert why_not_kept(str(key), {}, {}) is None
    assert not key.parent.exists()
    for environment, variables in (
        ({"AWX_PRIVATE_DATA_DIR": "/runner"}, {}),
        ({}, {"awx_job_id": 7}),
        ({}, {"tower_job_id": 7}),
    ):
        assert "AWX job" in str(why_not_kept(str(key), environment, variables))
    (tmp_path / "state").touch()
    assert why_not_kept(str(key), {}, {}) == (
        f"The directory of the private key can't be written: {tmp_path / 'state'}."
    )


def test_directory_without_leave_to_write_loses_a_key(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests' user may be root, who may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, wanted: not wanted & os.W_OK)
    assert "can't be written" in str(why_not_kept(str(key), {}, {}))


def test_only_keys_that_ssh_can_use_are_offered(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    user = type("User", (), {"pw_dir": str(home)})
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: user)
    assert ssh_options(str(key)) == []
    generate(str(key), "of the test")
    offer = ["-o", f'IdentityFile="{key}"']
    assert ssh_options(str(key)) == offer
    for name in ("id_rsa", "id_ed25519", "id_ed25519.pub", "other"):
        (home / ".ssh" / name).touch()
    defaults = ["-o", 'IdentityFile="~/.ssh/id_rsa"', "-o", 'IdentityFile="~/.ssh/id_ed25519"']
    assert ssh_options(str(key)) == [*offer, *defaults]
    encrypted_by_a_vault(key)
    assert ssh_options(str(key)) == []


@pytest.mark.parametrize(
    ("begins", "expected"),
    [
        ("$ANSIBLE_VAULT;1.1;AES256", "default"),
        ("$ANSIBLE_VAULT;1.2;AES256;team", "team"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", None),
    ],
)
def test_vault_id_of_a_key(tmp_path: Path, begins: str, expected: str | None) -> None:
    (tmp_path / "web").write_text(f"{begins}\n3132\n")
    assert vault_id(str(tmp_path / "web")) == expected
    assert vault_id(str(tmp_path / "none")) is None


def test_an_encrypted_key_may_have_the_mode_that_git_gives_it(tmp_path: Path) -> None:
    public = generate(str(tmp_path / "web"), "of the test")
    (tmp_path / "web").write_text("$ANSIBLE_VAULT;1.2;AES256;team\n3132\n")
    (tmp_path / "web").chmod(0o644)
    assert public_key(str(tmp_path / "web")) == public
