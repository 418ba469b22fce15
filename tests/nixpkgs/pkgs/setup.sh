# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Builder of every derivation but busybox: `buildCommand`, or the phases in order.
# shellcheck shell=sh disable=SC2154
phase() {
    # $1: its name; $2: what it does where the package does not say
    eval "commands=\${$1-}"
    if [ -n "$commands" ]; then eval "$commands"; else eval "$2"; fi
}

unpack() {
    if [ -d "$src" ]; then
        cp -r "$src" source
        chmod -R u+w source
        cd source || exit
    elif [ -n "${src-}" ]; then
        tar xf "$src"
        cd ./*/ || exit
    fi
}

if [ -n "${buildCommandPath-}" ]; then
    # shellcheck source=/dev/null
    . "$buildCommandPath"
elif [ -n "${buildCommand-}" ]; then
    eval "$buildCommand"
else
    src=${src-}
    phase unpackPhase unpack
    phase patchPhase :
    phase configurePhase :
    phase buildPhase :
    phase installPhase :
    phase fixupPhase :
fi
