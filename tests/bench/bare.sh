#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# bare.sh CASE NAME: deploys one machine with Nix's own commands and ssh, and nothing around them.
# Variables: SSH_OPTIONS, the words that make ssh reach a machine by its name.
set -eu
case=$1 name=$2

# shellcheck disable=SC2029,SC2086
machine() {
    ssh $SSH_OPTIONS "$name" "$@"
}

derivation=$(nix-instantiate bare.nix --argstr name "$name" --indirect --add-root ".bare/$name.drv")
toplevel=$(nix-store --realise "$derivation" --indirect --add-root ".bare/$name")
toplevel=$(readlink "$toplevel")
if [ "$case" = nothing ]; then
    # Who knows that there is nothing to do only looks whether it is so.
    [ "$(machine readlink -f /run/current-system)" = "$toplevel" ]
    exit
fi
NIX_SSHOPTS=$SSH_OPTIONS nix-copy-closure --to "$name" "$toplevel"
machine nix-env --profile /nix/var/nix/profiles/system --set "$toplevel"
machine "$toplevel/bin/switch-to-configuration" switch
