# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Systems as a network defines them, many in one evaluation; the result is a JSON file of their toplevels by name.
{
  nixpkgs,
  guard,
  systems,
}:
let
  pkgs = import nixpkgs { };

  machine =
    { one, module }:
    { pkgs, ... }:
    {
      imports = [
        guard
        module
      ];
      services.openssh.enable = true;
      system.stateVersion = "24.05";
      environment.systemPackages = [ pkgs.hello ];
      systemd.services.one = {
        wantedBy = [ "multi-user.target" ];
        script = "while true; do echo ${one}; sleep 60; done";
      };
      systemd.services.two = {
        wantedBy = [ "multi-user.target" ];
        script = "while true; do echo two; sleep 60; done";
      };
    };

  toplevel =
    _: description:
    "${(import (nixpkgs + "/nixos") { configuration = machine description; }).system}";
in
pkgs.writeText "systems.json" (builtins.toJSON (builtins.mapAttrs toplevel (import systems)))
