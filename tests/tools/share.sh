#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# share.sh ROOT PATH…: has a root see these paths of this host, where there are any, and what this host uses to reach
# names and package registries. The mounts end with the caller's mount namespace.
set -eu
. "$(dirname -- "$0")/common.sh"

# The local directories and certificates that this host's pip is told to use, by whatever file or variable. An index
# (…/simple) refers to files beside itself.
pip_paths() {
    { "$venv/bin/pip" config list && env | grep -E '^(PIP|SSL|REQUESTS|CURL)_'; } |
        tr " '\"=" '[\n*]' | sed -n 's#^\(file://\)\{0,1\}\(/.*\)#\2#p' | sed 's#/simple/*$##' | sort -u
}

bind() {
    if [ -d "$1" ]; then
        mkdir -p "$root$1"
    elif [ -e "$1" ]; then
        mkdir -p "$(dirname -- "$root$1")"
        : >>"$root$1"
    else
        return 0
    fi
    mount --bind "$1" "$root$1"
}

root=$1
shift
for path in "$@" /etc/resolv.conf /etc/hosts /etc/pip.conf "$HOME/.config/pip" "$HOME/.pip" $(pip_paths); do
    bind "$path"
done
