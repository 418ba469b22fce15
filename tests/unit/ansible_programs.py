# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible's programs many times for one import of Ansible, which costs more than most of their runs.

Run as a program it reads requests, each a line of JSON, forks for each and answers with the exit code. Ansible reads
most settings when it is imported, so that a run has the ``ANSIBLE_*`` variables that this program was started with.
Those of ssh are read when a connection is made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

PROGRAMS = ("ansible", "ansible-inventory", "ansible-playbook")


class AnsiblePrograms:
    """Runs ansible, ansible-inventory and ansible-playbook.

    :param environment: the variables that it is started with.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        self._settings = _settings(environment)
        self._directory = directory
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fits(self, environment: Mapping[str, str], directory: Path) -> bool:
        """Whether a run there has the settings that Ansible was imported with."""
        return _settings(environment) == self._settings and not (directory / "ansible.cfg").exists()

    def run(
        self, words: list[str], environment: Mapping[str, str], directory: Path
    ) -> subprocess.CompletedProcess[str]:
        """Run a program, which is the first of the words, to its end."""
        output, errors = self._directory / "stdout", self._directory / "stderr"
        request = {
            "words": words,
            "environment": dict(environment),
            "directory": str(directory),
            "output": str(output),
            "errors": str(errors),
        }
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        answer = self._server.stdout.readline()
        return subprocess.CompletedProcess(words, int(answer), output.read_text(), errors.read_text())

    def close(self) -> None:
        """End the program."""
        self._server.communicate()


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith("ANSIBLE_") and not name.startswith("ANSIBLE_SSH_")
    }


def _serve() -> None:
    # What is imported here, no run has to import.
    from ansible.cli import adhoc, inventory, playbook  # noqa: PLC0415
    from ansible.plugins.loader import init_plugin_loader, inventory_loader  # noqa: PLC0415

    init_plugin_loader()
    inventory_loader.get("nix.ops.network")
    mains = {"ansible": adhoc.main, "ansible-inventory": inventory.main, "ansible-playbook": playbook.main}
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(request, mains[request["words"][0]])
        _pid, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(request: dict[str, object], main: object) -> None:
    code = 70
    try:
        for number, name in ((1, "output"), (2, "errors")):
            os.dup2(os.open(str(request[name]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
        os.chdir(str(request["directory"]))
        os.environ.clear()
        os.environ.update(request["environment"])  # type: ignore[call-overload]
        sys.argv = [*request["words"]]  # type: ignore[misc]
        code = int(main() or 0)  # type: ignore[operator]
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # The parent has to be told of whatever ended the run.
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
