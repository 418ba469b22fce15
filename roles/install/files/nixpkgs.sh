#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# nixpkgs.sh look|set NIXPKGS: tells whether a channel, tarball or directory is this user's nixpkgs, or makes it so.
set -eu

mode=$1
wanted=$2

die() {
    printf '%s\n' "$@" >&2
    exit 1
}

home='~'
case $wanted in
    "$home"/*) wanted=${HOME:-/root}${wanted#"$home"} ;;
esac
url=
directory=
if [ -d "$wanted" ]; then
    directory=$wanted
    [ -e "$directory/nixos/lib/eval-config.nix" ] ||
        die "There is no nixpkgs in $directory" "Next: Name the directory that has nixpkgs' nixos/lib/eval-config.nix"
elif [ -f "$wanted" ]; then
    url=file://$wanted
else
    case $wanted in
        -* | *[!A-Za-z0-9:/._~%?=\&+@-]*) ;;
        [a-z]*://*) url=$wanted ;;
        nixos-*/* | nixpkgs-*/*) ;;
        nixos-* | nixpkgs-*) url=https://channels.nixos.org/$wanted ;;
    esac
fi
case $wanted/$url in
    /*/* | */http* | */file:*) ;;
    *) url= ;;
esac
[ -n "$url$directory" ] ||
    die "$wanted is not a channel, a URL, or the absolute path of a tarball or a directory" \
        "Next: -e install_nixpkgs=nixos-25.05"

is_set_up() {
    if [ -n "$url" ]; then
        nix-channel --list | grep -qxF "nixpkgs $url" && nix-instantiate --find-file nixpkgs >/dev/null 2>&1
    else
        tr -d ' \n' 2>/dev/null <"${XDG_CONFIG_HOME:-${HOME:-/root}/.config}/nix/registry.json" |
            grep -qF '{"from":{"id":"nixpkgs","type":"indirect"},"to":{"path":"'"$directory"'","type":"path"}}'
    fi
}

if [ "$mode" = look ]; then
    if is_set_up; then
        echo present
    elif [ -n "$url" ]; then
        echo channel
    else
        echo directory
    fi
elif [ -n "$directory" ]; then
    nix --extra-experimental-features 'nix-command flakes' registry add nixpkgs "path:$directory"
else
    before=$(nix-channel --list | sed -n 's/^nixpkgs //p')
    nix-channel --add "$url" nixpkgs
    nix-channel --update nixpkgs || {
        # To remove the channel would remove the release that was fetched before, too.
        if [ -n "$before" ]; then
            nix-channel --add "$before" nixpkgs
        else
            nix-channel --remove nixpkgs
        fi
        die "The channel $url can't be fetched" \
            "Next: Correct its name or the network. Without a network, name the path of a tarball or of a directory"
    }
fi
