# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Sourced by its neighbours: where things are, and which Debian this is.
# shellcheck shell=sh disable=SC2034

checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
tools=$checkout/tests/tools
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nix-ops-fleet
venv=${VENV:-$checkout/.venv}

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Output only matters where the command fails.
quietly() {
    quiet_log=$(mktemp)
    if "$@" >"$quiet_log" 2>&1; then
        rm -f "$quiet_log"
    else
        quiet_code=$?
        cat "$quiet_log" >&2
        rm -f "$quiet_log"
        die "failed ($quiet_code): $*"
    fi
}

os_release() {
    sed -n "s/^$1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" /etc/os-release
}

release=$(os_release VERSION_CODENAME)
case $release in
    bookworm) other_release=trixie ;;
    trixie) other_release=bookworm ;;
    *) die "The tests run on Debian 12 (bookworm) or 13 (trixie), and this is $(os_release PRETTY_NAME)." ;;
esac
