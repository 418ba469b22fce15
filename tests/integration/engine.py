# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Activates systems on a live machine with the engine alone: over ssh, and without a run of Ansible."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ansible_collections.nix.ops.plugins.module_utils.argument_specs import NIXOS_ACTIVATE
from ansible_collections.nix.ops.plugins.plugin_utils.activation import health, protocol, reboot
from ansible_collections.nix.ops.plugins.plugin_utils.activation.protocol import Access, Activation, ActivationFailed
from ansible_collections.nix.ops.plugins.plugin_utils.deployment import record
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Activated
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import description
from ansible_collections.nix.ops.plugins.plugin_utils.machine import host as machines
from ansible_collections.nix.ops.plugins.plugin_utils.machine.description import Standing
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Wait
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed, LineSink
from fleet import Machine
from integration.outside import stands
from integration.project import NIXPKGS, TESTS
from integration.tasks import nix, put

# The deployment that all activations are of.
UUID = "11111111-2222-4333-8444-555555555555"

# The names of two systems between which a machine of many tests goes to and fro.
SETTLED = ("even", "odd")

# What a deploy says at its end.
DONE = "activation finished successfully"

_GUARD = Path(protocol.__file__).parents[1] / "network" / "boot-guard.nix"
_OPTIONS: Any = NIXOS_ACTIVATE["argument_spec"]
_DEFAULTS = {name: option.get("default") for name, option in _OPTIONS.items()}

# An activation that has not ended after so many seconds never does.
_OVERDUE = 240.0

# Forked, so that a controller that is killed costs no start of Python.
_PROCESSES = multiprocessing.get_context("fork")


def build_systems(directory: Path, systems: Mapping[str, str | tuple[str, str]]) -> dict[str, str]:
    """Build systems in one evaluation.

    :param systems: for each name lines of Nix, and what the unit ``one`` says where that is not the name.
    :returns: their toplevels by their names.
    """
    lines = []
    for name, described in systems.items():
        config, one = described if isinstance(described, tuple) else (described, name)
        module = f"{{ lib, pkgs, ... }}: {{ {config} }}"
        lines.append(f"  {json.dumps(name)} = {{ one = {json.dumps(one)}; module = {module}; }};")
    file = directory / "systems.nix"
    file.write_text("\n".join(["{", *lines, "}", ""]), encoding="utf-8")
    built = nix(
        *("nix-build", str(TESTS / "integration" / "systems.nix"), "--no-out-link", "--arg", "nixpkgs", str(NIXPKGS)),
        *("--arg", "guard", str(_GUARD), "--arg", "systems", str(file)),
    )
    found: dict[str, str] = json.loads(Path(built).read_text(encoding="utf-8"))
    return found


def wait_on(target: Machine, condition: str, what: str, seconds: int = 40) -> None:
    """Wait on a machine, past its network, until a line of shell is true.

    :raises AssertionError: where it is not in time.
    """
    waiting = ["timeout", str(seconds), "sh", "-c", f"until {condition}; do sleep 0.05; done"]
    assert target.run(waiting, check=False, timeout=seconds + 20).returncode == 0, f"in {seconds} s: {what}"


@dataclass(frozen=True)
class Ran:
    """An activation that was tried.

    :param activation: what is known of it; None where it was not begun, or its controller was killed.
    :param message: why it failed; None where it did not.
    :param lines: what was said while it happened.
    :param killed: whether its controller was killed.
    """

    activation: Activation | None
    message: str | None
    lines: tuple[str, ...]
    killed: bool = False

    @property
    def done(self) -> Activation:
        """The activation, which has to have succeeded."""
        assert not self.killed and self.message is None and self.activation is not None, self
        return self.activation

    @property
    def failed(self) -> str:
        """The message of an activation that has to have failed."""
        assert self.message is not None, self
        return self.message

    @property
    def undone(self) -> str:
        """The message of an activation that the machine has to have undone."""
        assert self.activation is not None and self.activation.rolled_back != "no", self
        assert "gone back to what ran before" in self.failed
        return self.failed

    @property
    def says(self) -> str | None:
        """What its controller says at last; None where it was killed."""
        return None if self.killed else self.message or DONE


