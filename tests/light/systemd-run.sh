#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs in the place of systemd-run on a light machine: runs the command in the background, then that of ExecStopPost.
unit='' log=/dev/null after=true
while :; do
    case $1 in
        --unit=*) unit=${1#*=} ;;
        --property=StandardOutput=append:*) log=${1#*append:} ;;
        --property=ExecStopPost=*) after=${1#*=*=} ;;
        --setenv=*) export "${1#*=}" ;;
        -*) ;;
        *) break ;;
    esac
    shift
done
mkdir -p /run/light
if ! mkdir "/run/light/$unit" 2>/dev/null; then
    echo "Unit $unit was already loaded." >&2
    exit 1
fi
{
    "$@"
    $after
    rmdir "/run/light/$unit"
} </dev/null >>"$log" 2>&1 &
