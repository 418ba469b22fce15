#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Puts a first system into a layer over a Debian root; runs in a mount namespace of its own.
# $1: root, $2: the layer's directory, $3: toplevel, $4: stage 1. Standard input: the exported closure.
set -eu
root=$1 layer=$2 toplevel=$3 stage1=$4
merged=$layer/merged

mkdir -p "$layer/upper" "$layer/work" "$merged"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$layer/upper,workdir=$layer/work" "$merged"
mount --rbind /dev "$merged/dev"
mount -t proc proc "$merged/proc"

chroot "$merged" nix-store --import >/dev/null
chroot "$merged" nix-env --profile /nix/var/nix/profiles/system --set "$toplevel"

rm "$merged/usr/sbin/init"
install -m 0755 "$stage1" "$merged/usr/sbin/init"
printf 'timeout 5\ndefault nixos-generation-1.conf\n' >"$merged/boot/loader/loader.conf"
printf 'title NixOS\nversion Generation 1\noptions init=%s/init\n' "$toplevel" \
	>"$merged/boot/loader/entries/nixos-generation-1.conf"

umount -l "$merged/dev" "$merged/proc"
umount "$merged"
rm -r "$merged" "$layer/work"
