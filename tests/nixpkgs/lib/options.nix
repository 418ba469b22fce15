# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ lib }:
let
  inherit (builtins) all concatMap elemAt filter head isAttrs isList length tail;
in
rec {
  isOption = x: x._type or null == "option";
  mkOption = attrs: attrs // { _type = "option"; };
  mkEnableOption = name: mkOption {
    default = false;
    example = true;
    description = "Whether to enable ${name}.";
    type = lib.types.bool;
  };
  mkPackageOption = pkgs: name: { default ? name, example ? null, nullable ? false, ... }: mkOption {
    type = if nullable then lib.types.nullOr lib.types.package else lib.types.package;
    default = if default == null then null else lib.getAttrFromPath (lib.toList default) pkgs;
    description = "The ${name} package to use.";
  };
  mkSinkUndeclaredOptions = attrs: mkOption ({ internal = true; visible = false; default = false; apply = _: null; type = lib.types.raw; } // attrs);
  literalExample = text: { _type = "literalExpression"; inherit text; };
  literalExpression = literalExample;
  literalMD = literalExample;
  mdDoc = text: text;

  getValues = map (x: x.value);
  getFiles = map (x: x.file);
  showFiles = files: lib.concatStringsSep " and " (map (f: "`${toString f}'") files);
  showOption = path:
    lib.concatStringsSep "." (map (part: if builtins.match "[a-zA-Z_][a-zA-Z0-9_'-]*|<.*>|\\*" part == null then lib.escapeNixString part else part) path);

  showValue = value:
    if lib.isDerivation value then "<derivation ${value.name or "?"}>"
    else if builtins.isFunction value then "<function>"
    else if builtins.isPath value then toString value
    else if isList value then (if value == [ ] then "[ ]" else "[ ${lib.concatMapStringsSep " " showValue value} ]")
    else if isAttrs value then
      if value == { } then "{ }"
      else "{ ${lib.concatStrings (lib.mapAttrsToList (name: v: "${name} = ${showValue v}; ") value)}}"
    else builtins.toJSON value;
  showDefs = lib.concatMapStrings (def:
    let shown = builtins.tryEval (builtins.deepSeq (showValue def.value) (showValue def.value)); in
    "\n- In `${toString def.file}'${lib.optionalString shown.success ": ${shown.value}"}");

  mergeOneOption = loc: defs:
    if length defs == 1 then (head defs).value
    else throw "The option `${showOption loc}' is defined multiple times while it's expected to be unique.\nDefinition values:${showDefs defs}\nUse `lib.mkForce value` or `lib.mkDefault value` to change the priority on any of these definitions.";
  mergeUniqueOption = _: mergeOneOption;
  mergeEqualOption = loc: defs:
    let
      first = head defs;
      other = filter (def: def.value != first.value) (tail defs);
    in
    if length defs == 1 || other == [ ] then first.value
    else throw "The option `${showOption loc}' has conflicting definition values:${showDefs [ first (head other) ]}\nUse `lib.mkForce value` or `lib.mkDefault value` to change the priority on any of these definitions.";
  mergeDefaultOption = loc: defs:
    let values = getValues defs; first = elemAt values 0; in
    if length values == 1 then first
    else if all builtins.isFunction values then x: mergeDefaultOption loc (map (f: f x) values)
    else if all isList values then concatMap (x: x) values
    else if all isAttrs values then lib.foldl' lib.mergeAttrs { } values
    else if all builtins.isBool values then lib.foldl' (a: b: a || b) false values
    else if all builtins.isString values then lib.concatStrings values
    else if all builtins.isInt values && all (x: x == first) values then first
    else throw "Cannot merge definitions of `${showOption loc}'. Definition values:${showDefs defs}";
}
