# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies closures between the store of the controller and that of a host."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils import children, nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import answer
from ansible_collections.nix.ops.plugins.plugin_utils.machine.answer import Key
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine
from ansible_collections.nix.ops.plugins.plugin_utils.nix import Progress
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed, LineSink, Watch
from ansible_collections.nix.ops.plugins.plugin_utils.store import exported
from ansible_collections.nix.ops.plugins.plugin_utils.store import route as routes
from ansible_collections.nix.ops.plugins.plugin_utils.store.route import SshRoute
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Heartbeat, Overdue, Stall

_GC_ROOT = re.compile(r"/nix/var/nix/gcroots(?:/(?!\.\.?(?:/|$))[^/\n]+)+")

_PLAIN_DIRECTORY = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._-]+)+/?")

_UNSIGNED = re.compile("lacks a (?:valid )?signature")
_UNSIGNED_NEXT = (
    "Let the copy run as root (become with a sudo that asks for no password), add the user to"
    " 'trusted-users' of the receiving store, or sign the paths ('sign_key_file') with a key it trusts."
)
_UNTRUSTED_NEXT = (
    "Sign the paths there ('nix store sign') with a key of the controller's 'trusted-public-keys'. If you trust the"
    " machine with what the controller runs and deploys, set 'require_signatures' to false."
)
_STALLED_NEXT = (
    "Look at its console: its disk may hang, or its Nix may wait for a lock. If it is only slow, give it more time"
    " (stall_timeout and copy_timeout of the module, deploy_stall_timeout and deploy_copy_timeout of a deploy). Paths"
    " that have arrived are not copied twice."
)
_PROVE_NEXT = (
    "Compare where ssh leads to now: its configuration, the machine's address, and connections that are still open"
    " (ssh -O exit). Then run the same again."
)
_SILENCE_NEXT = (
    "Let the start-up files of the user's shell there (such as ~/.bashrc) print nothing unless a person is logged in:"
    " [ -t 1 ] && echo ..."
)
_TELL_BOOT = "cat /proc/sys/kernel/random/boot_id"
_BOOT_ID = re.compile("[0-9a-f-]{36}")
_BOOT = {"boot_id": Key(_BOOT_ID, required=True)}
_WHAT = "the copy of the closure"
# Bytes that the commands of a copy may print.
_LARGEST_OUTPUT = 64 * 1024 * 1024
# Bytes in a second that a machine imports at the least.
_SLOWEST_IMPORT = 1024 * 1024
_UNTOUCHED = "the running system is untouched"
# The exit code of missing.sh if Nix is not installed.
_NO_NIX = 127


@dataclass(frozen=True)
class Files:
    """Transfers single files over a connection that Nix itself can't use.

    :param put: copies a file of the controller to a path on the host.
    :param fetch: copies a file of the host to a path on the controller.
    """

    put: Callable[[str, str], None]
    fetch: Callable[[str, str], None]


@dataclass(frozen=True)
class Limits:
    """How long a copy may take.

    :param stall: seconds without progress until the copy is ended.
    :param seconds: seconds until it is ended in any case.
    """

    stall: float = 600.0
    seconds: float = 86400.0


_TO_PROVE = Limits(stall=60.0, seconds=120.0)


@dataclass(frozen=True)
class Transport:
    """How store paths travel between the controller and a host.

    :param machine: the host.
    :param visitor: the host as the connection's own user sees it, for transferring files.
    :param route: the route of Nix's own ssh; None if paths are transferred as a file instead.
    :param files: transfers that file.
    :param limits: how long a copy may take.
    :param environment: variables for Nix on the controller.
    """

    machine: Machine
    visitor: Machine
    route: SshRoute | None
    files: Files
    limits: Limits = Limits()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Copied:
    """The result of a copy.

    :param paths: the store paths that the receiving store lacked.
    :param size: their size in bytes, unpacked.
    """

    paths: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class CopyOptions:
    """How to copy.

    :param substitutes: let the receiving store fetch from its own caches first.
    :param compress: compress the data on the connection.
    :param signatures: accept only paths with a signature that the controller trusts. Only for :func:`pull`.
    """

    substitutes: bool = False
    compress: bool = False
    signatures: bool = False

    def words(self) -> list[str]:
        """Return the options as words of ``nix-copy-closure``."""
        return [
            *(["--use-substitutes"] if self.substitutes else []),
            *(["--gzip"] if self.compress else []),
        ]

    def command(self, name: str, direction: str, paths: Sequence[str]) -> list[str]:
        """Return the command that copies closures over ssh.

        :param name: the host's name.
        :param direction: ``to`` or ``from``.
        """
        if not self.signatures:
            host = routes.destination(name)
            return ["nix-copy-closure", f"--{direction}", host, *self.words(), *nix.store_paths(paths)]
        # nix-copy-closure accepts paths without a signature.
        return [*self._nix_copy(), f"--{direction}", self._store(name), *nix.store_paths(paths)]

    def relay(self, source: str, name: str, paths: Sequence[str]) -> list[str]:
        """Return the command that copies closures from one host to another, past the controller's store.

        :param source: the name of the host that has them.
        :param name: the name of the host that gets them.
        """
        ways = ["--from", self._store(source), "--to", self._store(name)]
        return [*self._nix_copy(), "--no-check-sigs", *ways, *nix.store_paths(paths)]

    def _nix_copy(self) -> list[str]:
        command = ["nix", "--extra-experimental-features", "nix-command", "copy", "--verbose"]
        return [*command, *(["--substitute-on-destination"] if self.substitutes else [])]

    def _store(self, name: str) -> str:
        return f"{routes.address(name)}{'?compress=true' if self.compress else ''}"


