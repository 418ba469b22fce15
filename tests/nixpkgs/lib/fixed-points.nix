# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ lib }:
{
  fix = f: let x = f x; in x;
  extends = overlay: f: final: let previous = f final; in previous // overlay final previous;
  composeExtensions = f: g: final: previous:
    let first = f final previous; in first // g final (previous // first);
  composeManyExtensions = lib.foldr lib.composeExtensions (_: _: { });
  makeExtensible = f: lib.fix (self: f self // { extend = overlay: lib.makeExtensible (lib.extends overlay f); });

  makeOverridable = f: args:
    let
      result = f args;
      again = new: lib.makeOverridable f (args // (if lib.isFunction new then new args else new));
    in
    if builtins.isAttrs result then
      result // { override = again; overrideDerivation = change: result.overrideAttrs change; }
    else
      result;
  callPackageWith = scope: file: args:
    let
      f = if lib.isFunction file then file else import file;
      found = builtins.intersectAttrs (lib.functionArgs f) scope;
    in
    lib.makeOverridable f (found // args);
}
