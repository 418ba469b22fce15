# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Builder of a light machine's system.
# shellcheck shell=sh disable=SC2154
mkdir -p "$out/bin" "$out/etc"
echo "$changed" >"$out/etc/changed"
printf light >"$out/nixos-version"
sed -e "s|@out@|$out|g" -e "s|@shell@|$runtimeShell|g" "$switch" >"$out/bin/switch-to-configuration"
chmod +x "$out/bin/switch-to-configuration"