def sign(paths: Sequence[str], key_file: str, *, environment: Mapping[str, str] | None = None) -> None:
    """Sign closures in the controller's store with a secret key.

    :param key_file: a file that ``nix-store --generate-binary-cache-key`` made.
    :raises OpsError: if that fails.
    """
    argv = ["nix", "--extra-experimental-features", "nix-command", "store", "sign", "--recursive"]
    argv += ["--key-file", key_file, *nix.store_paths(paths)]
    nix.lines(argv, "the paths could not be signed", env=environment)


@dataclass(frozen=True)
class Missing:
    """What a host's store lacks.

    :param paths: the store paths.
    :param boot_id: the id of the host's boot, which tells it from other hosts.
    """

    paths: tuple[str, ...]
    boot_id: str


def missing(machine: Machine, paths: Sequence[str], *, gc_root: str | None = None) -> Missing:
    """Return the paths that a host's store lacks, in one round trip.

    :param gc_root: a link on the host that makes the first path a GC root from its arrival on.
    :raises OpsError: if the host can't answer, for example because it lacks Nix.
    """
    if gc_root and not _GC_ROOT.fullmatch(gc_root):
        raise OpsError(f"{gc_root!r} is not a path below /nix/var/nix/gcroots", next_step="Correct 'gc_root'.")
    words = [gc_root, paths[0]] if gc_root else []
    data = "\n".join(nix.store_paths(paths))
    asked = machine.run("store/missing", *words, data=data, awaits="the list of paths that its store lacks")
    if asked.exit_code == _NO_NIX:
        raise OpsError(
            "Nix is missing on the machine",
            machine=machine.name,
            output=asked.stderr,
            state=_UNTOUCHED,
            next_step="Install Nix there, or add its directory to the PATH of this user's shell.",
            exit_code=asked.exit_code,
        )
    if asked.exit_code != 0:
        raise _failure(asked, machine.name, "the machine's store can't be read")
    told = answer.read(asked.stdout, {**_BOOT, "missing": answer.STORE_PATHS}, machine.name)
    lacking = told.all("missing")
    if not set(lacking) <= set(paths):
        # Otherwise a machine could request any path of the controller's store.
        raise answer.invalid(machine.name, "it names paths that it was not asked about")
    return Missing(lacking, told.all("boot_id")[0])


def _prove_machine(transport: Transport, route: SshRoute, boot_id: str) -> None:
    """Prove that Nix's ssh reaches the machine that Ansible's connection does, before anything is copied.

    Their ssh can be another process with another configuration, and an address can have moved.

    :param boot_id: the id of the boot that Ansible's connection reaches.
    :raises OpsError: if another machine answers, or none.
    """
    try:
        done = nix.run([*route.command, _TELL_BOOT], watch=_watch(_TO_PROVE, lambda _line: None))
    except Overdue as late:
        raise ConnectionLost(
            f"the ssh of Nix does not reach {transport.machine.name}: {late}", next_step=_PROVE_NEXT
        ) from late
    if done.exit_code != 0:
        raise ConnectionLost(
            f"the ssh of Nix does not reach {transport.machine.name}: {done.stderr.strip()}", next_step=_PROVE_NEXT
        )
    told = [word for word in done.stdout.split() if _BOOT_ID.fullmatch(word)]
    if boot_id not in told:
        raise OpsError(
            "the ssh of Nix reaches another machine than Ansible's connection does"
            if told
            else "the machine that the ssh of Nix reaches does not tell the id of its boot",
            machine=transport.machine.name,
            state="nothing was copied",
            next_step=_PROVE_NEXT,
        )
    if done.stdout.strip() != boot_id:
        raise OpsError(
            "something is printed before the commands that ssh runs, and Nix would take it for the machine's answer",
            machine=transport.machine.name,
            output=done.stdout.replace(boot_id, "").strip(),
            state="nothing was copied",
            next_step=_SILENCE_NEXT,
        )


