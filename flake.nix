# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{
  description = "The options deployment.* of nix.ops as a NixOS module";

  outputs = _: {
    nixosModules.default = import ./nixos-module.nix;
  };
}
