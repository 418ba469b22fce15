#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Has Nix work in an execution environment, for whatever user it is run as; run as root while the image is built, after
# Nix was installed.
set -eu

nix-store --version || {
    echo "There is no Nix in this image: install nix-bin, or copy /nix from an image that has it." >&2
    exit 1
}
install -D -m 0644 "$(dirname -- "$0")/nix.conf" /etc/nix/nix.conf

# OpenShift and receptor choose the user, whose group is root's. The store is made by the first job, so that all of it is
# that user's: Nix sets permissions, which needs the owner.
if [ ! -e /nix/store ]; then
    rm -rf /nix
    install -d -m 2775 -g 0 /nix
fi
