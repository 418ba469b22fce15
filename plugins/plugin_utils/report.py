# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows what happens while it happens, and what was found out, and writes that to files."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path

from ansible import constants
from ansible.utils.display import Display

from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.runner import LineSink

# Python holds lines back when its output goes to a pipe, Ansible does not flush, and only the
# process that imports plugins writes: there each line is to leave at once.
if isinstance(sys.stdout, TextIOWrapper):
    sys.stdout.reconfigure(line_buffering=True)


def live(name: str, *, silent: bool) -> LineSink:
    """A sink that shows lines live, prefixed ``name> ``.

    :param silent: show nothing, as ``no_log`` demands.
    """

    def sink(line: str) -> None:
        if not silent:
            show(f"{name}> {line}")

    return sink


def show(text: str) -> None:
    """Show a text. Where a callback writes JSON to standard output, it goes to standard error."""
    Display().display(text, stderr="json" in str(constants.DEFAULT_STDOUT_CALLBACK))


def write(path: str, text: str) -> None:
    """Write a text to a file of the user's choice.

    :raises OpsError: where it can't be written.
    """
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OpsError(
            f"{path} can't be written", output=str(error), next_step="Name a file that you may write."
        ) from error
