# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys are placed whole, with their owners and modes, and only where they differ."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.keys import sending
from ansible_collections.nix.ops.plugins.plugin_utils.keys.sending import Sending, Sent
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description, host
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import ComparedKeys
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine, Wait
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Key
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed

# With bash, the keys are in no directory of root's alone.
SHELLS = {"dash": "dash", "bash": "bash --posix", "busybox": "busybox sh"}
UUID = "11111111-1111-4111-8111-111111111111"
HOW = Sending(UUID)
BINARY = bytes(range(256)) * 40 + b"\n\n"

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a key's owner is set by root")


@dataclass
class Host:
    """A directory that stands for a machine, whose /bin/sh is one of the shells."""

    root: Path
    shell: str
    calls: list[bytes] = field(default_factory=list)

    def execute(self, command: str, stdin: bytes, _wait: Wait) -> Completed:
        """Run a command as the machine would."""
        self.calls.append(stdin)
        # The login shell's PATH may have the programs of busybox alone.
        argv = ["dash", "-c", command.replace("/bin/sh", self.shell, 1)]
        done = subprocess.run(argv, input=stdin, capture_output=True, check=False, cwd="/")
        return Completed((command,), done.returncode, done.stdout.decode(), done.stderr.decode())

    def key(self, name: str, **more: object) -> Key:
        """Return a key in a directory of this machine."""
        return replace(Key(name, str(self.root / "keys" / name)), **more)  # type: ignore[arg-type]

    def send(self, contents: dict[str, bytes], *keys: Key, how: Sending = HOW) -> Sent:
        """Send keys, by default in the order of their contents."""
        wanted = keys or tuple(self.key(name) for name in contents)
        return sending.send(Machine("m", self.execute, {}), wanted, contents, how)

    def files(self) -> dict[str, bytes]:
        """Return what is in the directory of the keys."""
        found = [path for path in (self.root / "keys").iterdir() if path.name != "done"]
        return {path.name: path.read_bytes() for path in found if path.is_file()}


@pytest.fixture(params=SHELLS)
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """An empty machine."""
    real = host.script

    def script(name: str) -> str:
        text = real(name)
        if name != "machine/places":
            return text
        if request.param != "bash":
            text = text.replace("=/run/keys", "=/keys")
        return text.replace("=/", f"={tmp_path}/")

    monkeypatch.setattr(host, "script", script)
    (tmp_path / "run").mkdir()
    return Host(tmp_path, SHELLS[request.param])


def test_only_what_differs_is_replaced(target: Host) -> None:
    first = {"a": b"one", "b": BINARY, "c": b"x" * 200_000}
    assert target.send(first) == Sent(added=("a", "b", "c"))
    assert target.files() == first
    inodes = {path: path.stat().st_ino for path in (target.root / "keys").iterdir()}
    modes = {stat.S_IMODE(path.stat().st_mode) for path in inodes}
    assert modes == {0o600}
    assert stat.S_IMODE((target.root / "keys").stat().st_mode) == 0o750

    target.calls.clear()
    assert not target.send(first)
    # They are large: only their hashes are sent.
    assert len(target.calls) == 1 and len(target.calls[0]) < 100_000

    second = first | {"b": BINARY[1:]}
    assert target.send(second, how=replace(HOW, look=True)) == Sent(changed=("b",))
    assert target.files() == first
    target.calls.clear()
    assert target.send(second) == Sent(changed=("b",))
    assert target.files() == second
    assert len(target.calls) == 2 and len(target.calls[1]) < 100_000
    assert {path.name for path, inode in inodes.items() if path.stat().st_ino != inode} == {"b"}
    # Nothing is left of the comparison.
    assert [path.name for path in (target.root / "run").iterdir()] in ([], ["nix-ops-keys-replaced"])


def test_contents_go_alone_to_a_machine_that_has_answered(target: Host) -> None:
    assert target.send({"a": b"secret-1"}, how=replace(HOW, asks_first=True)) == Sent(added=("a",))
    assert [b"secret-1" in call for call in target.calls] == [False, True]


def described(target: Host, contents: dict[str, bytes], *keys: Key) -> ComparedKeys | None:
    """Compare keys beside the description of the machine."""
    asked = sending.question(UUID, keys, contents)
    return description.describe(Machine("m", target.execute, {}), keys=asked).compared_keys


