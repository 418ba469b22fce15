#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Stands before a program on a PATH: notes each run's words, then is the program.
printf '%s\n' "$*" >>"$0.log"
exec "${0%/*}/real/${0##*/}" "$@"
