#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# root.sh: makes the controller of the other Debian where it is not made yet, and prints where it is.
set -eu
. "$(dirname -- "$0")/common.sh"

packages=busybox-static,ca-certificates,e2fsprogs,git,iproute2,make,mmdebstrap,nix-bin,openssh-client,procps,python3,python3-venv,redis-server,sudo,systemd-container
sources=$("$tools/debian-sources.sh" "$other_release")
[ -n "$sources" ] || die "apt has no Debian source for $release to derive the one for $other_release from."

key=$(printf '%s\n' "$packages" "$other_release" "$(dpkg --print-architecture)" | sha256sum | cut -c 1-12)
root=$cache/controller-$other_release-$key
mkdir -p "$cache"
exec 9>"$cache/controller.lock"
flock 9
if [ ! -d "$root" ]; then
    echo "Making a Debian root: $other_release" >&2
    rm -rf --one-file-system "$cache/controller-$other_release"-*
    options=$(mktemp)
    trap 'rm -rf --one-file-system "$options" "$root.new"' EXIT
    # Proxies and the like that this host needs to reach its sources.
    apt-config dump --no-empty Acquire | grep -E '^Acquire::(https?|Check|Retries)' >"$options" || :
    printf '%s\n' "$sources" |
        quietly mmdebstrap --mode=root --variant=minbase --include="$packages" --aptopt="$options" \
            --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
            "$other_release" "$root.new" -
    # systemd-nspawn asks for it.
    quietly systemd-machine-id-setup --root="$root.new"
    mv "$root.new" "$root"
fi
printf '%s\n' "$root"
