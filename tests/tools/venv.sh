#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes the venv from Debian's own Python, with the collections of others that the tests use; again where that or the
# requirements changed.
set -eu
. "$(dirname -- "$0")/common.sh"

requirements=$tools/requirements.txt
# The one package of PyPI that has them, of a line that every Python here takes.
bundle='ansible==11.*'
key=$({ /usr/bin/python3 --version && cat "$requirements" "$0" "$tools/bundle.py"; } | sha256sum)
[ "$(cat "$venv/.key" 2>/dev/null)" != "$key" ] || exit 0

echo "Making $venv"
rm -rf "$venv"
quietly /usr/bin/python3 -m venv "$venv"
quietly "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
download=$(mktemp --directory)
trap 'rm -rf "$download"' EXIT
quietly "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$download" "$bundle"
"$venv/bin/python" "$tools/bundle.py" "$download"/ansible-*.whl "$venv/collections" awx.awx community.general
printf '%s\n' "$key" >"$venv/.key"