class Running:
    """An activation whose controller is a process of its own."""

    def __init__(self, process: multiprocessing.process.BaseProcess, answers: Connection) -> None:
        self._process = process
        self._answers = answers
        self._lines: list[str] = []

    @property
    def pid(self) -> int:
        """The controller's process."""
        assert self._process.pid is not None
        return self._process.pid

    def read_until(self, text: str, seconds: float = 60) -> None:
        """Read what is said up to the line with this text, while the activation goes on.

        :raises AssertionError: where it ends before, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while self._answers.poll(max(0.0, deadline - time.monotonic())):
            answer = self._answers.recv()
            assert isinstance(answer, str), f"{text!r} was not said: {answer}"
            self._lines.append(answer)
            if text in answer:
                return
        raise AssertionError(f"{text!r} was not said in {seconds} s: {self._lines}")

    def kill(self) -> None:
        """Kill the controller and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()

    def finish(self, seconds: float = _OVERDUE) -> Ran:
        """Wait for its end."""
        deadline = time.monotonic() + seconds
        while self._answers.poll(max(0.0, deadline - time.monotonic())):
            try:
                answer = self._answers.recv()
            except EOFError:
                self._process.join()
                return Ran(None, None, tuple(self._lines), killed=True)
            if isinstance(answer, Ran):
                self._process.join()
                return replace(answer, lines=tuple(self._lines))
            self._lines.append(answer)
        self.kill()
        raise AssertionError(f"the activation has not ended in {seconds} s: {self._lines}")


class Controller:
    """Activates systems on a machine.

    :param target: the machine.
    :param become: whether commands there run as root through sudo.
    :param connect_timeout: for how many seconds one connection is tried.
    :param options: further options of ssh.
    """

    def __init__(
        self, target: Machine, *, become: bool = False, connect_timeout: int = 10, options: tuple[str, ...] = ()
    ) -> None:
        self.target = target
        self._become = become
        self._deadline = float("inf")
        self._identity = machines.Identity()
        # A socket's path has little room.
        self._sockets = Path(tempfile.mkdtemp(prefix="nix-ops-ssh-"))
        self._options = (f"ConnectTimeout={connect_timeout}", *options)

    def machine(self, environment: Mapping[str, str] | None = None) -> machines.Machine:
        """The machine behind the connection that all commands share."""
        return machines.Machine(self.target.name, self._execute, environment or {}, self._identity)

    def confirm(self, directory: str, word: str) -> None:
        """Answer an activation over a new connection."""
        self._fresh().ask("activation/acknowledge", directory, word)

    def confirm_boot(self, word: str) -> str:
        """Answer a machine that has booted over a new connection."""
        told = self._fresh().ask("activation/boot_acknowledge", word, schema=reboot.DECISION)
        return told.all("decision")[0]

    def standing(self) -> Standing:
        """What runs and boots, as the machine tells it."""
        return description.describe(self.machine()).standing

    def last_activation(self) -> Activated | None:
        """How the last activation ended, as the machine has noted it."""
        return record.read_last(self.standing().last_activation, UUID)

    def close(self) -> None:
        """End the shared connection."""
        self._drop()
        for socket in self._sockets.iterdir():
            socket.unlink(missing_ok=True)
        self._sockets.rmdir()

    def activate(self, toplevel: str, *, on_line: LineSink = lambda _line: None, **options: Any) -> Ran:
        """Activate a toplevel that is in the machine's store, to its end.

        :param options: those of nix.ops.nixos_activate that are not as they are by default.
        """
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            on_line(line)

        self._deadline = time.monotonic() + _OVERDUE
        unknown = options.keys() - {*_DEFAULTS, "environment"}
        assert not unknown, unknown
        chosen = {**_DEFAULTS, **options}
        machine = self.machine(chosen.get("environment"))
        checks = health.read(_checks(chosen["health_checks"]))
        check = partial(health.check, checks, machine, self.target.address, on_line=say) if checks else None
        try:
            done = protocol.activate(
                machine,
                protocol.Goal(toplevel, chosen["action"], chosen["profile"], chosen["generation"]),
                protocol.Policy(
                    chosen["rollback"] == "auto",
                    chosen["switch_timeout"],
                    chosen["confirm_timeout"],
                    chosen["failed_units"],
                    chosen["reboot"],
                    chosen["reboot_timeout"],
                    chosen["boot_timeout"],
                ),
                Access(self.confirm, self.confirm_boot, check, checks.deadline if checks else 0),
                holder=f"the tests (process {os.getpid()})",
                deployment=UUID,
                on_line=say,
                patience=chosen["reconnect_timeout"],
            )
        except ActivationFailed as failure:
            return Ran(failure.activation, str(failure), tuple(said))
        except (OpsError, ConnectionLost) as failure:
            return Ran(None, str(failure), tuple(said))
        finally:
            self._deadline = float("inf")
        return Ran(done, None, tuple(said))

    def start(self, toplevel: str, **options: Any) -> Running:
        """Begin to activate a toplevel in a process of its own."""
        answers, answering = _PROCESSES.Pipe(duplex=False)
        process = _PROCESSES.Process(target=self._activate_apart, args=(answering, toplevel, options))
        process.start()
        answering.close()
        return Running(process, answers)

    def _activate_apart(self, answering: Connection, toplevel: str, options: dict[str, Any]) -> None:
        # What it starts is killed with it.
        os.setsid()
        answering.send(self.activate(toplevel, on_line=answering.send, **options))

    def _fresh(self) -> machines.Machine:
        own = ("ControlMaster=no", "ControlPath=none")
        return machines.Machine(self.target.name, partial(self._execute, sharing=own), {}, self._identity)

    def _shared(self) -> tuple[str, ...]:
        return ("ControlMaster=auto", f"ControlPath={self._sockets}/%C", "ControlPersist=30s")

    def _execute(self, command: str, stdin: bytes, wait: Wait, sharing: tuple[str, ...] | None = None) -> Completed:
        assert time.monotonic() < self._deadline, f"the activation has not ended in {_OVERDUE:.0f} s"
        line = f"sudo -n -- {command}" if self._become else command
        argv = self._ssh(sharing or self._shared(), "--", line)
        late = threading.Timer(wait.seconds, self._drop) if wait.seconds else None
        if late:
            late.start()
        try:
            done = subprocess.run(argv, input=stdin, capture_output=True, check=False)
        finally:
            if late:
                late.cancel()
        said = done.stderr.decode(errors="surrogateescape")
        if done.returncode == 255:
            raise ConnectionLost(f"Failed to connect to the host via ssh: {said.strip()}")
        return Completed((command,), done.returncode, done.stdout.decode(errors="surrogateescape"), said)

    def _ssh(self, sharing: tuple[str, ...], *words: str) -> list[str]:
        keep_alive = ("ServerAliveInterval=5", "ServerAliveCountMax=3")
        settings = (*sharing, *self._options, "BatchMode=yes", *keep_alive)
        given = [word for setting in settings for word in ("-o", setting)]
        return ["ssh", "-F", str(self.target.ssh_config), *given, self.target.name, *words]

    def _drop(self) -> None:
        """End the shared connection; whoever waits for its answer is told at once."""
        argv = self._ssh(self._shared())
        subprocess.run([*argv[:-1], "-O", "exit", argv[-1]], capture_output=True, check=False)


