# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes docs/reference.md: the variables of the playbooks and roles, from their specifications."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "reference.md"

# The role whose variables a playbook takes, beside its own.
ROLE_OF = {"deploy": "deploy"}
ROLES = ("deploy", "prepare", "build", "copy", "activate")

HEAD = """\
<!-- Made by "make reference" from the specifications of the playbooks and roles; do not edit. -->
# Reference

All variables of the playbooks and roles, with their defaults. Set those of a playbook with `-e` or under the
`import_playbook` of a playbook of yours. Those of machines and roles can also stand in `group_vars` and `host_vars`.

`ansible-doc nix.ops.nix_build` shows the options of a module, `ansible-doc -t inventory nix.ops.network` those of a
source.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def specification(place: str) -> dict[str, Any]:
    """Return the entry points of a role, or the playbooks."""
    text = (CHECKOUT / place / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text)["argument_specs"])


def page() -> str:
    """Return the text of the page."""
    playbooks = specification("playbooks")
    roles = {role: specification(f"roles/{role}") for role in ROLES}
    parts = [HEAD, "## Playbooks\n"]
    for name, entry in playbooks.items():
        parts += _section(f"nix.ops.{name}", entry)
        if role := ROLE_OF.get(name):
            parts += ["For each machine, as in the role:\n", *_table(roles[role]["main"]["options"])]
    parts.append("## Roles\n")
    for role, entries in roles.items():
        parts.append(f"### {role}\n")
        for name, entry in entries.items():
            parts.append(f"{_entry_point(role, name)} {_text(entry['description'])}\n")
            if role in ROLE_OF.values() and name == "main":
                parts.append(f"Takes the variables of [each machine](#nixops{role}) above.\n")
            else:
                parts += _table(entry["options"])
    return "\n".join(parts)


def _section(title: str, entry: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {title}\n"
    yield f"{_text(entry['description'])}\n"
    yield from _table(entry["options"])


def _entry_point(role: str, name: str) -> str:
    link = f"[{role}](../roles/{role}/README.md)"
    return f"{link}:" if name == "main" else f"{link}, entry point `{name}`:"


def _table(options: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if not options:
        yield "No variables.\n"
        return
    rows = ["| Variable | Meaning | Type | Default |", "|---|---|---|---|"]
    for name, option in options.items():
        cells = [f"`{name}`", _text(option["description"]), _type(option), _default(option)]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    yield "\n".join(rows) + "\n"


def _type(option: Mapping[str, Any]) -> str:
    kind = "any" if option["type"] == "raw" else str(option["type"])
    choices = ", ".join(f"`{choice}`" for choice in option.get("choices", ()))
    if kind == "list":
        return f"list of {choices or option['elements']}"
    return choices or kind


def _default(option: Mapping[str, Any]) -> str:
    if option.get("required"):
        return "required"
    value = option.get("default")
    if value is None or value in ("", [], {}):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _text(described: str | list[str]) -> str:
    """Return a description in Markdown."""
    text = described if isinstance(described, str) else " ".join(described)
    text = re.sub(r"P\(nix\.ops\.(\w+)#role\)", r"[\1](../roles/\1/README.md)", text)
    return re.sub(r"\b[CVM]\((.*?)\)", r"`\1`", text)


if __name__ == "__main__":
    main()
