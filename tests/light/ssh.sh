#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs in the place of ssh: runs the command in the root of a light machine. Appends its processor time to the file times.
# Variables: NIX_OPS_LIGHT, the directory of the light machines. A machine that is named in its directory dead takes no
# connections.
set -u
host='' only='' timeout=10
while [ $# -gt 0 ]; do
    case $1 in
        -o | -[BbcDEeFIiJLlmOpQRSWw])
            case $1$2 in
                -oConnectTimeout=*) timeout=${2#*=} ;;
                -O*) only=control ;;
            esac
            shift
            ;;
        -G) only=configuration ;;
        -*) ;;
        *)
            [ -z "$host" ] || break
            host=${1#*@}
            ;;
    esac
    shift
done

case $only in
    control) exit 0 ;;
    configuration)
        printf 'user root\nhostname %s\nport 22\n' "$host"
        exit 0
        ;;
esac
if [ -e "$NIX_OPS_LIGHT/dead/$host" ]; then
    sleep "$timeout"
    echo "ssh: connect to host $host port 22: Connection timed out" >&2
    exit 255
fi
chroot "$NIX_OPS_LIGHT/machines/$host/root" /usr/bin/env -i HOME=/root USER=root \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /bin/sh -c "$*"
code=$?
times >>"$NIX_OPS_LIGHT/times"
exit "$code"
