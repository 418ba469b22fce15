#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes the venv from Debian's own Python; again where that or the requirements changed.
set -eu
. "$(dirname -- "$0")/common.sh"

requirements=$tools/requirements.txt
key=$({ /usr/bin/python3 --version && cat "$requirements"; } | sha256sum)
[ "$(cat "$venv/.key" 2>/dev/null)" != "$key" ] || exit 0

echo "Making $venv"
rm -rf "$venv"
quietly /usr/bin/python3 -m venv "$venv"
quietly "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
printf '%s\n' "$key" >"$venv/.key"
