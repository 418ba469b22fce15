# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluates the systems of a network once: as a deploy does, or in one process of Nix with its own heap."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ansible_collections.nix.ops.plugins.plugin_utils.network import evaluation, evaluator
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network


def evaluate(how: str, file: str, nixpkgs: str) -> None:
    """Evaluate the systems.

    :param how: ``nix.ops`` or ``plain``.
    """
    network = Network("bench", "bench", (file,), nix_path=(f"nixpkgs={nixpkgs}",))
    if how == "nix.ops":
        evaluation.instantiate(network, list(evaluation.definitions(network).definitions))
        return
    with tempfile.NamedTemporaryFile("w", suffix=".json") as inputs:
        question = evaluation._question(network, None, 10**6, {}, {})
        json.dump({**question.inputs(), "bounds": None}, inputs)
        inputs.flush()
        own = Path(evaluator.NIX, "evaluation.nix")
        command = ["nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", "-I", f"nixpkgs={nixpkgs}"]
        subprocess.run([*command, str(own), "--argstr", "inputs", inputs.name], check=True)


if __name__ == "__main__":
    evaluate(*sys.argv[1:])
