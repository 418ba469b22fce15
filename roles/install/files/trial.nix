# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Needs a shell and nothing else, as all of nixpkgs does. No cache has it.
{ number }:
derivation {
  name = "nix.ops-trial-${number}";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [
    "-c"
    "echo > $out"
  ];
  allowSubstitutes = false;
  preferLocalBuild = true;
}
