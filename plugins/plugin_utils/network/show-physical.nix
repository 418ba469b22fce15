# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Returns for each machine what a deploy adds to its configuration (physical.nix), as plain data.
{ inputs }:

let
  given = builtins.fromJSON (builtins.readFile inputs);
  nodes = (import ./load.nix given).machines;
  plain = import ./plain.nix;

  # Takes off what lib.mkIf and lib.mkOverride put around a value: a list with the value, or an empty one.
  bare =
    value:
    if !builtins.isAttrs value then
      [ value ]
    else if (value._type or null) == "if" then
      if value.condition then bare value.content else [ ]
    else if (value._type or null) == "override" then
      bare value.content
    else
      let
        inner = builtins.mapAttrs (_: bare) value;
        names = builtins.filter (name: inner.${name} != [ ]) (builtins.attrNames inner);
      in
      if names == [ ] then
        [ ]
      else
        [
          (builtins.listToAttrs (
            map (name: {
              inherit name;
              value = builtins.head inner.${name};
            }) names
          ))
        ];

  physical =
    name: node:
    let
      module = import ./physical.nix {
        inherit nodes;
        addresses = null;
        remembered = given.remembered.${name} or { };
      } { inherit (node.pkgs) lib; };
    in
    plain (
      builtins.head (
        bare (
          removeAttrs module [
            "imports"
            "_file"
          ]
        )
      )
    );
in
builtins.mapAttrs physical nodes
