#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Installs what the tests need on this Debian: packages, and the venv.
set -eu
. "$(dirname -- "$0")/common.sh"

"$tools/packages.sh" <<'LIST'
git git
ip iproute2
mkfs.ext4 e2fsprogs
mmdebstrap mmdebstrap
nix-store nix-bin
redis-server redis-server
shellcheck shellcheck
ssh openssh-client
systemd-nspawn systemd-container
unshare util-linux
/etc/ssl/certs/ca-certificates.crt ca-certificates
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
- python3-venv
- busybox-static
LIST

"$tools/venv.sh"