def test_description_tells_which_keys_differ_and_only_they_are_sent(target: Host) -> None:
    keys = [target.key(name) for name in ("a", "b", "c", "d")]
    contents = {"a": b"1" * 100_000, "b": b"2" * 100_000, "c": b"3"}
    assert described(target, contents, *keys) == ComparedKeys((0, 1, 2), ())
    target.send(contents, *keys)
    assert described(target, contents, *keys) == ComparedKeys((), ())
    Path(keys[2].path).unlink()
    Path(keys[0].path).chmod(0o644)
    new = {**contents, "b": b"4" * 100_000}
    assert described(target, new, *keys[:3]) == ComparedKeys((0, 1, 2), ())
    assert described(target, {"b": contents["b"]}, keys[1]) == ComparedKeys((), ("a",))
    missing = replace(keys[1], user="not-here")
    assert described(target, contents, missing) == ComparedKeys((0,), ("a",))
    Path(keys[2].path).mkdir()
    assert described(target, contents, *keys) is None
    Path(keys[2].path).rmdir()
    assert [path.name for path in (target.root / "run").iterdir()] in ([], ["nix-ops-keys-replaced"])
    target.calls.clear()
    sent = target.send(new, *keys, how=replace(HOW, differing=("a", "b", "c")))
    assert sent == Sent(added=("c",), changed=("a", "b"))
    assert len(target.calls) == 1


def test_keys_that_were_not_compared_are_sent_beside_those_that_differed(target: Host) -> None:
    how = replace(HOW, differing=["a"])
    assert target.send({"a": b"1", "b": b"2", "c": b"3"}, how=how).added == ("a", "b", "c")
    assert target.files() == {"a": b"1", "b": b"2", "c": b"3"}


def test_few_small_keys_take_one_call(target: Host) -> None:
    assert target.send({"a": b"1", "b": b"2"})
    assert target.send({"a": b"1", "b": b"3"}) == Sent(changed=("b",))
    assert not target.send({"a": b"1", "b": b"3"})
    assert len(target.calls) == 3
    assert target.files() == {"a": b"1", "b": b"3"}


def test_key_that_left_is_removed_and_that_of_another_deployment_is_not(target: Host) -> None:
    other = replace(HOW, deployment=UUID.replace("1", "2"))
    target.send({"a": b"1", "b": b"2"})
    target.send({"z": b"9"}, how=other)
    assert not target.send({"a": b"1"}, how=replace(HOW, whole=False))
    assert set(target.files()) == {"a", "b", "z"}
    assert target.send({"a": b"1"}, how=replace(HOW, look=True)) == Sent(removed=("b",))
    assert target.send({"a": b"1"}) == Sent(removed=("b",))
    assert set(target.files()) == {"a", "z"}
    assert target.send({}) == Sent(removed=("a",))
    assert not target.send({})
    assert set(target.files()) == {"z"}


def test_owner_and_mode_are_set(target: Host) -> None:
    user, group = pwd.getpwnam("nobody"), grp.getgrnam("daemon")
    key = target.key("a", user="nobody", group="daemon", permissions="0640")
    target.send({"a": b"1"}, key)
    found = Path(key.path).stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (user.pw_uid, group.gr_gid, 0o640)
    numbers = replace(key, user=str(user.pw_uid), group=str(group.gr_gid), permissions="u=rw,g=r,o=")
    assert not target.send({"a": b"1"}, numbers)
    assert target.send({"a": b"1"}, replace(key, permissions="400")) == Sent(changed=("a",))
    assert stat.S_IMODE(Path(key.path).stat().st_mode) == 0o400
    for mode, same in {"0040": "040", "0000": "000", "1400": "u=r,+t"}.items():
        assert target.send({"a": b"1"}, replace(key, permissions=mode)) == Sent(changed=("a",))
        assert stat.S_IMODE(Path(key.path).stat().st_mode) == int(mode, 8)
        assert not target.send({"a": b"1"}, replace(key, permissions=mode))
        assert not target.send({"a": b"1"}, replace(key, permissions=same))


