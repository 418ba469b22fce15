# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guides: each link leads somewhere, and each page is in the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.reference import CHECKOUT

DOCS = CHECKOUT / "docs"
PAGES = [CHECKOUT / "README.md", *DOCS.glob("*.md"), *CHECKOUT.glob("roles/*/README.md")]


def prose(page: Path) -> str:
    """The text of a page without its examples."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def links_of(page: Path) -> set[str]:
    """The targets of a page's links to other pages and places in them."""
    return {link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in link}


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).replace("`", "").lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    for link in links_of(page):
        path, _hash, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_each_page_is_in_the_index_and_in_the_readme() -> None:
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert pages <= {link.partition("#")[0] for link in links_of(DOCS / "README.md")}
    listed = {link.partition("#")[0].removeprefix("docs/") for link in links_of(CHECKOUT / "README.md")}
    assert {*pages, "README.md"} <= listed
