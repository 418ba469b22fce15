# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ lib }:
let
  inherit (builtins) all elem filter head isAttrs isList mapAttrs;
  inherit (lib) isFunction isStringLike mergeDefinitions mergeEqualOption mergeOneOption showOption;

  mkOptionType =
    { name
    , description ? name
    , check ? (_: true)
    , merge ? lib.mergeDefaultOption
    , emptyValue ? { }
    , getSubOptions ? (_: { })
    , getSubModules ? null
    , substSubModules ? (_: null)
    , nestedTypes ? { }
    , ...
    }@attrs:
    attrs // {
      _type = "option-type";
      inherit name description check merge emptyValue getSubOptions getSubModules substSubModules nestedTypes;
    };

  # A type made of another one: what lies inside is asked of `elemType`.
  container = elemType: attrs: mkOptionType (attrs // {
    getSubOptions = prefix: elemType.getSubOptions (prefix ++ [ (attrs.placeholder or "*") ]);
    inherit (elemType) getSubModules;
    substSubModules = modules: attrs.rebuild (elemType.substSubModules modules);
    nestedTypes = { inherit elemType; };
  });

  intBetween = low: high: description: addCheck ints.int (x: x >= low && x <= high) // {
    name = "intBetween";
    description = "${description}between ${toString low} and ${toString high} (both inclusive)";
  };
  addCheck = type: check: type // { check = x: type.check x && check x; };

  ints = {
    int = simple "int" "signed integer" builtins.isInt;
    between = low: high: intBetween low high "integer ";
    unsigned = addCheck ints.int (x: x >= 0) // { name = "unsignedInt"; description = "unsigned integer, meaning >=0"; };
    positive = addCheck ints.int (x: x > 0) // { name = "positiveInt"; description = "positive integer, meaning >0"; };
    u8 = intBetween 0 255 "8 bit unsigned integer; ";
    u16 = intBetween 0 65535 "16 bit unsigned integer; ";
    u32 = intBetween 0 4294967295 "32 bit unsigned integer; ";
  };

  simple = name: description: check: mkOptionType { inherit name description check; merge = mergeEqualOption; };
  joined = name: separator: description: mkOptionType {
    inherit name description;
    check = builtins.isString;
    merge = _: defs: lib.concatStringsSep separator (lib.getValues defs);
  };
  attrsWith = { lazy, elemType, description }: container elemType {
    name = if lazy then "lazyAttrsOf" else "attrsOf";
    inherit description;
    check = isAttrs;
    emptyValue.value = { };
    placeholder = "<name>";
    rebuild = elemType: attrsWith { inherit lazy elemType description; };
    merge = loc: defs:
      let
        merged = lib.zipAttrsWith (name: mergeDefinitions (loc ++ [ name ]) elemType)
          (map (def: mapAttrs (_: value: { inherit (def) file; inherit value; }) def.value) defs);
      in
      if lazy then mapAttrs (_: m: m.optionalValue.value or elemType.emptyValue.value or m.mergedValue) merged
      else mapAttrs (_: m: m.mergedValue) (lib.filterAttrs (_: m: m.isDefined) merged);
  };
