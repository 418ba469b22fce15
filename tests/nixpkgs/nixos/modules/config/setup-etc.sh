# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes the files of /etc as the new system has them, and removes those that only an earlier system had.
# $1: the new system's tree of /etc
# shellcheck shell=sh
set -eu
tree=$1
made=/var/lib/nixos/etc-files
mkdir -p "${made%/*}" /etc
touch "$made"
now=$(mktemp)
trap 'rm -f "$now" "$now.all"' EXIT

replace() {
    # $1: what was made under a name of its own; $2: the name it shall have
    if [ -d "$2" ] && [ ! -L "$2" ]; then rm -rf "$2"; fi
    mv -fT "$1" "$2"
}

(cd "$tree" && find . ! -type d ! -name '*.mode') | sed 's|^\./||' | sort >"$now"

ln -sfn "$tree" /etc/static.tmp
replace /etc/static.tmp /etc/static

# What is noted is never less than what was made, whenever this is interrupted.
sort -u "$now" "$made" >"$now.all"
cp "$now.all" "$made.tmp"
mv "$made.tmp" "$made"

while read -r name; do
    if ! grep -Fqx -- "$name" "$now"; then
        echo "removing obsolete file ‘/etc/$name’..."
        rm -f "/etc/$name"
    fi
done <"$now.all"

while read -r name; do
    target=/etc/$name
    mkdir -p "${target%/*}"
    if [ -e "$tree/$name.mode" ]; then
        read -r mode user group <"$tree/$name.mode"
        cp "$tree/$name" "$target.tmp"
        chown "$user:$group" "$target.tmp"
        chmod "$mode" "$target.tmp"
        replace "$target.tmp" "$target"
    elif [ "$(readlink "$target" || :)" != "/etc/static/$name" ]; then
        ln -sfn "/etc/static/$name" "$target.tmp"
        replace "$target.tmp" "$target"
    fi
done <"$now"

cp "$now" "$made.tmp"
mv "$made.tmp" "$made"
