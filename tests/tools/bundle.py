# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes single collections out of the package that has many.

``bundle.py WHEEL DIRECTORY NAME…`` makes the directory a collections path with those alone.
"""

from __future__ import annotations

import sys
import zipfile


def main() -> None:
    """Extract them."""
    wheel, directory, *names = sys.argv[1:]
    prefixes = tuple(f"ansible_collections/{name.replace('.', '/')}/" for name in names)
    with zipfile.ZipFile(wheel) as package:
        package.extractall(directory, [name for name in package.namelist() if name.startswith(prefixes)])


if __name__ == "__main__":
    main()