def test_missing_owner_is_named_or_waits_for_the_activation(target: Host) -> None:
    key = target.key("a", user="not-here", permissions="0644")
    with pytest.raises(OpsError, match="m: the key a could not be sent\n  the user not-here of") as refused:
        target.send({"a": b"1"}, key)
    assert "deployment.keys.a.user" in str(refused.value)
    assert not (target.root / "keys").exists()
    sent = target.send({"a": b"1"}, key, how=replace(HOW, lenient=True))
    assert sent == Sent(added=("a",), waits=("a",))
    again = target.send({"a": b"1"}, key, how=replace(HOW, lenient=True))
    assert not again and again.waits == ("a",)
    # Until it has its owner, nobody else may read it.
    assert stat.S_IMODE(Path(key.path).stat().st_mode) == 0o600


def test_directory_and_link_in_the_place_of_a_key(target: Host) -> None:
    elsewhere = target.root / "elsewhere"
    elsewhere.write_text("precious")
    (target.root / "keys").mkdir()
    (target.root / "keys" / "a").symlink_to(elsewhere)
    (target.root / "keys" / ".a.nix-ops-new.1").symlink_to(elsewhere)
    assert target.send({"a": b"1"}) == Sent(changed=("a",))
    assert not (target.root / "keys" / "a").is_symlink()
    assert elsewhere.read_text() == "precious"
    (target.root / "keys" / "b").mkdir()
    with pytest.raises(OpsError, match="the key b could not be sent"):
        target.send({"a": b"2", "b": b"2"})
    assert (target.root / "keys" / "a").read_bytes() == b"1"


def test_full_file_system_leaves_the_old_keys(target: Host, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=True)
    try:
        keys = [target.key("a", path=str(small / "a")), target.key("b", path=str(small / "b"))]
        target.send({"a": b"1", "b": b"2"}, *keys)
        with pytest.raises(OpsError, match="the key b could not be sent") as failed:
            target.send({"a": b"3", "b": b"4" * 100_000}, *keys)
        assert "destDir" in str(failed.value)
        assert {path.name: path.read_bytes() for path in small.iterdir()} == {"a": b"1", "b": b"2"}
    finally:
        subprocess.run(["umount", small], check=True)


def test_stream_that_ends_early_leaves_the_old_keys(target: Host) -> None:
    target.send({"a": b"old"})
    whole = target.execute

    def cut(command: str, stdin: bytes, wait: Wait) -> Completed:
        return whole(command, stdin[:-1], wait)

    with pytest.raises(OpsError, match="the key a could not be sent"):
        sending.send(Machine("m", cut, {}), [target.key("a")], {"a": b"new\xff"}, HOW)
    assert target.files() == {"a": b"old"}


@pytest.mark.parametrize("more", [b"", b" \xff"])
def test_contents_are_in_no_command_line_and_no_message(target: Host, more: bytes) -> None:
    marker = b"secret-of-the-test" + more
    (target.root / "keys" / "a").mkdir(parents=True)
    machine = Machine("m", target.execute, {})
    with pytest.raises(OpsError) as refused:
        sending.send(machine, [target.key("a")], {"a": marker}, HOW)
    assert "secret" not in f"{refused.value}{refused.value.output}"
    assert target.calls[0].count(marker) == 1


def test_every_text_arrives_as_it_is(target: Host) -> None:
    texts = [
        "\n",
        "a\n\n",
        "'",
        "\\n\\0 %s %d",
        "$(id) `id` $HOME",
        '"\t\r',
        "-n",
        " x ",
        "*",
        "x" * 8192,
        "#!/bin/sh\n'",
    ]
    contents = {f"k{number}": text.encode() for number, text in enumerate(texts)}
    contents |= {"binary": BINARY, "long": b"y" * 8193, "nul": b"a\0b", "latin": b"\xe9\x81"}
    assert len(target.send(contents).added) == len(contents)
    assert target.files() == contents
    # What does not differ is left out of the stream, wherever it is in it.
    new = contents | {"k3": b"other", "latin": b"\xff", "long": b"z" * 9000}
    assert target.send(new).changed == ("k3", "long", "latin")
    assert target.files() == new


def test_keys_that_are_not_chosen_are_left_alone(target: Host) -> None:
    a, b = target.key("a"), target.key("b")
    assert target.send({"a": b"1"}, a, b) == Sent(added=("a",))
    assert target.files() == {"a": b"1"}
    assert target.send({"b": b"2"}, a, b) == Sent(added=("b",))
    assert target.send({"b": b"2"}, b, how=replace(HOW, whole=False)) == Sent(left=("a",))
    assert target.files() == {"a": b"1", "b": b"2"}
    assert target.send({}, b) == Sent(removed=("a",))


