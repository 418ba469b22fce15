# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Returns as plain data the definitions of all machines of a network, and the derivations of the wanted ones.
{ inputs }:

let
  given = builtins.fromJSON (builtins.readFile inputs);

  source = import ./load.nix given;

  # null stands for all machines, if there are few.
  wanted =
    if given.names != null then
      given.names
    else if builtins.length (builtins.attrNames source.machines) <= given.eager then
      builtins.attrNames source.machines
    else
      [ ];

  machine =
    name:
    source.machines.${name} or (throw "the network has no machine called '${name}', only ${
      builtins.concatStringsSep ", " (builtins.attrNames source.machines)
    }");

  # Nix keeps the values of an attribute set in memory, but frees what a function has returned. So each machine is evaluated
  # by a function, and the next one can use its memory. If the addresses are not known, systems read those of other machines, and each must be evaluated only once.
  alone =
    name:
    if
      source.machines ? ${name} && (wanted == [ ] || (given.names != null && given.addresses != null))
    then
      source.again name
    else
      machine name;

  # Text without context. The attribute can't be called outPath, or its set would become a string.
  text = builtins.unsafeDiscardStringContext;

  # Some releases have two implementations of switch-to-configuration, with an option each.
  switchable =
    name: system:
    if system.switch.enable or true || system.switch.enableNg or false then
      system.build.toplevel
    else
      throw "the system of machine '${name}' can't be switched to: it sets system.switch.enable to false, and so has no switch-to-configuration";

  # The trace tells of each machine as soon as it is evaluated.
  derivation =
    name:
    let
      toplevel = switchable name (alone name).config.system;
      drv = text toplevel.drvPath;
      out = text toplevel.outPath;
      made = builtins.toJSON [
        name
        drv
        out
      ];
    in
    builtins.seq drv (builtins.trace "nix.ops made ${made}" { inherit name drv out; });

  # In the order of the names, so that it is known which one fails.
  derivations = builtins.foldl' (
    made: name:
    let
      one = derivation name;
    in
    builtins.seq one (made ++ [ one ])
  ) [ ] wanted;
in
{
  inherit (source) network;
  definitions =
    if given.names != null then
      { }
    else
      builtins.mapAttrs (name: _: import ./definition.nix (alone name)) source.machines;
  derivations = builtins.listToAttrs (
    map (one: {
      inherit (one) name;
      value = { inherit (one) drv out; };
    }) derivations
  );
}
