# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# `nix-build '<nixpkgs/nixos>' -I nixos-config=FILE -A system`
{ configuration ? <nixos-config>, system ? builtins.currentSystem }:
let
  evaluated = import ./lib/eval-config.nix { inherit system; modules = [ configuration ]; };
in
{
  inherit (evaluated) pkgs config options;
  system = evaluated.config.system.build.toplevel;
}