def test_names_of_files_are_no_patterns(target: Host) -> None:
    names = ("a*", "[ab]", "?", "a", "ab")
    keys = [Key(f"k{number}", str(target.root / "keys" / name)) for number, name in enumerate(names)]
    old, new = ({key.name: f"{key.name} {word}".encode() for key in keys} for word in ("old", "new"))
    target.send(old, *keys)
    before = replace(HOW, before=True, differing=("k0", "k1", "k2"))
    assert target.send({**old, **{name: new[name] for name in before.differing or ()}}, *keys, how=before).changed == (
        "k0",
        "k1",
        "k2",
    )
    assert sending.treat_old(Machine("m", target.execute, {}), UUID, "unstarted") == ("k0", "k1", "k2")
    assert set(target.files().values()) == set(old.values())
    assert target.send({}, keys[3]).removed == ("k0", "k1", "k2", "k4")
    assert target.send(new, *keys).changed == ("k3",)
    assert set(target.files().values()) == set(new.values())


def test_leftover_with_a_space_in_its_name_is_removed_as_one_file(target: Host, tmp_path: Path) -> None:
    def execute(command: str, stdin: bytes, wait: Wait) -> Completed:
        return target.execute(f"cd {tmp_path}/home; {command}", stdin, wait)

    mine = tmp_path / "home" / "mine"
    mine.mkdir(parents=True)
    target.send({"a": b"1"})
    left = [target.root / "keys" / f"{name}.nix-ops-new.1-1 mine" for name in ("", ".a")]
    for file in left:
        file.touch()
    sending.send(Machine("m", execute, {}), [target.key("a")], {"a": b"2"}, HOW)
    assert mine.is_dir()
    # Keys in /run/keys share a directory for temporary files. Those of other keys are beside the key.
    assert [file.exists() for file in left] in ([False, True], [True, False])


@pytest.mark.parametrize("how", [HOW, replace(HOW, before=True, keeps="anew")])
def test_machine_with_a_full_run_has_the_keys_that_are_reported(target: Host, how: Sending) -> None:
    new = {"a": b"2", "b": b"3" * 10_000}
    target.send({"a": b"1", "c": b"3"})
    keys = [target.key(name) for name in new]
    full = target.root / "run"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(full)], check=True)
    try:
        (full / "filler").write_bytes(b"x" * (64 - 4) * 1024)
        before = target.files()
        with suppress(OpsError):
            told = target.send(new, *keys, how=how)
            assert (told.added, told.changed) == (("b",), ("a",))
            before = {**before, **new}
            if how is HOW:
                del before["c"]
        assert target.files() == before
    finally:
        subprocess.run(["umount", str(full)], check=True)


def taken_back(target: Host, command: str = "take_keys_back") -> None:
    """Run a function of a job on the machine."""
    parts = ("machine/places", "machine/system", "machine/lock", "machine/lines", "machine/old_keys")
    text = "\n".join([*map(host.script, parts), command])
    subprocess.run([*target.shell.split(), "-c", text], check=True, capture_output=True)


def test_old_keys_come_back_unless_the_new_ones_stay(target: Host) -> None:
    before = replace(HOW, before=True)
    old, new = {"a": b"1", "b": b"2", "c": b"3"}, {"a": b"1", "b": b"4", "d": b"5"}
    assert target.send(old, how=before) == Sent(added=("a", "b", "c"))
    taken_back(target, "forget_old_keys")
    assert target.files() == old
    assert target.send(new, how=before) == Sent(added=("d",), changed=("b",), left=("c",))
    beside = {name: content for name, content in target.files().items() if name.startswith(".")}
    kept = {f".nix-ops-old/{path.name}": path.read_bytes() for path in (target.root / "keys/.nix-ops-old").glob("*")}
    assert {*beside.items(), *kept.items()} in ({(".b.nix-ops-old", b"2")}, {(".nix-ops-old/b", b"2")})
    assert {name: content for name, content in target.files().items() if name not in beside} == {**old, **new}
    # Another attempt before any activation: what ran before still counts.
    assert target.send({**new, "b": b"6"}, how=before).changed == ("b",)
    taken_back(target)
    assert target.files() == old
    taken_back(target)
    assert target.send(new, how=before).changed == ("b",)
    assert target.send(new) == Sent(removed=("c",))
    assert target.files() == new
    # A key that was there once is no new one, as after a reboot.
    (target.root / "keys" / "a").unlink()
    assert target.send(new, how=before).added == ("a",)
    taken_back(target)
    assert target.files() == new


