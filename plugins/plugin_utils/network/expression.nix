# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Returns the derivations of an expression, of a file's attribute or of a flake's attribute.
# Nix passes `expression` itself, relative to the working directory.
{
  inputs,
  expression ? null,
}:

let
  given = builtins.fromJSON (builtins.readFile inputs);

  call = value: if builtins.isFunction value then value given.arguments else value;

  flake =
    if builtins ? getFlake then
      builtins.getFlake given.flake
    else
      throw "this Nix is too old for flakes: Nix 2.4 or newer is needed";

  inherit (builtins) currentSystem;

  # The same places as of `nix build`.
  candidates = [
    given.attribute
    (
      [
        "packages"
        currentSystem
      ]
      ++ given.attribute
    )
    (
      [
        "legacyPackages"
        currentSystem
      ]
      ++ given.attribute
    )
  ];
  has =
    set: path:
    path == [ ] || (set ? ${builtins.head path} && has set.${builtins.head path} (builtins.tail path));
  named = builtins.concatStringsSep "." given.attribute;

  select =
    set: path:
    if path == [ ] then
      set
    else
      let
        value = call set;
        name = builtins.head path;
      in
      select (value.${name} or (throw "attribute '${name}' of '${named}' is missing")) (
        builtins.tail path
      );

  ofFlake =
    if given.attribute == [ ] then
      select flake.packages.${currentSystem} [ "default" ]
    else
      let
        found = builtins.filter (has flake.outputs) candidates;
      in
      if found == [ ] then
        throw "the flake '${given.flake}' has no attribute '${named}'"
      else
        select flake.outputs (builtins.head found);

  value = call (
    if given.flake != null then
      ofFlake
    else
      select (if given.file != null then import given.file else expression) given.attribute
  );

  isDerivation = candidate: (candidate.type or null) == "derivation";
  derivations =
    if isDerivation value then
      [ value ]
    else if builtins.isList value then
      builtins.filter isDerivation value
    else if builtins.isAttrs value then
      builtins.filter isDerivation (builtins.attrValues value)
    else
      throw "this is not a derivation but ${builtins.typeOf value}";

  text = builtins.unsafeDiscardStringContext;
in
if derivations == [ ] then
  throw "there is no derivation in this"
else
  map (derivation: {
    drv = text derivation.drvPath;
    out = text derivation.outPath;
  }) derivations
