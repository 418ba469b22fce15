# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# Refuses to switch to a system in which something critical differs from the running one.
# $1: the system; $2: the action
if [ "$2" = boot ]; then exit 0; fi
new=$1/switch-inhibitors-lines old=/run/current-system/switch-inhibitors-lines
if [ ! -f "$new" ] || [ ! -f "$old" ]; then exit 0; fi

differences=$(while read -r name value; do
    sed -n "s|^$name ||p" "$new" | while read -r other; do
        if [ "$other" != "$value" ]; then echo "$name : $value -> $other"; fi
    done
done <"$old")
if [ -z "$differences" ]; then exit 0; fi

echo
echo "There are changes to critical components of the system:"
echo
echo "$differences"
echo
echo "This system should not be switched to; make it the boot default and reboot instead."
exit 1
