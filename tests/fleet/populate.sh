#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes a copy of the first system this machine; runs in a chroot, with the files in
# place already. $1: login user, $2: login shell, $3: yes where sudo asks for the
# user's password, $4: yes where Nix is to be missing.
set -eu
user=$1 shell=$2 password=$3 no_nix=$4

usermod --shell "$shell" "$user" >/dev/null 2>&1
chown -R "$user:" "$(getent passwd "$user" | cut -d: -f6)/.ssh"
if [ "$user" != root ]; then
	rule=NOPASSWD:ALL
	if [ "$password" = yes ]; then
		rule=ALL
	fi
	printf '%s ALL=(ALL:ALL) %s\n' "$user" "$rule" >/etc/sudoers.d/fleet
	chmod 0440 /etc/sudoers.d/fleet
fi
if [ "$no_nix" = yes ]; then
	rm -f /usr/bin/nix /usr/bin/nix-*
fi
