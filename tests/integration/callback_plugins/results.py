# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes each task's result to a file, a line of JSON each, so that tests can read them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: results
type: aggregate
short_description: Writes each task's result to a file
description: A line of JSON for each result, in the file that NIX_OPS_RESULTS names.
"""

import json
import os
from pathlib import Path

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Beside whatever callback shows the run."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "results"

    def _write(self, status, result):
        line = {
            "host": result.host.get_name(),
            # Without the name of the role.
            "task": result.task.name or result.task.get_name(),
            "status": status,
            "result": json.loads(json.dumps(dict(result.result), default=str)),
        }
        with Path(os.environ["NIX_OPS_RESULTS"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def v2_runner_on_ok(self, result):
        self._write("changed" if result.result.get("changed") else "ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._write("failed", result)

    def v2_runner_on_unreachable(self, result):
        self._write("unreachable", result)

    def v2_runner_on_skipped(self, result):
        self._write("skipped", result)
