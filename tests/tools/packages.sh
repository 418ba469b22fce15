#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# packages.sh: installs the packages of Debian that are missing. Each line of standard input has a command or a file,
# and its package; or a hyphen, and a package that has to be there itself.
set -eu
. "$(dirname -- "$0")/common.sh"

# Commands, so that a Nix (or another tool) that came from elsewhere is left as it is.
missing=
while read -r command package; do
    case $command in
        -) dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed$' ;;
        /*) [ -e "$command" ] ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null ;;
    esac || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || die "These packages are missing, and installing them needs root:$missing"

# The host's own services are none of our business: nothing is started or restarted.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f "$log" /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
patience=300

# apt waits for dpkg's lock, but not for that of the lists.
deadline=$(($(date +%s) + patience))
until apt-get update >"$log" 2>&1; do
    if ! grep -q 'Could not get lock' "$log" || [ "$(date +%s)" -gt "$deadline" ]; then
        cat "$log" >&2
        die "apt-get update failed"
    fi
    sleep 2
done
# shellcheck disable=SC2086
set -- --yes --no-install-recommends --no-upgrade -o DPkg::Lock::Timeout="$patience" $missing
size=$(apt-get install -qq --print-uris "$@" | awk '{ size += $3 } END { print int(size / 1000000) }')
echo "Installing from Debian, $size MB to download:$missing"
quietly apt-get install "$@"
