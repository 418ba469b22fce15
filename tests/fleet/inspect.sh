#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Tells what a machine is, as "key<tab>value" lines; runs on the machine, out of band.
set -u
say() { printf '%s\t%s\n' "$1" "$2"; }
say_all() { while IFS= read -r value; do say "$1" "$value"; done; }

profile=/nix/var/nix/profiles/system
link=$(readlink "$profile")
generation=${link#system-}
init=$(/usr/sbin/init --print)

say running "$(readlink /run/current-system)"
say booted "$(readlink /run/booted-system)"
say profile "$(readlink -f "$profile")"
say generation "${generation%-link}"
say boot_default "${init%/init}"
say sshd_pid "$(systemctl show --property MainPID --value sshd.service)"
say boot_id "$(cat /proc/sys/kernel/random/boot_id)"
say machine_id "$(cat /etc/machine-id)"
say system_state "$(systemctl is-system-running)"
systemctl list-units --failed --plain --no-legend | cut -d' ' -f1 | say_all failed_units
{
	systemctl list-units --all --plain --no-legend 'nix-ops*' | while read -r unit _ active _; do
		# A unit of the system itself that has nothing to do.
		if [ "$active" = inactive ] && [ "$(systemctl show -P Transient "$unit")" = no ]; then continue; fi
		printf '%s\n' "$unit"
	done
	find /run -maxdepth 1 -name 'nix-ops*'
	find /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' ! -name '.*-unix'
	find /nix/var/nix/gcroots -type l | while IFS= read -r root; do
		case $root:$(readlink "$root") in
		# Each generation of a profile has such a root as well.
		/nix/var/nix/gcroots/auto/*:/nix/var/nix/profiles/*) ;;
		/nix/var/nix/gcroots/profiles:* | /nix/var/nix/gcroots/*-system:/run/*-system) ;;
		# Each deployment has a root of its own.
		*/nix-ops/copied-????????-????-????-????-????????????:*) printf '%s\n' "${root%-*-*-*-*-*}" ;;
		*) printf '%s\n' "$root" ;;
		esac
	done
} | say_all leftovers
