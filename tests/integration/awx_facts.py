# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX does with the facts of a job's hosts before and after it (awx/main/tasks/facts.py).

The store is a directory with a file for each host, in the place of AWX's database.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Delivery:
    """The facts that a job got.

    :param directory: the fact cache of the job, ``artifacts/JOB/fact_cache``.
    :param hosts: for each host whether there were any.
    :param time: when it was, in seconds since the epoch.
    """

    directory: Path
    hosts: Mapping[str, bool]
    time: float


def deliver(store: Path, directory: Path, hosts: Iterable[str]) -> Delivery:
    """Put the stored facts of hosts where a job finds them, under their names."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = time.time()
    delivered = {}
    for host in hosts:
        delivered[host] = (store / host).exists()
        if delivered[host]:
            file = directory / host
            file.touch(mode=0o600)
            file.write_text((store / host).read_text(encoding="utf-8"), encoding="utf-8")
            # Older than anything that the job writes, also where times are rounded.
            os.utime(file, (now - 2, now - 2))
    return Delivery(directory, delivered, now)


def collect(store: Path, delivery: Delivery) -> dict[str, str]:
    """Store what a job has written; a file that was delivered and is gone means that the facts were cleared.

    :returns: for each host ``updated``, ``cleared`` or ``unmodified``.
    """
    store.mkdir(exist_ok=True)
    done = {}
    for host, delivered in delivery.hosts.items():
        file = delivery.directory / host
        done[host] = "unmodified"
        if file.is_file() and not file.is_symlink():
            if file.stat().st_mtime >= delivery.time:
                facts = json.loads(file.read_text(encoding="utf-8"))
                if not (store / host).exists() or facts != json.loads((store / host).read_text(encoding="utf-8")):
                    (store / host).write_text(json.dumps(facts), encoding="utf-8")
                    done[host] = "updated"
        elif delivered:
            (store / host).write_text("{}", encoding="utf-8")
            done[host] = "cleared"
    return done
