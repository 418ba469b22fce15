# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Builder of the toplevel: what a NixOS system's store path holds.
# shellcheck shell=sh disable=SC2154
mkdir -p "$out/bin"
# A container has no kernel of its own.
if [ -n "$kernel" ]; then
    ln -s "$kernel/bzImage" "$out/kernel"
    ln -s "$kernel" "$out/kernel-modules"
    ln -s "$initialRamdisk/initrd" "$out/initrd"
fi
ln -s "$package" "$out/systemd"
ln -s "$etc/etc" "$out/etc"
ln -s "$path" "$out/sw"
printf %s "$label" >"$out/nixos-version"
printf %s "$system" >"$out/system"
printf %s "systemd $interfaceVersion" >"$out/init-interface-version"
printf %s "$kernelParams" >"$out/kernel-params"
printf %s "$configurationRevision" >"$out/configuration-revision"
printf %s "$extraDependencies" >"$out/extra-dependencies"

script() {
    # $1: what it is made of; $2: its name
    sed -e "s|@out@|$out|g" -e "s|@shell@|$runtimeShell|g" -e "s|@busybox@|$busybox|g" -e "s|@variant@|$variant|g" \
        -e "s|@installBootLoader@|$installBootLoader|g" -e "s|@preSwitchChecks@|$preSwitchChecks|g" "$1" >"$out/$2"
    chmod +x "$out/$2"
}
script "$activate" activate
script "$dryActivate" dry-activate
script "$init" init
[ -z "$switch" ] || script "$switch" bin/switch-to-configuration
