# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes one JSON document to standard output at the end, as callbacks for programs do."""

from __future__ import annotations

DOCUMENTATION = r"""
name: json_document
type: stdout
short_description: One JSON document at the end
description: For each host and task whether it changed anything.
"""

import json

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Collects results and prints them at the end."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "json_document"

    def __init__(self):
        super().__init__()
        self._changed = {}

    def v2_runner_on_ok(self, result):
        changed = bool(result.result.get("changed"))
        self._changed.setdefault(result.host.get_name(), {})[result.task.name or result.task.get_name()] = changed

    def v2_playbook_on_stats(self, stats):
        self._display.display(json.dumps(self._changed))
