#!@shell@
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Writes the boot menu: an entry for each generation of the system profile, the given toplevel the default.
# $1: the default toplevel
set -eu
export PATH='@path@'
loader=/boot/loader
profile=/nix/var/nix/profiles/system

replace() {
    # $1: a file; standard input: its new text
    cat >"$1.tmp"
    sync "$1.tmp"
    mv -f "$1.tmp" "$1"
}

echo "updating systemd-boot menu..." >&2
mkdir -p "$loader/entries"

default=
for link in "$profile"-*-link; do
    [ -e "$link/init" ] || continue
    number=${link#"$profile"-}
    number=${number%-link}
    toplevel=$(readlink -f "$link")
    if [ "$toplevel" = "$1" ] && [ "$number" -gt "${default:-0}" ]; then default=$number; fi
    entry=$loader/entries/nixos-generation-$number.conf
    if grep -qs "init=$toplevel/init\( \|\$\)" "$entry"; then continue; fi
    parameters=$(sed 's/^./ &/' "$toplevel/kernel-params")
    replace "$entry" <<ENTRY
title @distroName@
version Generation $number @distroName@ $(cat "$toplevel/nixos-version")
linux $(readlink -f "$toplevel/kernel")
initrd $(readlink -f "$toplevel/initrd")
options init=$toplevel/init$parameters
ENTRY
done

for entry in "$loader"/entries/nixos-generation-*.conf; do
    number=${entry##*nixos-generation-}
    if [ ! -L "$profile-${number%.conf}-link" ]; then rm -f "$entry"; fi
done

if [ -n "$default" ]; then
    replace "$loader/loader.conf" <<CONF
timeout @timeout@
default nixos-generation-$default.conf
CONF
else
    echo "warning: $1 is no generation of the system profile; the boot default is left as it was" >&2
fi
sync "$loader" "$loader/entries"
