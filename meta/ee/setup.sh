#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Has Nix work in an execution environment, for whatever user it is run as; run as root while the image is built, after
# Nix was installed.
set -eu

nix=$(command -v nix-store) || {
    echo "There is no Nix in this image: add the distribution's package, such as nix-bin, to its system packages." >&2
    exit 1
}
case $(readlink -f "$nix") in
    /nix/*)
        echo "Nix itself is in /nix, where a volume would hide it: install it as the distribution's package." >&2
        exit 1
        ;;
esac
install -D -m 0644 "$(dirname -- "$0")/nix.conf" /etc/nix/nix.conf

# OpenShift and receptor choose the user, whose group is root's. The first job makes the store, so that all of it is that
# user's: Nix sets permissions in it, which is for the owner alone.
rm -rf /nix
install -d -m 2775 -g 0 /nix
