# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluates within bounds, so that it is known what was read and how long the answer is right."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ansible_collections.nix.ops.plugins.plugin_utils.network.bounds import Bounds, forbidden, misjudged
from ansible_collections.nix.ops.plugins.plugin_utils.network.cache import Kept
from ansible_collections.nix.ops.plugins.plugin_utils.network.checkouts import TooLarge
from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluator import Asked, NixFailure
from ansible_collections.nix.ops.plugins.plugin_utils.network.fingerprint import Reads, take_all

# A network that reads files in more places is evaluated without bounds.
_ATTEMPTS = 12

# The clock of file systems ticks in steps of up to 10 ms.
_TICK = 0.02


@dataclass(frozen=True)
class Outcome:
    """An answer of Nix.

    :param asked: the answer.
    :param bounds: what Nix had to read, as far as it could be allowed.
    :param reads: what the answer depends on within this run.
    :param kept: what to keep of it for later runs.
    """

    asked: Asked
    bounds: Bounds
    reads: Reads
    kept: Kept


def evaluate(
    ask: Callable[[Bounds | None], Asked],
    bounds: Bounds,
    last: Kept | None,
    environment: Mapping[str, str],
    *,
    is_kept: bool,
) -> Outcome:
    """Evaluate within bounds, or without them if Nix has to read more than can be allowed.

    If Nix lacks a file, the bounds are widened for another attempt.

    :param ask: asks Nix within bounds, or without.
    :param bounds: what Nix has to read, as far as that is known.
    :param last: what is kept of the last evaluation.
    :param environment: all variables of the evaluation.
    :param is_kept: whether the answer is kept for later runs. If not, checkouts of nixpkgs are not looked through.
    :raises OpsError: if Nix fails.
    """
    bounds = bounds.existing()
    is_volatile = not is_kept or (last is not None and last.is_volatile)
    is_refused = last is not None and last.is_refusal(environment)
    for _attempts in range(0 if is_refused else _ATTEMPTS):
        found = _attempt(ask, bounds, environment, is_volatile=is_volatile)
        if isinstance(found, Outcome):
            return found
        if found is None:
            break
        bounds = found
    asked = ask(None)
    reads = within_run(bounds, environment)
    return Outcome(asked, bounds, reads, Kept(reads))


def within_run(bounds: Bounds, environment: Mapping[str, str]) -> Reads:
    """Return what an answer without bounds depends on within a run, as far as that is known."""
    try:
        return take_all(bounds.subjects(nixpkgs=False), environment)
    except (OSError, TooLarge):
        return Reads(())


def _attempt(
    ask: Callable[[Bounds | None], Asked], bounds: Bounds, environment: Mapping[str, str], *, is_volatile: bool
) -> Outcome | Bounds | None:
    """Evaluate once.

    :param is_volatile: whether the answer will not be kept.
    :returns: the outcome, or wider bounds that Nix needs, or None if bounds do not help.
    """
    began = time.time()
    failed = False
    try:
        # Before the evaluation: what changes meanwhile has another fingerprint afterwards.
        before = take_all(bounds.subjects(nixpkgs=not is_volatile), environment)
    except (OSError, TooLarge):
        return None
    try:
        asked = ask(bounds)
        reports, refused = asked.reports, []
    except NixFailure as failure:
        failed = True
        reports, refused = failure.reports, forbidden(failure.output or "")
    missing = misjudged(reports, bounds)
    # Newer versions of Nix name the first directory on the way to a file.
    missing += [path for path in refused if not any(exact.startswith(f"{path}/") for exact in missing)]
    wider = bounds.allow(*missing)
    if missing or failed:
        return wider if wider != bounds else None
    reads = before + take_all([report for report in reports if report[0] in ("absent", "variable")], environment)
    kinds = {kind for kind, _subject in reports}
    if "volatile" in kinds or "scope" not in kinds:
        kept = Kept(is_volatile=True)
    elif is_volatile or reads.changed >= began - _TICK:
        kept = Kept()
    else:
        kept = Kept(reads, asked.answer, asked.messages)
    return Outcome(asked, bounds, reads, kept)
