#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Installs what the tests and the demo need on this Debian: packages, and the venv.
set -eu
. "$(dirname -- "$0")/common.sh"

# Commands, so that a Nix (or another tool) that came from elsewhere is left as it is.
missing=
while read -r command package; do
    case $command in
        /*) [ -e "$command" ] ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null ;;
    esac || missing="$missing $package"
done <<'LIST'
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
LIST
/usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
# A dynamic busybox is of no use inside a Nix store.
dpkg-query -W -f='${db:Status-Status}' busybox-static 2>/dev/null | grep -q '^installed$' || missing="$missing busybox-static"

if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || die "These packages are missing, and installing them needs root:$missing"
    # The host's own services are none of our business: nothing is started or restarted.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
    fi
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    echo "Installing:$missing"
    quietly apt-get update
    # shellcheck disable=SC2086
    quietly apt-get install --yes --no-install-recommends --no-upgrade $missing
fi

"$tools/venv.sh"
