# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows that the tests of what a deploy survives can fail: each deliberate defect has to turn its test red.

``defects.py [WORD…]`` tries those of tests/defects.toml whose fault has one of the words, or all.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Try the defects; :returns: how many of them no test has noticed."""
    defects = tomllib.loads((CHECKOUT / "tests" / "defects.toml").read_text(encoding="utf-8"))["defect"]
    chosen = [one for one in defects if not sys.argv[1:] or any(word in one["fault"] for word in sys.argv[1:])]
    unnoticed = 0
    with tempfile.TemporaryDirectory(prefix="nix-ops-defects-") as directory:
        copy = Path(directory, "checkout")
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        files = subprocess.run(listed, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.split("\0")
        for name in filter(None, files):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, copy / name)
        for defect in chosen:
            red = _is_red(copy, defect)
            unnoticed += not red
            print(f"{'red' if red else 'NOT NOTICED'}: {defect['fault']}", flush=True)
    return unnoticed


def bodies(text: str, name: str, *, python: bool) -> list[str]:
    """Find the functions of a name in a file's text.

    :param python: whether it is Python; otherwise it is shell, whose functions begin and end at a line's beginning.
    """
    if not python:
        return re.findall(rf"^{re.escape(name)}\(\) {{.*?^}}", text, re.MULTILINE | re.DOTALL)
    return [
        ast.get_source_segment(text, node) or ""
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]


def place_of(defect: dict[str, str], directory: Path) -> tuple[Path, str]:
    """Find where a defect is: the file, and the function's own text.

    :raises SystemExit: where no function of its name has that text, or several have.
    """
    found = []
    for file in sorted([*directory.rglob("*.py"), *directory.rglob("*.sh")]):
        text = file.read_text(encoding="utf-8")
        # Parsing every file of the engines for every defect takes a while.
        named = bodies(text, defect["function"], python=file.suffix == ".py") if defect["is"] in text else []
        found += [(file, body) for body in named if defect["is"] in body]
    if len(found) != 1 or found[0][1].count(defect["is"]) != 1:
        where = ", ".join(f"{file.name} ({body.count(defect['is'])} times)" for file, body in found) or "no file"
        raise SystemExit(f"{defect['fault']}: a function {defect['function']} with {defect['is']!r} is in {where}")
    return found[0]


def _is_red(copy: Path, defect: dict[str, str]) -> bool:
    """Whether a copy of the checkout fails its test with a defect."""
    file, body = place_of(defect, copy / "plugins" / "plugin_utils")
    whole = file.read_text(encoding="utf-8")
    broken = body.replace(defect["is"], defect["becomes"])
    file.write_text(whole.replace(body, broken), encoding="utf-8")
    test, *words = shlex.split(defect["test"])
    command = ["tests/tools/pytest.sh", "--numprocesses=0", "-x", f"tests/integration/{test}", *words]
    environment = {**os.environ, "VENV": os.environ.get("VENV", str(CHECKOUT / ".venv")), "CI": ""}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    file.write_text(whole, encoding="utf-8")
    if done.returncode not in (0, 1) or " failed" not in done.stdout + " failed" or "no tests ran" in done.stdout:
        raise SystemExit(f"{defect['fault']}: the tests could not be run\n{done.stdout}{done.stderr}")
    return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
