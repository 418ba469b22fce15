#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# look.sh: prints as JSON what this controller has. All values are texts without quotes or backslashes.
set -eu

nix=$(nix-store --version 2>/dev/null | sed -n 's/.* \([0-9][0-9a-z.]*\).*/\1/p') || :
# Where Nix's own installers put it, if this shell has not read their profile.
elsewhere=
for directory in "${HOME:-/root}/.nix-profile/bin" /nix/var/nix/profiles/default/bin /run/current-system/sw/bin; do
    [ -n "$nix" ] || [ ! -x "$directory/nix-store" ] || elsewhere=$directory
done
ssh=$(command -v ssh) || :
# Root builds as these users, unless nix.conf says otherwise. Only root writes to a store of root.
users=
if [ ! -e /nix/store ] || [ "$(stat -c %u /nix/store)" = 0 ]; then
    conf=${NIX_CONF_DIR:-/etc/nix}/nix.conf
    group=nixbld
    if grep -qs '^ *build-users-group *=' "$conf"; then
        group=$(sed -n 's/^ *build-users-group *= *//p' "$conf" | tail -n 1)
    fi
    members=$(getent group "$group" 2>/dev/null | cut -d : -f 4) || :
    [ -n "$members" ] || users=$group
fi
# Members of this group may use the daemon of Debian's package.
daemon=
if [ "$(id -u)" != 0 ] && getent group nix-users >/dev/null; then
    id -nG | tr ' ' '\n' | grep -qx 'nix-users' || daemon='nix-users'
fi
nixpkgs=
[ -z "$nix" ] || nixpkgs=$(nix-instantiate --find-file nixpkgs 2>/dev/null | tr -d '"\134') || :

printf '{"uid": "%s", "user": "%s", "nix_version": "%s", "nix_elsewhere": "%s", "ssh": "%s", "missing_group": "%s", ' \
    "$(id -u)" "$(id -un)" "$nix" "$elsewhere" "$ssh" "$users"
printf '"missing_membership": "%s", "nixpkgs": "%s"}\n' "$daemon" "$nixpkgs"
