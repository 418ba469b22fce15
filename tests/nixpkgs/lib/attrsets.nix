# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ lib }:
let
  inherit (builtins) attrNames attrValues concatMap filter foldl' head isAttrs listToAttrs map mapAttrs tail;
in
rec {
  nameValuePair = name: value: { inherit name value; };
  attrByPath = path: default: set:
    if path == [ ] then set
    else if isAttrs set && set ? ${head path} then attrByPath (tail path) default set.${head path}
    else default;
  hasAttrByPath = path: set:
    path == [ ] || (isAttrs set && set ? ${head path} && hasAttrByPath (tail path) set.${head path});
  getAttrFromPath = path: attrByPath path (throw "cannot find attribute `${lib.concatStringsSep "." path}'");
  setAttrByPath = path: value: lib.foldr (name: inner: { ${name} = inner; }) value path;
  attrVals = names: set: map (name: set.${name}) names;
  getAttrs = names: set: genAttrs names (name: set.${name});
  filterAttrs = keep: set: listToAttrs (filter (a: keep a.name a.value) (attrsToList set));
  filterAttrsRecursive = keep: set:
    mapAttrs (_: v: if isAttrs v then filterAttrsRecursive keep v else v) (filterAttrs keep set);
  attrsToList = set: map (name: nameValuePair name set.${name}) (attrNames set);
  mapAttrs' = f: set: listToAttrs (map (name: f name set.${name}) (attrNames set));
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  concatMapAttrs = f: set: mergeAttrsList (mapAttrsToList f set);
  mergeAttrsList = foldl' (a: b: a // b) { };
  mapAttrsRecursive = mapAttrsRecursiveCond (_: true);
  mapAttrsRecursiveCond = descend: f:
    let go = path: mapAttrs (name: value:
      let here = path ++ [ name ]; in
      if isAttrs value && descend value then go here value else f here value);
    in go [ ];
  collect = wanted: set:
    if wanted set then [ set ] else if isAttrs set then concatMap (collect wanted) (attrValues set) else [ ];
  foldAttrs = op: nul: sets:
    foldl' (acc: set: acc // mapAttrs (name: value: op value (acc.${name} or nul)) set) { } (lib.reverseList sets);
  foldlAttrs = f: start: set: foldl' (acc: name: f acc name set.${name}) start (attrNames set);
  genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
  genAttrs' = names: f: listToAttrs (map f names);
  isDerivation = x: x.type or null == "derivation";
  toDerivation = path: {
    type = "derivation";
    name = lib.sanitizeDerivationName (builtins.substring 33 (-1) (baseNameOf path));
    outPath = builtins.storePath path;
    outputs = [ "out" ];
    outputName = "out";
  };
  optionalAttrs = condition: set: if condition then set else { };
  zipAttrsWithNames = names: f: sets: genAttrs names (name: f name (builtins.catAttrs name sets));
  zipAttrsWith = f: sets: zipAttrsWithNames (attrNames (mergeAttrsList sets)) f sets;
  zipAttrs = zipAttrsWith (_: values: values);
  recursiveUpdateUntil = stop: left: right:
    let go = path: zipAttrsWith (name: values:
      let here = path ++ [ name ]; in
      if builtins.length values == 1 || stop here (lib.last values) (head values) then head values
      else go here values);
    in go [ ] [ right left ];
  recursiveUpdate = recursiveUpdateUntil (_: left: right: !(isAttrs left && isAttrs right));
  matchAttrs = pattern: set:
    lib.all (name: set ? ${name} && (if isAttrs pattern.${name} then matchAttrs pattern.${name} set.${name} else pattern.${name} == set.${name}))
      (attrNames pattern);
  getOutput = output: pkg: if pkg.outputSpecified or false then pkg else pkg.${output} or pkg.out or pkg;
  getBin = getOutput "bin";
  getLib = getOutput "lib";
  getDev = getOutput "dev";
  recurseIntoAttrs = set: set // { recurseForDerivations = true; };
  dontRecurseIntoAttrs = set: set // { recurseForDerivations = false; };
}
