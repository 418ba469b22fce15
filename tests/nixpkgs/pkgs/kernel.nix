# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# A kernel in name only: what boots here is the host's. It has the files and the version of one, so that
# a machine can be seen to need a reboot.
{ runCommand, version }:

runCommand "linux-${version}" { passthru = { inherit version; modDirVersion = version; }; } ''
  mkdir -p $out/lib/modules/${version}
  echo "Linux ${version}" >$out/bzImage
  echo "Linux ${version}" >$out/lib/modules/${version}/modules.order
''
