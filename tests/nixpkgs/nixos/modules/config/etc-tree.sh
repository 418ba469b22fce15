# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The tree that /etc/static is a link to. A file with a mode is to be copied: its mode and owner stand beside it.
# shellcheck shell=sh disable=SC2154
mkdir -p "$out/etc"
while read -r target mode user group source; do
    mkdir -p "$out/etc/$(dirname "$target")"
    ln -s "$source" "$out/etc/$target"
    if [ "$mode" != symlink ]; then
        echo "$mode $user $group" | tr -d + >"$out/etc/$target.mode"
    fi
done <"$filesPath"
