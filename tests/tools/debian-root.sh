#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# debian-root.sh RELEASE PACKAGES DIRECTORY: makes a small Debian root with these packages (a,b) from this host's own
# sources.
set -eu
. "$(dirname -- "$0")/common.sh"

sources=$("$tools/debian-sources.sh" "$1")
[ -n "$sources" ] || die "apt has no Debian source for $release to derive the one for $1 from."
options=$(mktemp)
trap 'rm -f "$options"' EXIT
# Proxies and the like that this host needs to reach its sources.
apt-config dump --no-empty Acquire | grep -E '^Acquire::(https?|Check|Retries)' >"$options" || :
printf '%s\n' "$sources" |
    quietly mmdebstrap --mode=root --variant=minbase --include="$2" --aptopt="$options" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        "$1" "$3" -
