#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Gives a machine generations, and removes all that the collection keeps there. Runs on the machine, out of band.
# $1: the toplevel that runs, $2: the one that boots, the others: the generations.
set -eu
running=$1 boots=$2
shift 2
profile=/nix/var/nix/profiles/system

# What a test that failed has left at work.
systemctl stop 'nix-ops-*.service'
# By its name, wherever a version keeps it.
find /nix/var /root /run /var -name 'nix[-.]ops*' -prune -exec rm -rf {} +
rm -f /run/gate /run/order "$profile" "$profile"-*-link
for toplevel; do
	nix-env --quiet --profile "$profile" --set "$toplevel"
done
if [ "$(readlink -f /run/current-system)" != "$running" ]; then
	"$running/bin/switch-to-configuration" test
fi
"$boots/bin/switch-to-configuration" boot
rm -f /run/order
