# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# A flake's nixosConfigurations as machines.
{
  flake,
  name,
  uuid,
  arguments,
  remembered,
  loader,
  ...
}:

let
  outputs = loader.getFlake flake;

  configurations =
    if arguments != { } then
      throw "a flake takes no arguments, but was given: ${
        builtins.concatStringsSep ", " (builtins.attrNames arguments)
      }"
    else
      outputs.nixosConfigurations or (throw "the flake '${flake}' has no nixosConfigurations");

  # Another tool's declaration of deployment.* is kept. If a machine sets these options and nothing declares
  # them, reading its options throws.
  declares =
    configuration:
    let
      looked = builtins.tryEval (configuration.options ? deployment);
    in
    looked.success && looked.value;

  extend =
    machine: configuration:
    if configuration ? extendModules && !declares configuration then
      configuration.extendModules {
        modules = [
          ./options.nix
          (import ./physical.nix {
            nodes = machines;
            remembered = remembered.${machine} or { };
          })
          { deployment = { inherit name uuid arguments; }; }
        ];
      }
    else
      configuration;

  machines = builtins.mapAttrs extend configurations;
in
{
  inherit machines;
  network = {
    description = (import (outputs + "/flake.nix")).description or "Unnamed flake";
  };
}