in
rec {
  inherit mkOptionType addCheck ints;
  isType = type: x: x._type or null == type;
  isOptionType = isType "option-type";

  raw = mkOptionType { name = "raw"; description = "raw value"; merge = mergeOneOption; };
  unspecified = mkOptionType { name = "unspecified"; description = "unspecified value"; };
  optionType = mkOptionType { name = "optionType"; check = isOptionType; merge = mergeOneOption; };
  anything = mkOptionType {
    name = "anything";
    merge = loc: defs:
      let values = lib.getValues defs; in
      if all (v: isAttrs v && !isStringLike v) values then (lazyAttrsOf anything).merge loc defs
      else if all builtins.isFunction values then
        x: anything.merge loc (map (def: { inherit (def) file; value = def.value x; }) defs)
      else mergeEqualOption loc defs;
  };

  bool = simple "bool" "boolean" builtins.isBool;
  inherit (ints) int;
  port = ints.u16;
  float = simple "float" "floating point number" builtins.isFloat;
  number = either int float;
  str = simple "str" "string" builtins.isString;
  string = str;
  nonEmptyStr = addCheck str (s: builtins.match "[ \t\n]*" s == null) // { name = "nonEmptyStr"; description = "non-empty string"; };
  # The value has no newline at its end, even if the definition has.
  singleLineStr = addCheck str (s: builtins.match "[^\n\r]*\n?" s != null) // {
    name = "singleLineStr";
    description = "(optionally newline-terminated) single-line string";
    merge = loc: defs: lib.removeSuffix "\n" (str.merge loc defs);
  };
  strMatching = pattern: addCheck str (s: builtins.match pattern s != null) // {
    name = "strMatching ${lib.escapeNixString pattern}";
    description = "string matching the pattern ${pattern}";
  };
  separatedString = separator: joined "separatedString" separator "strings concatenated with ${builtins.toJSON separator}";
  lines = separatedString "\n";
  commas = separatedString ",";
  envVar = separatedString ":";
  path = simple "path" "path" (x: isStringLike x && builtins.substring 0 1 (toString x) == "/");
  package = mkOptionType {
    name = "package";
    check = x: lib.isDerivation x || lib.isStorePath x;
    merge = loc: defs: let x = mergeOneOption loc defs; in if lib.isDerivation x then x else lib.toDerivation x;
  };
  shellPackage = addCheck package (x: lib.hasAttrByPath [ "shellPath" ] x);
  pathInStore = path;
  attrs = mkOptionType {
    name = "attrs";
    description = "attribute set";
    check = isAttrs;
    emptyValue.value = { };
    merge = _: defs: lib.mergeAttrsList (lib.getValues defs);
  };
  enum = values: mkOptionType {
    name = "enum";
    description = "one of ${lib.concatMapStringsSep ", " lib.showValue values}";
    check = x: elem x values;
    merge = mergeEqualOption;
  };

  listOf = elemType: container elemType {
    name = "listOf";
    description = "list of ${elemType.description}";
    check = isList;
    emptyValue.value = [ ];
    rebuild = listOf;
    merge = loc: defs: map (m: m.mergedValue) (filter (m: m.isDefined) (lib.concatLists (lib.imap1
      (n: def: lib.imap1
        (m: value: mergeDefinitions (loc ++ [ "[definition ${toString n}-entry ${toString m}]" ]) elemType
          [{ inherit (def) file; inherit value; }])
        def.value)
      defs)));
  };
  nonEmptyListOf = elemType: addCheck (listOf elemType) (l: l != [ ]) // {
    description = "non-empty list of ${elemType.description}";
  };
  attrsOf = elemType: attrsWith { lazy = false; inherit elemType; description = "attribute set of ${elemType.description}"; };
  lazyAttrsOf = elemType: attrsWith { lazy = true; inherit elemType; description = "lazy attribute set of ${elemType.description}"; };
  loaOf = attrsOf;
  nullOr = elemType: container elemType {
    name = "nullOr";
    description = "null or ${elemType.description}";
    check = x: x == null || elemType.check x;
    emptyValue.value = null;
    rebuild = nullOr;
    merge = loc: defs:
      let nulls = lib.count (def: def.value == null) defs; in
      if nulls == builtins.length defs then null
      else if nulls != 0 then
        throw "The option `${showOption loc}' is defined both null and not null, in ${lib.showFiles (lib.getFiles defs)}."
      else elemType.merge loc defs;
  };
  uniq = elemType: container elemType {
    inherit (elemType) name description check;
    rebuild = uniq;
    merge = mergeOneOption;
  };
  unique = _: uniq;
  functionTo = elemType: container elemType {
    name = "functionTo";
    description = "function that evaluates to a(n) ${elemType.description}";
    check = isFunction;
    rebuild = functionTo;
    merge = loc: defs: arg:
      (mergeDefinitions (loc ++ [ "<function body>" ]) elemType
        (map (def: { inherit (def) file; value = def.value arg; }) defs)).mergedValue;
  };
  either = a: b: mkOptionType {
    name = "either";
    description = "${a.description} or ${b.description}";
    check = x: a.check x || b.check x;
    nestedTypes = { left = a; right = b; };
    merge = loc: defs:
      let all' = type: all (def: type.check def.value) defs; in
      if all' a then a.merge loc defs else if all' b then b.merge loc defs else mergeOneOption loc defs;
  };
  oneOf = types: lib.foldl' either (head types) (lib.tail types);
  coercedTo = from: convert: to: mkOptionType {
    name = "coercedTo";
    description = "${to.description} or ${from.description} convertible to it";
    check = x: (from.check x && to.check (convert x)) || to.check x;
    inherit (to) emptyValue getSubOptions getSubModules;
    substSubModules = modules: coercedTo from convert (to.substSubModules modules);
    merge = loc: defs: to.merge loc
      (map (def: def // { value = if from.check def.value then convert def.value else def.value; }) defs);
  };

  submodule = modules: submoduleWith { shorthandOnlyDefinesConfig = true; modules = lib.toList modules; };
  submoduleWith = { modules, specialArgs ? { }, shorthandOnlyDefinesConfig ? false, ... }@given:
    let
      asModule = def:
        if isAttrs def.value && shorthandOnlyDefinesConfig then { _file = def.file; config = def.value; }
        else { _file = def.file; imports = [ def.value ]; };
      evaluate = prefix: more: lib.evalModules {
        inherit prefix specialArgs;
        modules = [{ _module.args.name = lib.mkOptionDefault (if prefix == [ ] then "<name>" else lib.last prefix); }] ++ modules ++ more;
      };
    in
    mkOptionType {
      name = "submodule";
      check = x: isAttrs x || isFunction x || builtins.isPath x;
      emptyValue.value = { };
      merge = loc: defs: (evaluate loc (map asModule defs)).config;
      getSubOptions = prefix: (evaluate prefix [ ]).options;
      getSubModules = modules;
      substSubModules = modules: submoduleWith (given // { inherit modules; });
    };
  deferredModule = mkOptionType {
    name = "deferredModule";
    description = "module";
    check = x: isAttrs x || isFunction x || builtins.isPath x;
    merge = _: defs: { imports = map (def: { _file = def.file; imports = [ def.value ]; }) defs; };
  };
}
