#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# layers.sh LOWER UPPER [SOURCE TARGET]… -- COMMAND…: runs a command in a root of layers, uppermost first and separated
# by colons, with a layer that takes what it writes and with directories or files of this host's; in a mount namespace
# and a process namespace that the caller makes (unshare --mount --pid --fork).
set -eu
lower=$1 upper=$2
shift 2
mkdir -p "$upper" "$upper.work" "$upper.root"
root=$upper.root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$upper.work" "$root"
mount -t proc proc "$root/proc"
for dir in sys dev; do
    mount --rbind "/$dir" "$root/$dir"
done
"$(dirname -- "$0")/../tools/share.sh" "$root"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then
        mkdir -p "$root$2"
    else
        mkdir -p "$(dirname -- "$root$2")"
        : >>"$root$2"
    fi
    mount --bind "$1" "$root$2"
    shift 2
done
shift
exec chroot "$root" "$@"
