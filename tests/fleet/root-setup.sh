#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# What makes a Debian root fit to become a NixOS-like machine; run by mmdebstrap
# as its last hook. $1: the root.
set -eu
root=$1

# Only the files: fish's dependencies would bring Python.
scratch=$(mktemp -d -p "$root/var/tmp")
inside=${scratch#"$root"}
chmod 1777 "$scratch"
chroot "$root" sh -eu -s "$inside" <<'END'
cd "$1"
apt-get -qq download fish fish-common >/dev/null
for deb in *.deb; do
	dpkg-deb --fsys-tarfile "$deb" | tar -x -C / --keep-directory-symlink \
		--exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale
done
END
rm -r "$scratch"
chroot "$root" fish -c true
echo /usr/bin/fish >>"$root/etc/shells"

# Units of the distribution are off; the toplevel alone says what runs.
rm -rf "$root/etc/systemd/system"
mkdir "$root/etc/systemd/system"
# Each of them is a program at each boot and each activation, and finds nothing to do.
rm -r "$root/usr/lib/systemd/system-generators" "$root/usr/lib/systemd/user-generators"

# Declared in no configuration, so that no deployment removes him.
chroot "$root" useradd --create-home --shell /bin/bash deploy
mkdir -p "$root/etc/nix"
printf 'build-users-group =\nsandbox = false\nsubstituters =\n' >"$root/etc/nix/nix.conf"

mkdir -p "$root/nix" "$root/boot/loader/entries"
# The host's names are not the machine's, and a name server out of reach costs five seconds a question.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/machine-id" "$root/etc/hostname" "$root/etc/resolv.conf"
