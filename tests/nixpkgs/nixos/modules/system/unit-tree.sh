# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The tree that /etc/systemd/system is a link to.
# shellcheck shell=sh disable=SC2154
mkdir -p "$out"
while read -r name target; do
    mkdir -p "$out/$(dirname "$name")"
    ln -s "$target" "$out/$name"
done <"$linksPath"
