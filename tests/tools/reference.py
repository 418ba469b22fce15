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
    """Return the text of the page. A playbook takes the variables of the role of its name, beside its own."""
    own = specification("playbooks")
    roles = {path.name: specification(f"roles/{path.name}") for path in sorted((CHECKOUT / "roles").iterdir())}
    playbooks = [path.stem for path in sorted((CHECKOUT / "playbooks").glob("*.yml"))]
    parts = [HEAD, "## Playbooks\n"]
    for name in playbooks:
        role = roles.get(name, {}).get("main")
        described = own[name] if name in own else roles[name]["main"]
        parts += [f"### nix.ops.{name}\n", f"{_text(described['description'])}\n"]
        if name in own:
            parts += _table(own[name]["options"])
        if name in own and role:
            parts.append("For each machine, as in the role:\n")
        if role:
            parts += _table(role["options"])
    parts.append("## Roles\n")
    for role_name, entries in roles.items():
        parts.append(f"### {role_name}\n")
        for name, entry in entries.items():
            parts.append(f"{_entry_point(role_name, name)} {_text(entry['description'])}\n")
            if role_name in playbooks and name == "main":
                parts.append(f"Its variables are above, at [nix.ops.{role_name}](#nixops{role_name}).\n")
            else:
                parts += _table(entry["options"])
    return "\n".join(parts)


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
    return re.sub(r"\b[CEVM]\((.*?)\)", r"`\1`", text)


if __name__ == "__main__":
    main()
