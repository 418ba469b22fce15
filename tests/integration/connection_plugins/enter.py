# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection that is not ssh and takes no standard input, into a machine of the fleet."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = r"""
name: enter
short_description: Enters a machine of the fleet, past its network
description: Runs commands in the machine's namespaces. It has no pipelining, as many connections have none.
options:
  enter_words:
    description: What stands before a command that is to run in the machine.
    type: list
    elements: str
    vars:
      - name: enter_words
  remote_user:
    description: The user of the connection.
    type: str
    default: root
"""


class Connection(ConnectionBase):
    """Commands in a machine's namespaces."""

    transport = "enter"
    has_pipelining = False

    def _connect(self):
        self._connected = True
        return self

    def exec_command(self, cmd, in_data=None, sudoable=True):
        """Run a command line in the machine."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        assert in_data is None
        done = self._run(["/bin/sh", "-c", cmd], b"")
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path, out_path):
        """Bring a file there."""
        self._run(["/bin/sh", "-c", 'cat >"$1"', "put", out_path], Path(in_path).read_bytes()).check_returncode()

    def fetch_file(self, in_path, out_path):
        """Bring a file from there."""
        done = self._run(["cat", in_path], b"")
        done.check_returncode()
        Path(out_path).write_bytes(done.stdout)

    def _run(self, words, stdin):
        return subprocess.run([*self.get_option("enter_words"), *words], input=stdin, capture_output=True, check=False)

    def close(self):
        """Nothing stays open."""
        self._connected = False
