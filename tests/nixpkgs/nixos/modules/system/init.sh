#!@shell@
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# What the first stage starts: makes this system the booted one and hands over to systemd.
toplevel='@out@'
path=$PATH
export PATH='@busybox@/bin'

echo
echo "<<< NixOS Stage 2 >>>"
echo
mkdir -p /run/nixos
ln -sfn "$toplevel" /run/booted-system
echo "running activation script..."
"$toplevel/activate"

export PATH="$path"
echo "starting systemd..."
exec /lib/systemd/systemd "$@"