def test_activation_that_can_not_start_leaves_the_old_keys(target: Host) -> None:
    machine, before = Machine("m", target.execute, {}), replace(HOW, before=True)
    target.send({"a": b"1"})
    assert target.send({"a": b"2", "b": b"3"}, how=before) == Sent(added=("b",), changed=("a",))
    assert sending.treat_old(machine, UUID, "back") == sending.treat_old(machine, UUID, "forget") == ()
    assert sending.treat_old(machine, UUID, "unstarted") == ("a",)
    assert target.files() == {"a": b"1"}
    assert sending.treat_old(machine, UUID, "unstarted") == ()


def test_deploy_that_may_be_taken_back_keeps_what_it_replaces_and_removes(target: Host) -> None:
    machine, anew, on = Machine("m", target.execute, {}), replace(HOW, keeps="anew"), replace(HOW, keeps="on")
    old, new = {"a": b"1", "b": b"2", "c": b"3"}, {"a": b"4", "b": b"5", "d": b"6"}
    keys = [target.key(name) for name in new]
    for kept_before in (False, True):
        target.send(old, how=anew if kept_before else HOW)
        target.send({"a": b"4", "d": b"6"}, *keys, how=replace(anew, before=True))
        taken_back(target, "keep_on")
        assert target.send({"b": b"5"}, *keys, how=on) == Sent(changed=("b",), removed=("c",))
        assert sending.treat_old(machine, UUID, "unstarted") == ()
        assert sending.treat_old(machine, UUID, "back") == ("a", "b", "c")
        assert target.files() == old
        # All of them are known again.
        assert target.send({}, how=replace(HOW, look=True)).removed == ("a", "b", "c")
    target.send(new, how=anew)
    assert sending.treat_old(machine, UUID, "forget") == ()
    assert target.files() == new
    assert target.send({}, how=replace(HOW, look=True)).removed == ("a", "b", "d")
    assert [path.name for path in (target.root / "run").iterdir()] in ([], ["nix-ops-keys-replaced"])


def test_sending_that_is_killed_leaves_each_key_whole(target: Host) -> None:
    names = [f"k{number}" for number in range(8)]
    contents = [dict.fromkeys(names, byte * 50000) for byte in (b"a", b"b")]
    target.send(contents[0])
    began = time.monotonic()
    target.send(contents[1])
    took = time.monotonic() - began
    seen = set()
    for attempt in range(12):
        new = contents[attempt % 2]

        def killed(command: str, stdin: bytes, _wait: Wait, after: float = took * attempt / 12) -> Completed:
            argv = ["dash", "-c", command.replace("/bin/sh", target.shell, 1)]
            with subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            ) as process:
                timer = threading.Timer(after, os.killpg, (process.pid, signal.SIGKILL))
                timer.start()
                stdout, stderr = process.communicate(stdin)
                timer.cancel()
            if process.returncode < 0:
                raise ConnectionLost("killed")
            return Completed((command,), process.returncode, stdout.decode(), stderr.decode())

        with suppress(ConnectionLost):
            sending.send(Machine("m", killed, {}), [target.key(name) for name in names], new, HOW)
        for name in names:
            found = (target.root / "keys" / name).read_bytes()
            assert found in (contents[0][name], contents[1][name])
            seen.add(found[:1])
        target.send(new)
        assert target.files() == new
    assert seen == {b"a", b"b"}


def test_two_runs_at_once_replace_keys_one_after_the_other(target: Host) -> None:
    names = [f"k{number}" for number in range(30)]
    runs = [dict.fromkeys(names, byte * 3000) for byte in (b"a", b"b", b"c")]
    target.send(runs[0])
    failures: list[Exception] = []

    def run(new: dict[str, bytes]) -> None:
        try:
            target.send(new, how=replace(HOW, whole=False))
        except (OpsError, ConnectionLost) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(new,)) for new in runs[1:] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    # All keys are those of one run.
    assert target.files() in runs
    assert [path.name for path in (target.root / "run").iterdir()] in ([], ["nix-ops-keys-replaced"])


