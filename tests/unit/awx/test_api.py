# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The address and the login of AWX, and its answers."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.awx.api import Api
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

LOGIN = {"CONTROLLER_OAUTH_TOKEN": "token"}


@pytest.mark.parametrize(
    "host",
    ["https://user:hidden@awx", "user:hidden@awx", "ftp://user:hidden@awx", "https://awx:hidden", "https://[hidden"],
)
def test_an_address_that_is_not_valid_is_not_shown(host: str) -> None:
    with pytest.raises(OpsError, match="CONTROLLER_HOST is not an address") as refused:
        Api({**LOGIN, "CONTROLLER_HOST": host})
    assert "hidden" not in str(refused.value)


def test_whether_certificates_are_checked_is_true_or_false() -> None:
    Api({**LOGIN, "CONTROLLER_HOST": "awx", "CONTROLLER_VERIFY_SSL": "no"})
    with pytest.raises(OpsError, match="CONTROLLER_VERIFY_SSL is 'perhaps', and has to be true or false"):
        Api({**LOGIN, "CONTROLLER_HOST": "awx", "CONTROLLER_VERIFY_SSL": "perhaps"})


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_login_does_not_follow_to_another_address(method: str) -> None:
    asked: list[str] = []

    class Redirecting(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            asked.append(self.path)
            self.send_response(301)
            self.send_header("Location", "/other/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = _answer

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = Api({**LOGIN, "CONTROLLER_HOST": f"http://127.0.0.1:{server.server_address[1]}"})
        with pytest.raises(OpsError, match=f"AWX redirects {method} projects/.*\n.*https://"):
            api.get("projects/") if method == "GET" else api.post("projects/", {})
        server.shutdown()
    assert asked == ["/api/v2/projects/"]
