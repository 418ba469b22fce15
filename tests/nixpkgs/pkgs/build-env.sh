# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# A tree of links to all files of `paths`, as far as they lie below one of `pathsToLink`.
# shellcheck shell=sh disable=SC2154
mkdir -p "$out"
for path in $paths; do
    [ -d "$path" ] || continue
    for part in $pathsToLink; do
        [ -d "$path$part" ] || continue
        (
            cd "$path" || exit
            find ".$part" ! -type d
        ) | while read -r file; do
            file=${file#./}
            file=${file#/}
            [ -L "$out/$file" ] && continue
            mkdir -p "$out/$(dirname "$file")"
            ln -s "$path/$file" "$out/$file"
        done
    done
done
eval "$postBuild"
