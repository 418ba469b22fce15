#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# root.sh: makes the controller of the other Debian where it is not made yet, and prints where it is.
set -eu
. "$(dirname -- "$0")/common.sh"

packages=busybox-static,ca-certificates,e2fsprogs,git,iproute2,make,mmdebstrap,nix-bin,openssh-client,procps,python3,python3-venv,redis-server,sudo,systemd-container
key=$(printf '%s\n' "$packages" "$other_release" "$(dpkg --print-architecture)" | sha256sum | cut -c 1-12)
root=$cache/controller-$other_release-$key
mkdir -p "$cache"
exec 9>"$cache/controller.lock"
flock 9
if [ ! -d "$root" ]; then
    echo "Making a Debian root: $other_release" >&2
    rm -rf --one-file-system "$cache/controller-$other_release"-*
    trap 'rm -rf --one-file-system "$root.new"' EXIT
    "$tools/debian-root.sh" "$other_release" "$packages" "$root.new"
    # systemd-nspawn asks for it.
    quietly systemd-machine-id-setup --root="$root.new"
    mv "$root.new" "$root"
fi
printf '%s\n' "$root"
