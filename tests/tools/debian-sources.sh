#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# debian-sources.sh RELEASE: this host's own Debian sources, as lines for another release.
set -eu
. "$(dirname -- "$0")/common.sh"

# shellcheck disable=SC2016
apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    sort -u |
    while read -r uri suite component; do
        case $component/$suite in
            main/"$release" | main/"$release"-updates | main/"$release"-security)
                printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
                    "$uri" "$1${suite#"$release"}"
                ;;
        esac
    done
