# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{
  description = "a flake with one machine";
  inputs = { };
  outputs = _: {
    nixosConfigurations.web = import <nixpkgs/nixos/lib/eval-config.nix> {
      system = builtins.currentSystem;
      modules = [
        {
          networking.hostName = "web";
          services.openssh.ports = [ 2222 ];
        }
      ];
    };
  };
}
