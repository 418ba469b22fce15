# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies closures once to a relay, a machine near others, from whose store the others take them.

The others log in on the relay with their own SSH host keys, and the relay lets them read its store and nothing else
(nix.sshServe of NixOS). The relay gets no key and no access to anything. What it hands out is compared with the
controller's store.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer, jobs, other_host
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import UNTOUCHED, script
from ansible_collections.nix.ops.plugins.plugin_utils.nix import Progress
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink
from ansible_collections.nix.ops.plugins.plugin_utils.store import copy
from ansible_collections.nix.ops.plugins.plugin_utils.store.copy import Copied, CopyOptions, Transport
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Heartbeat

# The user of nix.sshServe.
_USER = "nix-ssh"

_STORE = re.compile(
    r"ssh://(?:([A-Za-z_][A-Za-z0-9._-]*)@)?([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\])(?::([0-9]{1,5}))?/?"
)
_PUBLIC_KEY = re.compile(r"[a-z0-9@.-]{1,100} [A-Za-z0-9+/=]{40,4000}")
_HOST_KEYS = {"host_key": Key(_PUBLIC_KEY, most=20, required=True)}
_BEGUN = {**jobs.BEGUN, "public_key": Key(_PUBLIC_KEY, required=True)}
# Seconds between two tries to get the lock.
_INTERVAL = 0.1

# What ssh says, and what helps.
_TROUBLES = {
    "Permission denied": "Let the machine read the relay's store, in the relay's definition:"
    ' nix.sshServe = {{ enable = true; keys = [ "{key}" ]; }};',
    "Host key verification failed": "Compare where {address} leads to from the machine: another host answers there.",
    "refused|timed out|No route|resolve|unreachable": "Name the address of the relay as the machine reaches it, by"
    " 'via_store' (deploy_copy_via_store), and let the relay's firewall pass.",
}


@dataclass(frozen=True)
class Address:
    """How the others reach the relay's store."""

    user: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


def address(store: str | None, host: str, port: int | None) -> Address:
    """Read the address of the relay's store.

    :param store: as ``ssh://USER@HOST:PORT``; None if the controller's own address of the relay leads there, too.
    :param host: the controller's own address.
    :param port: its port; None if it is not known.
    :raises OpsError: if it is not valid.
    """
    given = store or f"ssh://{f'[{host}]' if ':' in host else host}:{port or 22}"
    found = _STORE.fullmatch(given)
    if found is None or not 0 < int(found[3] or 22) < 65536:
        raise OpsError(
            f"{given!r} is not an address of the relay's store",
            state="nothing was copied",
            next_step="Give one like ssh://nix-ssh@10.0.0.5 by 'via_store' (deploy_copy_via_store).",
        )
    return Address(found[1] or _USER, found[2].strip("[]"), int(found[3] or 22))


@dataclass(frozen=True)
class Relay:
    """A machine from whose store others take paths.

    :param transport: the controller's way there.
    :param address: how the others reach its store.
    """

    transport: Transport
    address: Address

    @property
    def name(self) -> str:
        """The name in messages and in the files of ssh."""
        found = self.transport.machine.name
        return found if re.fullmatch("[A-Za-z0-9][A-Za-z0-9.-]*", found) else "relay"

    def fill(
        self, paths: Sequence[str], *, options: CopyOptions, gc_root: str | None, on_line: LineSink
    ) -> tuple[str, ...]:
        """Copy closures to the relay, and return its host keys.

        :param gc_root: a link there that keeps the first path.
        :raises OpsError: if that fails.
        """
        machine = self.transport.machine
        with other_host.named(f"{machine.name}, from which the closure is taken,", UNTOUCHED):
            fill(self.transport, paths, options=options, gc_root=gc_root, on_line=on_line)
            told = machine.ask(
                "store/tell_host_keys", schema=_HOST_KEYS, parts=["store/host_keys"], awaits="its host keys"
            )
        return told.all("host_key")


def fill(
    transport: Transport, paths: Sequence[str], *, options: CopyOptions, gc_root: str | None, on_line: LineSink
) -> Copied:
    """Copy closures to the relay, after other tasks that do the same.

    :raises OpsError: if that fails.
    """
    with _alone(transport.machine.name, transport.limits.seconds, on_line):
        return copy.push(transport, paths, options=options, gc_root=gc_root, on_line=on_line)


