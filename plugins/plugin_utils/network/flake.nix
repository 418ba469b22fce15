# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The machines of a flake: those of nixopsConfigurations.default, as in NixOps 2, or else its nixosConfigurations.
given@{
  flake,
  name,
  uuid,
  arguments,
  remembered,
  addresses,
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
      outputs.nixosConfigurations or (throw "the flake '${flake}' has neither nixosConfigurations nor nixopsConfigurations.default");

  # Another tool's declaration of deployment.* is kept, unlike a copy of ours (nixos-module.nix). If a machine sets these
  # options and nothing declares them, reading its options throws.
  isOthers =
    configuration:
    let
      looked = builtins.tryEval (
        configuration.options ? deployment && !(configuration.options.deployment ? declaredBy)
      );
    in
    looked.success && looked.value;

  extend =
    machine: configuration:
    if configuration ? extendModules && !isOthers configuration then
      configuration.extendModules {
        modules = [
          ./options.nix
          (import ./physical.nix {
            inherit addresses;
            nodes = machines;
            remembered = remembered.${machine} or { };
          })
          { deployment = { inherit name uuid arguments; }; }
        ];
      }
    else
      configuration;

  machines = builtins.mapAttrs extend configurations;

  description = (import (outputs + "/flake.nix")).description or "Unnamed flake";
in
if outputs ? nixopsConfigurations.default then
  loader.import ./network.nix (
    given
    // {
      ofFlake = outputs.nixopsConfigurations.default;
      inherit description;
    }
  )
else
  {
    inherit machines;
    again = machine: extend machine configurations.${machine};
    network = {
      inherit description;
    };
  }
