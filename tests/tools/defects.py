# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows that the tests of what a deploy survives can fail: each deliberate defect has to turn its test red.

``defects.py [WORD…]`` tries those of tests/defects.toml whose fault has one of the words, or all.
"""

from __future__ import annotations

import os
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


def _is_red(copy: Path, defect: dict[str, str]) -> bool:
    """Whether a copy of the checkout fails its test with a defect."""
    file = copy / "plugins" / "plugin_utils" / defect["file"]
    whole = file.read_text(encoding="utf-8")
    if whole.count(defect["is"]) != 1:
        raise SystemExit(f"{defect['fault']}: {defect['file']} has {whole.count(defect['is'])} times: {defect['is']}")
    file.write_text(whole.replace(defect["is"], defect["becomes"]), encoding="utf-8")
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
