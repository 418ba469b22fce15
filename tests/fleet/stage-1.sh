#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The machine's process 1 until the toplevel takes over: boots what the boot menu names.
# With --print it only says which init that is.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
loader=/boot/loader

entry=$(sed -n 's/^default[[:space:]]*//p' "$loader/loader.conf")
init=$(sed -n 's/^options[[:space:]]\(.*[[:space:]]\)\{0,1\}init=\([^[:space:]]*\).*/\2/p' "$loader/entries/$entry")

case ${1-} in
--print) printf '%s\n' "$init" ;;
*) exec "$init" ;;
esac