def push(
    transport: Transport, paths: Sequence[str], *, options: CopyOptions, gc_root: str | None, on_line: LineSink
) -> Copied:
    """Copy closures from the controller's store to the host's.

    If the host has the paths, it has their closures too, and nothing more is asked.

    :raises OpsError: if a path is not in the controller's store, or the copy fails.
    """
    if transport.route is None:
        return _push_file(transport, paths, gc_root, on_line)
    lacking = missing(transport.machine, paths, gc_root=gc_root)
    if not lacking.paths:
        return Copied((), 0)
    progress = Progress()
    command = options.command(transport.machine.name, "to", paths)
    done = _copy_closure([_End(transport, transport.route, lacking.boot_id)], command, progress, on_line)
    if done.exit_code != 0:
        _refuse_absent(transport, paths)
        raise _failure(done, transport.machine.name, "the closure could not be copied to the machine", was_shown=True)
    return _copied(transport, paths, progress)


def pull(transport: Transport, paths: Sequence[str], *, options: CopyOptions, on_line: LineSink) -> Copied:
    """Copy closures from the host's store to the controller's.

    :raises OpsError: if a path is not in the host's store, or has no signature that is required, or the copy fails.
    """
    absent = lacking_here(paths, environment=transport.environment)
    if not absent:
        return Copied((), 0)
    if transport.route is None:
        if options.signatures:
            raise _without_signatures(transport.machine.name)
        return _pull_file(transport, paths, on_line)
    progress = Progress()
    command = options.command(transport.machine.name, "from", paths)
    boot_id = transport.machine.ask("machine/boot", schema=_BOOT, awaits="the id of its boot").all("boot_id")[0]
    done = _copy_closure([_End(transport, transport.route, boot_id)], command, progress, on_line)
    if done.exit_code != 0:
        what = "the closure could not be copied from the machine"
        failure = _failure(done, transport.machine.name, what, was_shown=True)
        if _UNSIGNED.search(done.stderr):
            failure.next_step = _UNTRUSTED_NEXT
        raise failure
    return _copied(transport, paths, progress)


@dataclass(frozen=True)
class Source:
    """Another host, such as a build host, whose store has paths.

    :param closures: the closures of the paths.
    """

    transport: Transport
    boot_id: str
    closures: frozenset[str]


def find_source(transport: Transport, paths: Sequence[str]) -> Source:
    """Ask another host for the closures of paths.

    :raises OpsError: if its store lacks one of the paths.
    """
    there = missing(transport.machine, paths)
    if there.paths:
        raise OpsError(
            f"{' '.join(there.paths)} is not in its store",
            machine=transport.machine.name,
            state="nothing was copied",
            next_step="Build it there again.",
        )
    return Source(transport, there.boot_id, frozenset(_requisites_there(transport, paths)))


def relay(
    source: Source, transport: Transport, paths: Sequence[str], *, options: CopyOptions, on_line: LineSink
) -> Copied:
    """Copy closures from another host to the host's store, which lacks them.

    They pass through a process of the controller, but not through its store, unless Nix can't use one of the
    connections.

    :raises OpsError: if the copy fails.
    """
    lacking, route = missing(transport.machine, paths), source.transport.route
    if route is None or transport.route is None:
        pull(source.transport, paths, options=CopyOptions(), on_line=on_line)
        return push(transport, paths, options=options, gc_root=None, on_line=on_line)
    ends = [_End(source.transport, route, source.boot_id), _End(transport, transport.route, lacking.boot_id)]
    progress = Progress()
    there = source.transport.machine.name
    command = options.relay(there, transport.machine.name, paths)
    done = _copy_closure(ends, command, progress, on_line)
    if done.exit_code != 0:
        what = f"the closure could not be copied from {there} to the machine"
        raise _failure(done, transport.machine.name, what, was_shown=True)
    return Copied(tuple(path for path in dict.fromkeys(progress.copied) if path in source.closures), 0)


def would_push(transport: Transport, paths: Sequence[str]) -> Copied:
    """Return what :func:`push` would copy, without writing anything.

    :raises OpsError: if a path is not in the controller's store.
    """
    lacking = missing_closures(transport, paths)
    return Copied(lacking, nix.sizes(lacking, env=transport.environment))


