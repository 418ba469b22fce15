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
apt-get -qq download fish fish-common nix-setup-systemd >/dev/null
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
rm "$root/usr/lib/systemd/system-generators/systemd-getty-generator"
mkdir -p "$root/usr/lib/systemd/system/sockets.target.wants"
ln -s ../nix-daemon.socket "$root/usr/lib/systemd/system/sockets.target.wants/"

chroot "$root" groupadd --force --system nix-users
chroot "$root" groupadd --force --system nixbld
for n in 1 2 3 4; do
	chroot "$root" useradd --system --home-dir /var/empty --gid nixbld --groups nixbld \
		--no-user-group --shell /usr/sbin/nologin "nixbld$n"
done
chroot "$root" useradd --create-home --shell /bin/bash --groups nix-users deploy
printf 'sandbox = false\nsubstituters =\n' >"$root/etc/nix/nix.conf"

mkdir -p "$root/nix" "$root/boot/loader/entries"
# The host's names are not the machine's, and a name server out of reach costs five seconds a question.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/machine-id" "$root/etc/hostname" "$root/etc/resolv.conf"
