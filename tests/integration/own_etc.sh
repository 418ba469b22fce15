#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# own_etc.sh DIRECTORY COMMAND…: runs a command whose changes of /etc are kept in a directory; in a mount namespace that
# the caller makes (unshare --mount).
set -eu
directory=$1
shift
mkdir -p "$directory/etc" "$directory/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$directory/etc,workdir=$directory/work" /etc
exec "$@"
