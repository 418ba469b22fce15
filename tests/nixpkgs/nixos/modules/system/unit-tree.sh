# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The tree that /etc/systemd/system is a link to.
# shellcheck shell=sh disable=SC2154
mkdir -p "$out"
for package in $packages; do
    ln -s "$package"/lib/systemd/system/* "$out/"
done
while read -r name target; do
    # It adds to the unit of a package.
    case $name in */*) ;; *) [ ! -e "$out/$name" ] || name=$name.d/overrides.conf ;; esac
    mkdir -p "$out/$(dirname "$name")"
    ln -s "$target" "$out/$name"
done <"$linksPath"
