#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# enter.sh COMMAND…: runs a command in the controller of the other Debian, as root, on this host's network and
# processes, with this checkout and the fleet's directories at their own paths. Its /nix and its venv are its own.
set -eu
. "$(dirname -- "$0")/common.sh"

if [ "${1-}" != --inside ]; then
    root=$("$tools/root.sh")
    # The mounts end with the last process that uses them, however it ends.
    exec unshare --mount --propagation slave "$0" --inside "$root" "$@"
fi
root=$2
shift 2

mount --bind "$root" "$root"
for dir in /proc /sys /dev /run; do
    mount --rbind "$dir" "$root$dir"
done
state=${XDG_STATE_HOME:-$HOME/.local/state}/nix-ops-fleet
mkdir -p "$state"
# Outside the checkout where that is a worktree.
repository=$(git -c safe.directory="$checkout" -C "$checkout" rev-parse --path-format=absolute --git-common-dir)
"$tools/share.sh" "$root" "$checkout" "$repository" "$cache" "$state" /etc/ssl/certs/ca-certificates.crt

cd "$root"
pivot_root . mnt
cd "$checkout"
umount -l /mnt
unset TMPDIR
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export VENV=/opt/venv
exec "$@"
