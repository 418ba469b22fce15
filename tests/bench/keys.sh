#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# keys.sh DIRECTORY NAME: sends each file of a directory to a machine by a command of its own, as NixOps does with keys.
# Variables: SSH_OPTIONS, the words that make ssh reach a machine by its name.
set -eu
for file in "$1"/*; do
    key=/run/keys/${file##*/}
    # shellcheck disable=SC2029,SC2086
    ssh $SSH_OPTIONS "$2" "umask 077; mkdir -p /run/keys && rm -f $key && cat >$key.tmp &&
        chown root:root $key.tmp && chmod 0600 $key.tmp && mv $key.tmp $key" <"$file"
done
