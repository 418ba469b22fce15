# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Builder of busybox: the computer's own, with a link for each of its applets.
# shellcheck shell=sh disable=SC2154
"$busybox" mkdir -p "$out/bin"
"$busybox" cp "$busybox" "$out/bin/busybox"
"$busybox" chmod 0555 "$out/bin/busybox"
for applet in $("$busybox" --list); do
    if [ "$applet" != busybox ]; then
        "$busybox" ln -s busybox "$out/bin/$applet"
    fi
done
