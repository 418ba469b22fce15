# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes the declared groups and users, and removes those that only an earlier system declared.
# $1: file of groups, NAME:GID; $2: file of users,
# NAME:UID:GROUP:OTHER,GROUPS:HOME:CREATEHOME:SHELL:SYSTEM:PASSWORD:DESCRIPTION
# shellcheck shell=sh
set -eu
declared=/var/lib/nixos
mkdir -p "$declared"
touch "$declared/declarative-users" "$declared/declarative-groups"

known() {
    # $1: file of accounts; $2: name
    grep -q "^$2:" "$1"
}

# $1: file of names that an earlier system declared; $2: the new system's lines
obsolete() {
    while read -r name; do
        if ! known "$2" "$name"; then echo "$name"; fi
    done <"$1"
}

for name in $(obsolete "$declared/declarative-users" "$2"); do
    if known /etc/passwd "$name"; then
        echo "removing user ‘$name’" >&2
        userdel -f "$name" 2>/dev/null
    fi
done

while IFS=: read -r name gid; do
    if known /etc/group "$name"; then continue; fi
    groupadd ${gid:+-g "$gid"} -f "$name"
done <"$1"

while IFS=: read -r name uid group others home create_home shell is_system password description; do
    if ! known /etc/passwd "$name"; then
        # No password, and yet not locked: a locked account could not log in by key.
        useradd -M ${is_system:+-r} ${uid:+-u "$uid"} -g "$group" -d "$home" -p "${password:-*}" "$name"
    fi
    usermod -g "$group" -G "$others" ${home:+-d "$home"} ${shell:+-s "$shell"} -c "$description" "$name" 2>/dev/null
    if [ -n "$create_home" ] && [ ! -d "$home" ]; then
        mkdir -p "$home"
        chown "$name:$group" "$home"
        chmod 0700 "$home"
    fi
done <"$2"

for name in $(obsolete "$declared/declarative-groups" "$1"); do
    if known /etc/group "$name"; then
        echo "removing group ‘$name’" >&2
        groupdel "$name"
    fi
done

cut -d: -f1 "$2" >"$declared/declarative-users"
cut -d: -f1 "$1" >"$declared/declarative-groups"
