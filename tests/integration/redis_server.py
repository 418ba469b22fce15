# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis server of a test's own, in which a project keeps its facts."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.project import OTHERS, Project

PASSWORD = "open-sesame-47"


@dataclass
class Redis:
    """A Redis server of this test's own, with a password."""

    directory: Path
    port: int
    address: str = "127.0.0.1"
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = ["--port", str(self.port), "--bind", self.address, "--requirepass", PASSWORD, "--appendonly", "yes"]
        # Kept where the next start finds it.
        self.process = subprocess.Popen(
            ["redis-server", *words, "--dir", str(self.directory)], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((self.address, self.port)).close()
                return
            except ConnectionRefusedError:
                assert time.monotonic() < deadline and self.process.poll() is None, "the server does not answer"
                time.sleep(0.02)

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def serve(self, project: Project, password: str = PASSWORD) -> None:
        """Have a project keep its facts there."""
        project.environment |= {
            "ANSIBLE_COLLECTIONS_PATH": f"{os.environ['ANSIBLE_COLLECTIONS_PATH']}:{OTHERS}",
            "ANSIBLE_CACHE_PLUGIN": "community.general.redis",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": f"{self.address}:{self.port}:0:{password}",
        }


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis server that runs."""
    with serving(tmp_path_factory.mktemp("redis")) as server:
        yield server


@contextmanager
def serving(directory: Path, address: str = "127.0.0.1") -> Iterator[Redis]:
    """Run a Redis server at an address of this computer."""
    with socket.create_server((address, 0)) as free:
        port = free.getsockname()[1]
    server = Redis(directory, port, address)
    server.start()
    try:
        yield server
    finally:
        server.stop()
