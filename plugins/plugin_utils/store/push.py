# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pushes closures of the controller's store to a binary cache, from which machines take them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from ansible_collections.nix.ops.plugins.plugin_utils import nix
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.nix import Progress
from ansible_collections.nix.ops.plugins.plugin_utils.process import LineSink, Watch
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Heartbeat, Overdue

_SCHEMES = ("file", "http", "https", "s3")

_STATE = "the paths are in the controller's store, and no machine was touched"

# What Nix says of a cache or a key, and what helps.
_TROUBLES = {
    "HTTP error 40[13]|AccessDenied|Access Denied|InvalidAccessKeyId|SignatureDoesNotMatch|AWS.*credentials": (
        "Let this user write there: with a 'netrc-file' of Nix for HTTP, with AWS_PROFILE or AWS_ACCESS_KEY_ID for S3."
    ),
    "HTTP error (?:404|405|501)": "Name a server that takes uploads (HTTP PUT) at this address.",
    "[Ss]ecret key|key is corrupt|key is not valid|invalid base-64": (
        "Give a secret key: nix-store --generate-binary-cache-key NAME SECRET-FILE PUBLIC-FILE"
    ),
    "[Cc]onnect|resolve|[Tt]imed out|[Tt]imeout": "Check that the cache runs, and can be reached from the controller.",
    "Permission denied|Read-only file system": "Let this user write there.",
}
_NEXT = "Correct what the lines above name, or deploy without the cache ('push_to', deploy_push_to)."


@dataclass(frozen=True)
class BinaryCache:
    """A binary cache to push to.

    :param url: its address, as Nix takes it.
    :param key_file: a file with the secret key that signs what is pushed; None to sign nothing.
    """

    url: str
    key_file: str | None = None

    def address(self) -> str:
        """Return the address for Nix, with the key.

        :raises OpsError: if the address or the key file is not valid.
        """
        parts = urlsplit(self.url)
        if parts.scheme not in _SCHEMES or not (parts.netloc or parts.path):
            schemes = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
            raise _invalid(f"{self._shown()} is not the address of a binary cache", f"Give one that begins {schemes}.")
        if "@" in parts.netloc:
            # Every user of the controller sees the words of a command.
            raise _invalid(
                f"the address of the cache {self._shown()} contains a name or password",
                "Write them into a file as netrc(5) describes, and name the file by 'netrc-file' in nix.conf.",
            )
        if self.key_file is None:
            return self.url
        if re.search("(?:^|&)secret-key=", parts.query):
            raise _invalid(f"the address {self._shown()} has a secret key, too", "Leave one of them out.")
        if not os.access(self.key_file, os.R_OK) or not Path(self.key_file).is_file():
            raise _invalid(f"the secret key {self.key_file} can't be read", "Correct the path ('push_key_file').")
        return f"{self.url}{'&' if parts.query else '?'}secret-key={quote(os.path.abspath(self.key_file), safe='/')}"

    def _shown(self) -> str:
        return re.sub("//[^/]*@", "//", self.url.partition("?")[0])

    def push(
        self, paths: Sequence[str], *, seconds: float, environment: Mapping[str, str], on_line: LineSink
    ) -> tuple[str, ...]:
        """Copy closures from the controller's store to the cache.

        :param seconds: seconds until a push that still runs is ended. Nix itself ends one that stalls.
        :param environment: variables for Nix.
        :returns: the paths that the cache lacked.
        :raises OpsError: if that fails.
        """
        argv = ["nix", "--extra-experimental-features", "nix-command", "copy", "--verbose", "--to", self.address()]
        progress = Progress()

        def read(line: str) -> None:
            progress.read(line)
            on_line(line)

        on_line(f"pushing to {self._shown()}...")
        try:
            watch = _watch(f"the push to {self._shown()}", seconds, on_line, progress)
            done = nix.run([*argv, *nix.store_paths(paths)], env=environment, on_stderr=read, watch=watch)
        except Overdue as late:
            raise OpsError(
                f"{self._shown()}: {late}", state=_STATE, next_step="Give it more time ('copy_timeout')."
            ) from late
        if done.exit_code != 0:
            helps = [text for said, text in _TROUBLES.items() if re.search(said, done.stderr)][:1]
            raise OpsError(
                f"the systems could not be pushed to the binary cache {self._shown()}",
                output=done.stderr,
                state=_STATE,
                next_step=" ".join([*helps, _NEXT]),
                exit_code=done.exit_code,
                was_shown=True,
            )
        return tuple(dict.fromkeys(progress.copied))


def _watch(what: str, seconds: float, on_line: LineSink, progress: Progress) -> Watch:
    """Return a watch that says while the push lasts what is waited for, and ends it at its deadline."""
    deadline = time.monotonic() + seconds
    heartbeat = Heartbeat(what, on_line, progress.latest)

    def look(_pid: int, _printed: int) -> None:
        if time.monotonic() > deadline:
            raise Overdue(what, f"it has not ended within {seconds:.0f} seconds")
        heartbeat.beat()

    return look


def _invalid(what: str, next_step: str) -> OpsError:
    return OpsError(what, state="nothing was built", next_step=next_step)
