# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Returns the contents that a network gives to keys of machines. They are secret, so the answer is not remembered.
{ inputs }:

let
  given = builtins.fromJSON (builtins.readFile inputs);
  inherit (import ./load.nix given) machines;
in
builtins.mapAttrs (
  machine: names:
  let
    inherit (machines.${machine}.config.deployment) keys;
  in
  builtins.listToAttrs (
    map (name: {
      inherit name;
      value = {
        text = keys.${name}.text or null;
        command = keys.${name}.keyCommand or null;
      };
    }) names
  )
) given.keys