def _checks(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Health checks with what a task's own would have by default."""
    pages = [
        {"status": [200], "contains": None, "headers": {}, "validate_certs": True, **one}
        for one in (given or {}).get("http", ())
    ]
    return {**(given or {}), "http": pages}


@contextmanager
def controlled(target: Machine, **options: Any) -> Iterator[Controller]:
    """A controller of a machine, whose connections are ended afterwards."""
    controller = Controller(target, **options)
    try:
        yield controller
    finally:
        controller.close()


def other(systems: Mapping[str, str], running: str) -> str:
    """Choose the settled system that does not run."""
    even, odd = (systems[name] for name in SETTLED)
    return odd if running == even else even


def settle(controller: Controller, systems: Mapping[str, str]) -> dict[str, Any]:
    """Have a machine run and boot a settled system; :returns: what is seen there."""
    seen = controller.target.inspect()
    if len(set(stands(seen))) > 1 or seen["running"] not in [systems[name] for name in SETTLED]:
        assert controller.activate(other(systems, "")).message is None
        seen = controller.target.inspect()
    return seen


def bring(controller: Controller, systems: Mapping[str, str]) -> None:
    """Bring systems to a machine past its network, and activate a settled one."""
    put(controller.target, *systems.values())
    settle(controller, systems)


def provide(target: Machine, directory: Path, systems: Mapping[str, str | tuple[str, str]]) -> dict[str, str]:
    """Build systems, bring them to a machine, and activate a settled one; :returns: as :func:`build_systems`."""
    built = build_systems(directory, systems)
    with controlled(target) as controller:
        bring(controller, built)
    return built
