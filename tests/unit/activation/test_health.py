# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a machine healthy: what is refused, and what the controller asks of the network."""

from __future__ import annotations

import itertools
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.activation import health
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import ConnectionLost, Machine, Wait
from ansible_collections.nix.ops.plugins.plugin_utils.process import Completed
from answers import answered


def http(url: str, **more: object) -> dict[str, object]:
    """A check of a URL, as the module's options give it."""
    return {"url": url, "status": [200], "contains": None, "headers": {}, "validate_certs": True, **more}


class Answers(BaseHTTPRequestHandler):
    """Answers with the status of its path, and moves whoever asks for /moved."""

    def do_GET(self) -> None:
        """Answer."""
        status = 301 if self.path == "/moved" else int(self.path[1:])
        self.send_response(status)
        if status == 301:
            self.send_header("Location", "/200")
        self.end_headers()
        self.wfile.write(f"this is {self.headers.get('X-Word', 'an answer')}".encode())

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


class Drips(socketserver.BaseRequestHandler):
    """Answers a byte at a time, so that no single one is late."""

    def handle(self) -> None:
        """Answer."""
        with suppress(OSError):
            for byte in itertools.chain(b"HTTP/1.0 200 OK\r\n", itertools.repeat(ord("x"))):
                self.request.sendall(bytes([byte]))
                time.sleep(0.2)


def test_an_answer_that_drips_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_CONNECT", 1.0)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drips) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        checks = health.Checks(http=(health.Http(f"http://127.0.0.1:{server.server_address[1]}/"),), deadline=2)
        began = time.monotonic()
        [problem] = health.check(checks, machine(""), None, on_line=lambda _line: None)
        server.shutdown()
    assert time.monotonic() - began < 6
    assert ": no answer within " in problem


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A web server's URL."""
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def machine(*answers: str) -> Machine:
    """A machine that gives these answers to its looks, the last one for ever."""
    left = list(answers)

    def execute(command: str, _stdin: bytes, _wait: Wait) -> Completed:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if answer == "lost":
            raise ConnectionLost("the connection is gone")
        return Completed((command,), 0, answered(answer), "")

    return Machine("target", execute, {})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"units": ["-x"]}, "'-x.service' is not a valid name of a unit"),
        ({"units": ["a b"]}, "not a valid name of a unit"),
        ({"tcp": [0]}, "0 is not a TCP port"),
        ({"tcp": [65536]}, "65536 is not a TCP port"),
        ({"http": [http("ftp://host/")]}, "'ftp://host/' is not an HTTP URL"),
        ({"http": [http("file:///etc/passwd")]}, "is not an HTTP URL"),
        ({"successes": 0}, "successes is 0, and has to be at least 1"),
        ({"deadline": 0}, "deadline is 0"),
        ({"units": ["one"], "stable": 60}, "can't stay active for 60 seconds within 60"),
    ],
)
def test_checks_that_make_no_sense_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(OpsError, match="health checks: ") as refused:
        health.read(options)
    assert says in str(refused.value)


def test_nothing_to_check_is_no_check() -> None:
    assert not health.read({})
    assert not health.read({"units": [], "deadline": 5})
    assert health.read({"units": ["nginx", "a.socket"]}).units == ("nginx.service", "a.socket")


def test_a_machine_gets_well() -> None:
    lines: list[str] = []
    checks = health.Checks(units=("a.service",), interval=0, deadline=5)
    ill = "amiss a.service is activating (auto-restart)\n"
    assert health.check(checks, machine(ill, ill, "lost", ""), None, on_line=lines.append) == ()
    assert lines == [
        "checking its health...",
        "not healthy yet: a.service is activating (auto-restart)",
        "not healthy yet: the machine did not answer: the connection is gone",
        "it is healthy",
    ]


def test_a_check_that_flaps_is_not_enough_where_more_are_wanted() -> None:
    flaps = ["", "amiss command 'x': exit code 1: \n"] * 100
    once = health.Checks(commands=("x",), interval=0, deadline=1)
    assert health.check(once, machine(*flaps), None, on_line=lambda _line: None) == ()
    thrice = health.Checks(commands=("x",), interval=0, deadline=1, successes=3)
    assert health.check(thrice, machine("amiss y\n"), None, on_line=lambda _line: None) == ("y",)
    assert health.check(thrice, machine(*flaps, "amiss y\n"), None, on_line=lambda _line: None) == ("y",)
    assert health.check(thrice, machine(*flaps, ""), None, on_line=lambda _line: None) == ()


@pytest.mark.parametrize(
    ("path", "more", "says"),
    [
        ("/200", {}, None),
        ("/200", {"contains": "this is"}, None),
        ("/200", {"contains": "a secret", "headers": {"X-Word": "a secret"}}, None),
        ("/200", {"contains": "nowhere"}, "does not contain 'nowhere'"),
        ("/404", {}, "status 404"),
        ("/404", {"status": [200, 404]}, None),
        ("/503", {}, "status 503"),
        ("/moved", {}, None),
        ("/moved", {"status": [301]}, None),
    ],
)
def test_a_url(server: str, path: str, more: dict[str, object], says: str | None) -> None:
    checks = health.read({"http": [http(server + path, **more)], "deadline": 1})
    amiss = health.check(checks, machine(""), None, on_line=lambda _line: None)
    assert amiss == () if says is None else says in amiss[0]


def test_a_port(server: str) -> None:
    port = int(server.rpartition(":")[2])
    checks = health.Checks(tcp=(port,), deadline=1)
    assert health.check(checks, machine(""), "127.0.0.1", on_line=lambda _line: None) == ()
    assert "no address" in health.check(checks, machine(""), None, on_line=lambda _line: None)[0]
    closed = health.Checks(tcp=(1,), deadline=1)
    assert health.check(closed, machine(""), "127.0.0.1", on_line=lambda _line: None) == (
        "port 1 of 127.0.0.1: Connection refused",
    )


def test_a_url_that_nobody_answers() -> None:
    checks = health.read({"http": [http("http://127.0.0.1:1/")], "deadline": 1})
    assert "Connection refused" in health.check(checks, machine(""), None, on_line=lambda _line: None)[0]
