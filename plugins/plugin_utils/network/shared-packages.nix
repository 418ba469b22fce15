# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# One package set for all machines that do not set another one. Evaluating nixpkgs is most of the cost of evaluating a
# machine, and the derivations stay the same.
{ packages }:
{ lib, options, ... }:

let
  # nixpkgs sets the system itself, by mkDefault (1000). An option's own default has priority 1500.
  priority = name: options.nixpkgs.${name}.highestPrio or 1500;
  isWished = name: priority name < (if name == "system" then 1000 else 1500);
in
{
  # Weaker than any package set of the network.
  nixpkgs.pkgs = lib.mkIf (
    !lib.any isWished [
      "config"
      "overlays"
      "system"
      "localSystem"
      "crossSystem"
      "hostPlatform"
      "buildPlatform"
    ]
  ) (lib.mkOverride 1100 packages);
}
