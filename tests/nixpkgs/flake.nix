# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{
  description = "A miniature nixpkgs for tests and the demo of nix.ops";

  outputs = { self }:
    let
      lib = import ./lib;
      systems = [ "x86_64-linux" "aarch64-linux" ];
    in
    {
      lib = lib.extend (_: _: {
        nixosSystem = args: import ./nixos/lib/eval-config.nix ({ system = null; inherit lib; } // args);
      });
      legacyPackages = lib.genAttrs systems (system: import ./. { inherit system; });
      nixosModules.notDetected = { };
    };
}
