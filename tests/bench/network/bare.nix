# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# One of the machines as it is without a network.
{ name }:
let
  evaluated = import <nixpkgs/nixos/lib/eval-config.nix> {
    modules = [
      ./machine.nix
      {
        networking.hostName = name;
        system.stateVersion = "24.05";
      }
    ];
  };
in
evaluated.config.system.build.toplevel
