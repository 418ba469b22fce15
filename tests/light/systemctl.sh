#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs in the place of systemctl on a light machine, which runs no systemd.
case $* in
    *SystemState,NFailedUnits*) printf 'SystemState=running\nNFailedUnits=0\n' ;;
    *is-system-running*) echo running ;;
    *--property=ActiveState*)
        for unit; do :; done
        if [ -d "/run/light/$unit" ]; then echo active; else echo inactive; fi
        ;;
esac