def would_pull(transport: Transport, paths: Sequence[str]) -> Copied:
    """Return what :func:`pull` would copy. Its size is not known and 0."""
    if not lacking_here(paths, environment=transport.environment):
        return Copied((), 0)
    there = _requisites_there(transport, paths)
    return Copied(tuple(lacking_here(there, environment=transport.environment)), 0)


def lacking_here(paths: Sequence[str], *, environment: Mapping[str, str] | None = None) -> list[str]:
    """Return the paths that the controller's store lacks."""
    argv = ["nix-store", "--check-validity", "--print-invalid", *nix.store_paths(paths)]
    return nix.lines(argv, "the controller's store can't be read", env=environment)


def missing_closures(transport: Transport, paths: Sequence[str], *, gc_root: str | None = None) -> tuple[str, ...]:
    """Return the paths that a host's store lacks of closures in the controller's store, in one round trip.

    :param gc_root: a link on the host that makes the first path a GC root from its arrival on.
    :raises OpsError: if the host lacks a path, and the controller does, too.
    """
    absent = lacking_here(paths, environment=transport.environment)
    closures = [] if absent else nix.requisites(paths, env=transport.environment)
    told = missing(transport.machine, list(dict.fromkeys([*paths, *closures])), gc_root=gc_root).paths
    if told:
        _refuse(transport, absent)
    # Each path after those that it refers to, as they are copied.
    lacking = set(told)
    return tuple(one for one in dict.fromkeys([*closures, *paths]) if one in lacking)


def _refuse_absent(transport: Transport, paths: Sequence[str]) -> None:
    _refuse(transport, lacking_here(paths, environment=transport.environment))


def _refuse(transport: Transport, absent: Sequence[str]) -> None:
    if absent:
        raise OpsError(
            f"{' '.join(absent)} is not in the controller's store",
            machine=transport.machine.name,
            state="nothing was copied",
            next_step="Build it on the controller, or copy it there from where it was built.",
        )


@dataclass(frozen=True)
class _End:
    """A host that Nix's ssh connects to in a copy.

    :param boot_id: the id of the boot that Ansible's connection reaches.
    """

    transport: Transport
    route: SshRoute
    boot_id: str


def _copy_closure(ends: Sequence[_End], command: list[str], progress: Progress, on_line: LineSink) -> Completed:
    def read(line: str) -> None:
        progress.read(line)
        on_line(routes.shown(line))

    transport = ends[-1].transport
    with routes.environment({end.transport.machine.name: end.route for end in ends}) as variables:
        for end in ends:
            _prove_machine(end.transport, end.route, end.boot_id)
        env = {**transport.environment, **variables}
        known = children.children()
        try:
            watch = _watch(transport.limits, on_line)
            return nix.run(command, env=env, on_stdout=read, on_stderr=read, watch=watch)
        except Overdue as late:
            # Nix may leave its ssh.
            children.end(known)
            raise ConnectionLost(str(late), next_step=_STALLED_NEXT) from late


def _watch(limits: Limits, on_line: LineSink) -> Watch:
    """Return a watch that ends a copy without progress, and says while it lasts what is waited for."""
    deadline = time.monotonic() + limits.seconds
    pids: list[int] = []
    heartbeat = Heartbeat(_WHAT, on_line, lambda: _done(children.written(pids[0])))
    progress = Stall(lambda: children.moved(pids[0]), limits.stall)
    seen = 0

    def look(pid: int, printed: int) -> None:
        nonlocal seen
        pids[:] = [pid]
        why = progress.problem()
        if time.monotonic() > deadline:
            why = f"it has not ended within {limits.seconds:.0f} seconds"
        if printed > _LARGEST_OUTPUT:
            why = f"it has printed more than {_LARGEST_OUTPUT // 2**20} MiB"
        if why:
            raise Overdue(_WHAT, why)
        if printed != seen:
            seen = printed
            heartbeat.restart()
        heartbeat.beat()

    return look


def _done(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:.0f} MiB done"


def _copied(transport: Transport, paths: Sequence[str], progress: Progress) -> Copied:
    # A machine can write any line among those of Nix, so only paths of the closures count.
    closures = set(nix.requisites(paths, env=transport.environment)) if progress.copied else ()
    copied = [path for path in dict.fromkeys(progress.copied) if path in closures]
    return Copied(tuple(copied), nix.sizes(copied, env=transport.environment))


