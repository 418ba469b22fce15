# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talks to the API of AWX (version 2), with the address and the login of the environment, as awx.awx does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, urlencode, urlsplit

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.module_utils.urls import open_url

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

# Limits of what is read of one answer, and of the pages of one list.
_MOST_BYTES = 32 * 1024 * 1024
_MOST_PAGES = 1000
_PAGE = "200"

# Seconds for one answer.
_WITHIN = 30.0


class Refused(OpsError):
    """AWX answered a request with an error.

    :param status: the HTTP status.
    """

    def __init__(self, status: int, what: str, output: str, next_step: str) -> None:
        super().__init__(what, output=output or None, next_step=next_step)
        self.status = status


class Api:
    """The API of one AWX.

    :param environment: the variables CONTROLLER_HOST, CONTROLLER_OAUTH_TOKEN and so on; the older names TOWER_… too.
    :raises OpsError: if the address or the login is missing.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        host = self._setting("HOST")
        if not host:
            raise OpsError(
                "the address of AWX is missing: CONTROLLER_HOST is not set",
                state="nothing in AWX was touched",
                next_step="export CONTROLLER_HOST=https://awx.example.org CONTROLLER_OAUTH_TOKEN=…",
            )
        address = _address(host)
        self._server = f"{address.scheme}://{address.netloc}"
        prefix = environment.get("CONTROLLER_OPTIONAL_API_URLPATTERN_PREFIX") or "/api/"
        self._root = f"{address.path.rstrip('/')}/{prefix.strip('/')}/v2/"
        self._login = self._read_login()
        self._validate = self._read_validate()

    def _setting(self, name: str) -> str:
        return self._environment.get(f"CONTROLLER_{name}") or self._environment.get(f"TOWER_{name}") or ""

    def _read_validate(self) -> bool:
        value = self._setting("VERIFY_SSL") or "true"
        try:
            return bool(boolean(value))
        except TypeError as error:
            raise OpsError(
                f"CONTROLLER_VERIFY_SSL is {value!r}, and has to be true or false",
                state="nothing in AWX was touched",
                next_step="export CONTROLLER_VERIFY_SSL=true",
            ) from error

    def _read_login(self) -> dict[str, Any]:
        if token := self._setting("OAUTH_TOKEN"):
            return {"headers": {"Authorization": f"Bearer {token}"}}
        user, password = self._setting("USERNAME"), self._setting("PASSWORD")
        if user and password:
            return {"url_username": user, "url_password": password, "force_basic_auth": True}
        raise OpsError(
            "the login of AWX is missing: neither CONTROLLER_OAUTH_TOKEN is set,"
            " nor CONTROLLER_USERNAME and CONTROLLER_PASSWORD",
            state="nothing in AWX was touched",
            next_step="Make a token in AWX (your user's page, Tokens, scope Write): export CONTROLLER_OAUTH_TOKEN=…",
        )

    def get(self, path: str, **query: Any) -> Any:
        """Return the answer to a question.

        :param path: below ``/api/v2/``, or an absolute path of a link.
        """
        return self._request("GET", path, query=query)

    def text(self, path: str) -> str:
        """Return the output of a job."""
        return str(self._request("GET", path, query={"format": "txt"}, is_text=True))

    def all(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """Return all entries of a list."""
        page = self.get(path, page_size=_PAGE, **query)
        found = list(page["results"])
        for _page in range(_MOST_PAGES):
            if not page.get("next"):
                return found
            page = self.get(str(page["next"]))
            found += page["results"]
        raise OpsError(f"AWX has too many entries of {path}", next_step="Look at them in AWX.")

    def post(self, path: str, values: Mapping[str, Any]) -> Any:
        """Create an object, or do what the path says."""
        return self._request("POST", path, values)

    def patch(self, path: str, values: Mapping[str, Any]) -> Any:
        """Change an object."""
        return self._request("PATCH", path, values)

    def delete(self, path: str) -> None:
        """Remove an object."""
        self._request("DELETE", path)

    def _request(
        self,
        method: str,
        path: str,
        values: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        is_text: bool = False,
    ) -> Any:
        # A link of AWX is a path: it never leads to another server.
        url = self._server + (path if path.startswith("/") else self._root + path)
        if query:
            url += f"?{urlencode(query)}"
        login = {**self._login, "headers": {"Content-Type": "application/json", **self._login.get("headers", {})}}
        data = None if values is None else json.dumps(values)
        try:
            with open_url(
                url,
                method=method,
                data=data,
                timeout=_WITHIN,
                validate_certs=self._validate,
                # The login would go to the other address too, and what is written would be lost.
                follow_redirects="none",
                **login,
            ) as answer:
                content = answer.read(_MOST_BYTES).decode(errors="replace")
                return content if is_text else json.loads(content or "null")
        except HTTPError as error:
            raise _refused(method, path, error) from error
        except (OSError, ValueError) as error:
            raise OpsError(
                f"AWX at {self._server} does not answer {method} {path}",
                output=str(error),
                next_step="Check CONTROLLER_HOST, and that AWX is up.",
            ) from error
        except Exception as error:
            # Errors of certificates and addresses have types of their own.
            raise OpsError(
                f"AWX at {self._server} can't be reached", output=str(error), next_step="Check CONTROLLER_HOST."
            ) from error


def _address(host: str) -> SplitResult:
    try:
        address = urlsplit(host if "://" in host else f"https://{host}")
        is_valid = address.scheme in ("http", "https") and bool(address.hostname) and "@" not in address.netloc
        # Reading the port checks it.
        is_valid = is_valid and address.port != 0
    except ValueError:
        is_valid = False
    if is_valid:
        return address
    # The value is not shown: it may have a password.
    raise OpsError(
        "CONTROLLER_HOST is not an address without user and password",
        state="nothing in AWX was touched",
        next_step="export CONTROLLER_HOST=https://awx.example.org",
    )


def _refused(method: str, path: str, error: HTTPError) -> Refused:
    if error.code in range(300, 400):
        return Refused(
            error.code,
            f"AWX redirects {method} {path} to another address",
            "",
            "Set CONTROLLER_HOST to AWX's own address, with https:// instead of http://.",
        )
    try:
        content = error.read(_MOST_BYTES).decode(errors="replace")
    except (OSError, ValueError):
        content = ""
    try:
        told = json.loads(content)
    except ValueError:
        told = content[:2000]
    lines = [f"{name}: {_words(value)}" for name, value in told.items()] if isinstance(told, dict) else [str(told)]
    next_step = "Correct what AWX names above."
    if error.code == 401:
        next_step = "Check the token, or the user and the password: AWX does not know them, or the token has expired."
    if error.code == 403:
        next_step = "Use the token of an administrator of the organization."
    if error.code == 409:
        next_step = "Wait until the jobs that use it have ended, or cancel them."
    return Refused(error.code, f"AWX refuses {method} {path} ({error.code})", "\n".join(lines), next_step)


def _words(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
