# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is pushed to a binary cache, and what a user is told if that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.store.push import BinaryCache

ENVIRONMENT = {"NIX_CONFIG": "build-users-group =\nsubstituters =\ndownload-attempts = 1"}


def push(cache: BinaryCache, path: str) -> tuple[tuple[str, ...], list[str]]:
    """Push one path; :returns: what was pushed, and the lines that were shown."""
    lines: list[str] = []
    return cache.push([path], seconds=60, environment=ENVIRONMENT, on_line=lines.append), lines


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A path in the controller's store."""
    (tmp_path / "file").write_text(f"pushed {tmp_path}")
    [path] = nix.lines(["nix-store", "--add", str(tmp_path / "file")], "could not be added", env=ENVIRONMENT)
    return path


def test_what_a_cache_lacks_is_pushed_once_and_signed(tmp_path: Path, path: str) -> None:
    key = tmp_path / "a key & more"
    words = ["nix-store", "--generate-binary-cache-key", "cache-1", str(key), f"{key}.public"]
    nix.lines(words, "no key was made", env=ENVIRONMENT)
    cache = BinaryCache(f"file://{tmp_path}/cache?compression=none", str(key))
    pushed, lines = push(cache, path)
    assert pushed == (path,)
    assert lines[0] == f"pushing to file://{tmp_path}/cache..."
    [info] = (tmp_path / "cache").glob("*.narinfo")
    assert "Sig: cache-1:" in info.read_text() and "Compression: none" in info.read_text()
    assert key.read_text() not in "".join(lines)
    assert push(cache, path)[0] == ()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("/srv/cache", "begins file://, http://, https://, s3://"),
        ("ssh://root@machine", "begins file://"),
        ("--to=file:///srv", "begins file://"),
        ("https://me:hunter2@cache.example.org/x", "'netrc-file'"),
        ("file:///srv/cache?secret-key=/other", "Leave one of them out"),
    ],
)
def test_an_address_that_is_not_valid_is_refused(tmp_path: Path, url: str, told: str) -> None:
    (tmp_path / "key").write_text("cache-1:AAAA")
    with pytest.raises(OpsError) as refused:
        BinaryCache(url, str(tmp_path / "key")).address()
    assert told in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_key_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=f"the secret key {tmp_path}/key can't be read"):
        BinaryCache("file:///srv/cache", str(tmp_path / "key")).address()


def test_a_key_that_is_damaged_is_named_and_not_shown(tmp_path: Path, path: str) -> None:
    (tmp_path / "key").write_text("hunter2")
    with pytest.raises(OpsError) as refused:
        push(BinaryCache(f"file://{tmp_path}/cache", str(tmp_path / "key")), path)
    assert "--generate-binary-cache-key" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_cache_that_does_not_answer_is_named(path: str) -> None:
    with pytest.raises(OpsError) as refused:
        push(BinaryCache("http://127.0.0.1:9/cache"), path)
    told = str(refused.value)
    assert "could not be pushed to the binary cache http://127.0.0.1:9/cache" in told
    assert "Check that the cache runs" in told and "no machine was touched" in told


def test_a_cache_that_may_not_be_written_is_named(path: str) -> None:
    with pytest.raises(OpsError, match="could not be pushed to the binary cache file:///proc/cache"):
        push(BinaryCache("file:///proc/cache"), path)
