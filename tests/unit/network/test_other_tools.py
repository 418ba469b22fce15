# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks that the pages for users of other tools show evaluate as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluation import evaluate
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network
from networks.support import NIX_PATH, write

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(("tool", "machine", "key"), [("colmena", "web", "tls"), ("morph", "web.example.org", "tls")])
def test_a_network_of_another_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, machine: str, key: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    # The pages take nixpkgs from the search path.
    monkeypatch.setenv("NIX_PATH", NIX_PATH[0])
    [shown] = re.findall(r"```nix\n(.*?)```", (DOCS / f"from-{tool}.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "tls.pem").touch()
    files = tuple(map(str, write(tmp_path, n=shown)))
    found = evaluate(Network("shown", "11111111-2222-3333-4444-555555555555", files, nix_path=NIX_PATH)).definitions
    assert list(found) == [machine]
    assert found[machine].target_host == "web.example.org"
    assert [one.name for one in found[machine].keys] == [key]