def push(
    relay: Relay,
    transport: Transport,
    paths: Sequence[str],
    *,
    options: CopyOptions,
    gc_root: str | None,
    on_line: LineSink,
    on_relay: LineSink,
) -> Copied:
    """Copy closures to the relay, and let a host take what it lacks from there.

    :param options: how to copy to the relay.
    :param gc_root: a link on the host that keeps the first path.
    :param on_relay: shows a line about the relay.
    :raises OpsError: if that fails, or the relay hands out other contents than the controller has.
    """
    lacking = copy.missing_closures(transport, paths, gc_root=gc_root)
    if not lacking:
        return Copied((), 0)
    name = _plain(transport.machine.name)
    root = gc_root and f"{os.path.dirname(gc_root)}/via-{os.path.basename(gc_root)}-{name}"
    host_keys = relay.fill(paths, options=options, gc_root=root, on_line=on_relay)
    _take(relay, transport, paths, host_keys, on_line)
    sizes = _check(relay, transport, lacking, gc_root)
    return Copied(lacking, sum(sizes))


def _take(
    relay: Relay, transport: Transport, paths: Sequence[str], host_keys: Sequence[str], on_line: LineSink
) -> None:
    progress, limits, machine = Progress(), transport.limits, transport.machine

    def read(line: str) -> None:
        progress.read(line)
        on_line(line)

    known = "\n".join(f"{relay.name} {key}" for key in host_keys)
    there = relay.address
    begun = machine.ask(
        *("store/take", relay.name, there.user, there.host, str(there.port), known, *paths),
        schema=_BEGUN,
        parts=["machine/detach", "store/host_keys"],
        data=script("store/take_job"),
        awaits="the start of the copy",
    )
    directory = begun.all("directory")[0]
    try:
        ended = jobs.follow(
            *(machine, directory),
            what="the copy of the closure",
            on_line=read,
            patience=limits.stall,
            within=limits.seconds,
            detail=progress.latest,
        )
    finally:
        machine.tidy("machine/job", "stop", directory)
    if ended.exit_code != 0:
        helps = [text for said, text in _TROUBLES.items() if re.search(said, ended.log)][:1]
        helps = [text.format(key=begun.all("public_key")[0], address=there) for text in helps]
        raise OpsError(
            f"the closure could not be taken from {relay.name} ({there})",
            machine=machine.name,
            output=ended.log,
            state=UNTOUCHED,
            next_step=" ".join([*helps, "Without 'via' (deploy_copy_via) it comes from the controller."]),
            exit_code=ended.exit_code,
            was_shown=True,
        )


def _check(relay: Relay, transport: Transport, paths: Sequence[str], gc_root: str | None) -> list[int]:
    """Compare what has arrived with the controller's store, and return the sizes.

    :raises OpsError: if something differs. It is removed from the host then.
    """
    machine = transport.machine
    argv = ["nix-store", "--dump-db", *nix.store_paths(paths)]
    here = registered("\n".join(nix.lines(argv, "the controller's store can't be read", env=transport.environment)))
    told = machine.ask(
        "store/registered", block="registered", data="\n".join(paths), awaits="the hashes of what has arrived"
    )
    try:
        there = registered(told.block)
    except ValueError as error:
        raise answer.invalid(machine.name, "it tells no hashes of what has arrived") from error
    if different := [path for path in paths if there.get(path) != here[path]]:
        machine.tidy("store/forget", gc_root or "", data="\n".join(paths))
        raise OpsError(
            f"{relay.name} has handed out other contents than the controller has: {different[0]}",
            machine=machine.name,
            state=f"{UNTOUCHED}, and what has arrived was removed",
            next_step=f"Look at {relay.name}: its store is damaged (nix-store --verify --check-contents), or it was"
            " broken into. Without 'via' (deploy_copy_via) the closure comes from the controller.",
        )
    return [size for _hash, size, _references in here.values()]


def registered(dump: str) -> dict[str, tuple[str, int, frozenset[str]]]:
    """Read what ``nix-store --dump-db`` prints: for each path its hash, its size and its references.

    :raises ValueError: if it is damaged.
    """
    found = {}
    lines = iter(dump.split("\n"))
    for path in lines:
        if not path:
            continue
        try:
            content, size, _deriver, count = next(lines), int(next(lines)), next(lines), int(next(lines))
            found[path] = (content, size, frozenset([next(lines) for _each in range(count)]))
        except StopIteration:
            raise ValueError("it is cut off") from None
    return found


@contextmanager
def _alone(name: str, seconds: float, on_line: LineSink) -> Iterator[None]:
    """Wait until no other process of this user copies to the relay: each would send what all lack."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "nix.ops").expanduser()
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(cache / f"via-{_plain(name)}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        # It only saves work.
        yield
        return
    try:
        heartbeat = Heartbeat("other copies to the relay", on_line)
        deadline = time.monotonic() + seconds
        while not _locks(lock) and time.monotonic() < deadline:
            heartbeat.beat()
            time.sleep(_INTERVAL)
        yield
    finally:
        os.close(lock)


def _locks(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _plain(name: str) -> str:
    """Return a name that is a file name and differs from those of other names."""
    return name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", name) else hashlib.sha256(name.encode()).hexdigest()[:16]
