#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Tells what a test can have changed on a machine beside the files of its disk; runs on the machine, out of band.
set -u
cat /proc/sys/kernel/random/boot_id
readlink /run/current-system /run/booted-system
# Sessions come and go with connections that are kept for later.
systemctl list-units --plain --no-legend --type=service,socket,timer,mount |
	grep -v -e '^user@' -e '^user-runtime-dir@' -e '^run-user-' -e '^systemd-tmpfiles-clean' -e '^session-' | sort
systemctl show --property=Id,MainPID '*.service' | awk -v RS= '!/Id=user/'
find /run /tmp /var/tmp /dev/shm -mindepth 1 -maxdepth 1 | sort
grep -v ' /run/user/' /proc/self/mounts
ip -brief address