def test_keys_are_compared_again_if_a_run_that_replaced_them_meanwhile_was_killed(
    target: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["first", "second"]
    target.send(dict.fromkeys(names, b"old"))
    mark = target.root / "run" / "nix-ops-keys-replaced"
    mark.write_text("begun 1 1.00\n")
    # The other run replaces a key right after this one has looked at all of them.
    shim = tmp_path / "bin" / "sha256sum"
    shim.parent.mkdir()
    shim.write_text(
        f"""#!/bin/sh
        {shutil.which("sha256sum")} "$@" || exit
        case $* in *first*) echo look >>{tmp_path}/looks ;; *) exit 0 ;; esac
        [ "$(wc -l <{tmp_path}/looks)" != 1 ] || printf other >{target.root}/keys/first
        """
    )
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    new = {"first": b"old", "second": b"new"}
    target.send(new)
    assert target.files() == new
    assert mark.read_text().startswith("ended ")


def test_unit_of_all_keys_starts_once_the_last_of_them_is_there(target: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    if target.shell.startswith("bash"):
        pytest.skip("its keys are elsewhere")
    late = target.key("late", after=True)
    keys, done = [target.key("a"), target.key("b"), late], target.root / "keys" / "done"
    target.send({"a": b"1"}, *keys, how=replace(HOW, whole=False))
    assert not done.exists()
    # A switch may wait for the unit, and the key comes after the switch.
    target.send({"a": b"1", "b": b"2"}, *keys, how=replace(HOW, before=True))
    assert done.exists()
    done.unlink()
    (target.root / "keys" / "b").unlink()
    target.send({"late": b"3"}, *keys, how=replace(HOW, whole=False))
    assert not done.exists()
    target.send({"a": b"1", "b": b"2", "late": b"3"}, *keys)
    assert done.exists()


def test_run_whose_connection_hangs_keeps_nobody_waiting(target: Host) -> None:
    target.send({"a": b"1", "b": b"2"})
    asked: list[tuple[str, bytes]] = []

    def hold(command: str, stdin: bytes, _wait: Wait) -> Completed:
        asked.append((command, stdin))
        raise ConnectionLost("silent")

    new = {"a": b"3", "b": b"\xff" * 100}
    with pytest.raises(ConnectionLost):
        sending.send(Machine("m", hold, {}), [target.key("a"), target.key("b")], new, HOW)
    [(command, stdin)] = asked
    argv = ["dash", "-c", command.replace("/bin/sh", target.shell, 1)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as hanging:
        assert hanging.stdin is not None and hanging.stdout is not None
        hanging.stdin.write(stdin[:-50])
        hanging.stdin.flush()
        until = time.monotonic() + 20
        while not [*target.root.rglob("*.nix-ops-new.*")] and time.monotonic() < until:
            time.sleep(0.02)
        assert target.send({"a": b"5", "b": b"6"}) == Sent(changed=("a", "b"))
        hanging.stdin.write(stdin[-50:])
        hanging.stdin.close()
        # It compared before, so it has to compare again.
        assert b"lacks 0\nlacks 1\n" in hanging.stdout.read()
    assert target.files() == {"a": b"5", "b": b"6"}
    assert not [*target.root.rglob("*.nix-ops-new.*")]


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_owners_and_modes_are_set_where_they_differ(tmp_path: Path, shell: str) -> None:
    for name in ("right", "mode", "owner"):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(name)
    (tmp_path / "owner").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "other")
    (tmp_path / "other").touch(mode=0o600)
    keys = {
        "mode": "440 root root",
        "owner": "640 daemon daemon",
        "missing": "600 root root",
        "right": "600 root root",
        "link": "666 daemon daemon",
    }
    right = (tmp_path / "right").stat().st_ctime_ns
    lines = [f"regular file {key} {tmp_path / name}\n" for name, key in keys.items()]
    (tmp_path / "list").write_text("".join(lines))
    owners = Path(sending.__file__).with_name("owners.sh").read_text()
    script = f"{owners}\nset_key_owners {shlex.quote(str(tmp_path / 'list'))}"
    done = subprocess.run([*shell.split(), "-euc", script], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    for name in ("mode", "owner", "right"):
        path = tmp_path / name
        assert f"{path.stat().st_mode & 0o777:o} {path.owner()} {path.group()}" == keys[name]
    assert not (tmp_path / "missing").exists()
    assert (tmp_path / "other").owner() == "root"
    assert (tmp_path / "right").stat().st_ctime_ns == right
