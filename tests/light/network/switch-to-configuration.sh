#!@shell@
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Activates the system of a light machine, which has nothing but its name.
# shellcheck shell=sh
PATH=/usr/bin:/bin
case $1 in
    boot)
        printf 'options init=@out@/init\n' >/boot/loader/entries/light.conf
        printf 'default light.conf\n' >/boot/loader/loader.conf
        ;;
    test) ln -sfn @out@ /run/current-system ;;
esac
