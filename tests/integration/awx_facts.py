# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX does with the facts of a job's hosts before and after it (awx/main/tasks/facts.py).

The store is a directory with a file for each host, in the place of AWX's database.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

_SUMMARY = "host_cache_summary.json"


def deliver(store: Path, directory: Path, hosts: Iterable[str]) -> None:
    """Put the stored facts of hosts where a job finds them, under their names.

    :param directory: the fact cache of the job, ``artifacts/JOB/fact_cache``.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    delivered = {}
    for host in hosts:
        delivered[host] = (store / host).exists()
        if delivered[host]:
            file = directory / host
            file.touch(mode=0o600)
            file.write_text((store / host).read_text(encoding="utf-8"), encoding="utf-8")
            # Older than anything that the job writes, also where times are rounded.
            modified = file.stat().st_mtime - 2
            os.utime(file, (modified, modified))
    (directory.parent / _SUMMARY).write_text(json.dumps(delivered), encoding="utf-8")


def collect(store: Path, directory: Path, hosts: Iterable[str]) -> dict[str, str]:
    """Store what a job has written; a file that was delivered and is gone means that the facts were cleared.

    :returns: for each host ``updated``, ``cleared`` or ``unmodified``.
    """
    summary = directory.parent / _SUMMARY
    delivered = json.loads(summary.read_text(encoding="utf-8"))
    store.mkdir(exist_ok=True)
    done = {}
    for host in hosts:
        file = directory / host
        done[host] = "unmodified"
        if file.is_file() and not file.is_symlink():
            if file.stat().st_mtime >= summary.stat().st_mtime:
                facts = json.loads(file.read_text(encoding="utf-8"))
                if not (store / host).exists() or facts != json.loads((store / host).read_text(encoding="utf-8")):
                    (store / host).write_text(json.dumps(facts), encoding="utf-8")
                    done[host] = "updated"
        elif delivered[host]:
            (store / host).write_text("{}", encoding="utf-8")
            done[host] = "cleared"
    return done
