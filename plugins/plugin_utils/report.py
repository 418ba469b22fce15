# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows what happens while it happens, a line at a time, each with the name of whom it is about."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from ansible import constants
from ansible.utils.display import Display

from ansible_collections.nix.ops.plugins.plugin_utils.runner import LineSink

# Python holds lines back when its output goes to a pipe, Ansible does not flush, and only the
# process that imports plugins writes: there each line is to leave at once.
if isinstance(sys.stdout, TextIOWrapper):
    sys.stdout.reconfigure(line_buffering=True)


def live(name: str, *, silent: bool) -> LineSink:
    """A sink that shows lines live, prefixed ``name> ``.

    Where a callback writes JSON to standard output, lines go to standard error.

    :param silent: show nothing, as ``no_log`` demands.
    """
    to_stderr = "json" in str(constants.DEFAULT_STDOUT_CALLBACK)

    def show(line: str) -> None:
        if not silent:
            Display().display(f"{name}> {line}", stderr=to_stderr)

    return show