def _push_file(transport: Transport, paths: Sequence[str], gc_root: str | None, on_line: LineSink) -> Copied:
    lacking = missing_closures(transport, paths, gc_root=gc_root)
    if not lacking:
        return Copied((), 0)
    on_line(f"copying {len(lacking)} paths as a file...")
    with tempfile.TemporaryDirectory(prefix="nix-ops-export-") as directory:
        local = Path(directory) / "closure"
        # To a file, since a closure can be larger than the memory.
        done = nix.export(lacking, local, environment=transport.environment)
        if done.exit_code != 0:
            raise _failure(done, None, "the closure could not be exported from the controller's store")
        for path in lacking:
            on_line(f"copying path '{path}'...")
        remote = _temporary(transport.visitor)
        try:
            transport.files.put(str(local), f"{remote}/closure")
            # Nothing is heard of an import until it ends.
            within = transport.limits.stall + local.stat().st_size / _SLOWEST_IMPORT
            imported = transport.machine.run(
                "store/import", f"{remote}/closure", within=within, awaits="the import of the closure"
            )
        finally:
            transport.visitor.tidy("store/temporary", "remove", remote)
    if imported.exit_code != 0:
        raise _failure(imported, transport.machine.name, "the closure could not be imported on the machine")
    answer.read(imported.stdout, {}, transport.machine.name)
    return Copied(tuple(lacking), nix.sizes(lacking, env=transport.environment))


def _pull_file(transport: Transport, paths: Sequence[str], on_line: LineSink) -> Copied:
    lacking = lacking_here(_requisites_there(transport, paths), environment=transport.environment)
    on_line(f"copying {len(lacking)} paths as a file...")
    remote = _temporary(transport.visitor)
    try:
        transport.machine.ask(
            *("store/export", f"{remote}/closure"),
            data="\n".join(lacking),
            within=transport.limits.seconds,
            awaits="the export of the closure",
        )
        with tempfile.TemporaryDirectory(prefix="nix-ops-export-") as directory:
            local = Path(directory) / "closure"
            transport.files.fetch(f"{remote}/closure", str(local))
            exported.check(local, paths, transport.machine.name)
            done = nix.import_file(local, environment=transport.environment)
    finally:
        transport.visitor.tidy("store/temporary", "remove", remote)
    if done.exit_code != 0:
        raise _failure(done, transport.machine.name, "the closure could not be imported into the controller's store")
    return Copied(tuple(lacking), nix.sizes(lacking, env=transport.environment))


def _requisites_there(transport: Transport, paths: Sequence[str]) -> tuple[str, ...]:
    """Return the closures of paths in the host's store."""
    told = transport.machine.ask(
        "store/requisites",
        schema={"path": answer.STORE_PATHS},
        data="\n".join(nix.store_paths(paths)),
        awaits="the closures in its store",
    )
    return told.all("path")


def _temporary(machine: Machine) -> str:
    """Make a directory on a host that only the connection's user can write to.

    Ansible writes its path into a batch of sftp, where a line break would start a command on the controller.

    :raises OpsError: if the host's answer is not such a directory.
    """
    parent = machine.environment.get("TMPDIR") or "/tmp"
    if not _PLAIN_DIRECTORY.fullmatch(parent):
        raise OpsError(
            f"TMPDIR of the machine is {parent!r}, which is not a plain absolute path",
            machine=machine.name,
            state=_UNTOUCHED,
            next_step="Set TMPDIR to an absolute path of letters, digits and . _ - / only.",
        )
    made = re.compile(re.escape(f"{parent.rstrip('/')}/nix-ops-closure.") + "[A-Za-z0-9]{6}")
    schema = {"directory": Key(made, required=True)}
    told = machine.ask("store/temporary", "make", parent, schema=schema, awaits="a directory for the closure")
    return told.all("directory")[0]


def _without_signatures(machine: str) -> OpsError:
    return OpsError(
        "a copy as a file has no signatures",
        machine=machine,
        state="nothing was copied",
        next_step="Let sudo ask for no password there, so that Nix itself copies. If you trust the machine with what"
        " the controller runs and deploys, set 'require_signatures' to false.",
    )


def _failure(done: Completed, machine: str | None, what: str, *, was_shown: bool = False) -> OpsError:
    next_step = (
        "Correct what the lines above name, then run the same again. Paths that have arrived are not copied twice."
    )
    if _UNSIGNED.search(done.stderr):
        next_step = _UNSIGNED_NEXT
    elif helps := nix.what_helps(done.stderr):
        next_step = helps
    return OpsError(
        what,
        machine=machine,
        output=done.stderr,
        state=_UNTOUCHED,
        next_step=next_step,
        exit_code=done.exit_code,
        was_shown=was_shown,
    )
