# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Galaxy's own importer has nothing to say against the collection, and finds all that is in it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from integration.project import BIN

CHECKOUT = Path(__file__).parents[2]


def stems(pattern: str) -> set[str]:
    """The names of the checkout's files of this pattern, without what their names end in."""
    return {path.stem for path in CHECKOUT.glob(pattern)}


def test_galaxy_takes_the_collection(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "ANSIBLE_HOME": str(tmp_path / "ansible-home"),
        "GALAXY_IMPORTER_ANSIBLE_LOCAL_TMP": str(tmp_path / "ansible-tmp"),
        "TMPDIR": str(tmp_path),
    }

    def run(*words: str | Path) -> str:
        done = subprocess.run(
            [BIN / words[0], *words[1:]],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    run("ansible-galaxy", "collection", "build", "--output-path", tmp_path, CHECKOUT)
    [tarball] = tmp_path.glob("nix-ops-*.tar.gz")
    said = run("python", "-m", "galaxy_importer.main", tarball)
    complaints = [line for line in said.splitlines() if line.startswith(("WARNING", "ERROR", "CRITICAL"))]
    assert complaints == [], said
    # It warns, and goes on, where it misses these programs.
    assert "Getting doc strings via ansible-doc" in said
    assert "Linting collection via ansible-lint" in said

    result = json.loads((tmp_path / "importer_result.json").read_text())
    found: dict[str, set[str]] = {}
    for content in result["contents"]:
        found.setdefault(content["content_type"], set()).add(content["name"])
    assert found["module"] == stems("plugins/modules/*.py")
    assert found["inventory"] == stems("plugins/inventory/*.py")
    assert found["become"] == stems("plugins/become/*.py")
    assert found["role"] == stems("roles/*")
    assert found["playbook"] == {f"{name}.yml" for name in stems("playbooks/*.yml")}

    documented = {"module": "doc_strings", "inventory": "doc_strings", "become": "doc_strings", "role": "readme_html"}
    for content in result["docs_blob"]["contents"]:
        if content["content_type"] in documented:
            assert content[documented[content["content_type"]]], content["content_name"]
