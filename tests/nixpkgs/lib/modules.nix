# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The module system: collect modules, merge their declarations into a tree of options, give each its value.
{ lib }:
let
  inherit (builtins) addErrorContext any attrNames concatMap filter head isAttrs length mapAttrs;
  inherit (lib) isFunction isOption optional showDefs showOption types;

  property = type: attrs: attrs // { _type = type; };
  typeOf = x: if isAttrs x then x._type or null else null;

  # A module in whatever form it was given, as { file, key, imports, options, config }.
  load = args: fallback: given:
    let
      fromFile = !isAttrs given && !isFunction given;
      file = if fromFile then toString given else fallback.file;
      key = if fromFile then toString given else fallback.key;
      called = call key args (if fromFile then import given else given);
      structured = called ? config || called ? options;
      meta = [ "_file" "_class" "key" "disabledModules" "imports" "require" ];
      unsupported = attrNames (removeAttrs called (meta ++ [ "options" "config" "freeformType" "meta" ]));
    in
    if !isAttrs called then throw "Expected a module, but found a value of type ${builtins.typeOf called}, in ${file}."
    else if structured && unsupported != [ ] then
      throw "Module `${key}' has an unsupported attribute `${head unsupported}'. This is caused by introducing a top-level `config' or `options' attribute. Add configuration attributes immediately on the top level instead, or move all of them (namely: ${toString unsupported}) into the explicit `config' attribute."
    else {
      file = toString (called._file or file);
      key = toString (called.key or key);
      imports = called.require or [ ] ++ called.imports or [ ];
      options = if structured then called.options or { } else { };
      config = lib.mkMerge (
        [ (if structured then called.config or { } else removeAttrs called (meta ++ [ "freeformType" "meta" ])) ]
        ++ optional (called ? freeformType) { _module = { inherit (called) freeformType; }; }
      );
    };

  # Arguments are handed over by name, each lazily: one that comes from `_module.args` must not be
  # evaluated before the modules are known.
  call = key: args: module:
    if !isFunction module then module
    else module (args // mapAttrs
      (name: _: addErrorContext "while evaluating the module argument `${name}' in \"${key}\":"
        (args.${name} or args.config._module.args.${name}))
      (lib.functionArgs module));

  collect = args: initial:
    let
      within = parent: lib.imap1 (n: given:
        let module = load args { inherit (parent) file; key = "${parent.key}:anon-${toString n}"; } given; in
        { inherit (module) key; inherit module; });
      found = builtins.genericClosure {
        startSet = within { file = "<unknown-file>"; key = ""; } initial;
        operator = item: within item.module item.module.imports;
      };
    in
    map (item: item.module) found;

  # mkIf, mkMerge and mkOverride around a set, moved to its attributes.
  pushDown = value:
    let around = wrap: map (mapAttrs (_: wrap)) (pushDown value.content); in
    {
      merge = concatMap pushDown value.contents;
      "if" = around (lib.mkIf value.condition);
      override = around (lib.mkOverride value.priority);
      order = around (lib.mkOrder value.priority);
    }.${toString (typeOf value)} or [ value ];

  # mkIf and mkMerge around one option's value, resolved.
  discharge = value:
    let type = typeOf value; in
    if type == "merge" then concatMap discharge value.contents
    else if type == "if" then
      if !builtins.isBool value.condition then throw "‘mkIf’ called with a non-Boolean condition"
      else if value.condition then discharge value.content else [ ]
    else [ value ];

  mergeTree = prefix: declarations: definitions:
    let
      declared = lib.zipAttrs (map (d: mapAttrs (_: options: { inherit (d) file; inherit options; }) d.options) declarations);
      pushed = concatMap (d: map (value: { inherit (d) file; inherit value; }) (pushDown d.value)) definitions;
      sets = map
        (d: if isAttrs d.value then d else
        throw "The option `${showOption prefix}' is a set of options, but is defined as a value of another type. Definition values:${showDefs [ d ]}")
        pushed;
      defined = lib.zipAttrs (map (d: mapAttrs (_: value: { inherit (d) file; inherit value; }) d.value) sets);
      evaluated = mapAttrs
        (name: decls:
          let
            loc = prefix ++ [ name ];
            defs = defined.${name} or [ ];
            leaves = filter (d: isOption d.options) decls;
          in
          if length leaves == length decls then { options = evalOption loc (mergeDeclarations loc decls) defs; unmatched = [ ]; }
          else if leaves != [ ] then
            throw "The option `${showOption loc}' in `${(head leaves).file}' is a prefix of options in `${(lib.findFirst (d: !isOption d.options) null decls).file}'."
          else mergeTree loc decls defs)
        declared;
      unknown = lib.concatLists (lib.mapAttrsToList
        (name: map (d: d // { loc = prefix ++ [ name ]; }))
        (removeAttrs defined (attrNames declared)));
    in
    {
      options = mapAttrs (_: e: e.options) evaluated;
      unmatched = unknown ++ concatMap (name: evaluated.${name}.unmatched) (filter (name: defined ? ${name}) (attrNames evaluated));
    };

  # One option declared by several modules: only sets of submodules can be extended.
  mergeDeclarations = loc: decls:
    let
      first = head decls;
      extend = option: d:
        let
          twice = any (field: d.options ? ${field} && option ? ${field}) [ "default" "example" "description" "apply" ];
          inner = d.options.type.getSubModules or null;
          mergeable = option.type.getSubModules or null != null && inner != null;
          same = option ? type && d.options ? type && option.type.description == d.options.type.description;
        in
        if twice || (option ? type && d.options ? type && !mergeable && !same) then
          throw "The option `${showOption loc}' in `${d.file}' is already declared in ${lib.showFiles option.declarations}."
        else d.options // option // { declarations = option.declarations ++ [ d.file ]; } // lib.optionalAttrs mergeable {
          type = option.type.substSubModules (option.type.getSubModules ++ map (m: { _file = d.file; imports = [ m ]; }) inner);
        };
    in
    lib.foldl' extend (first.options // { inherit loc; declarations = [ first.file ]; }) (lib.tail decls);

  evalOption = loc: option: defs:
    let
      type = option.type or types.unspecified;
      default = optional (option ? default) { file = head option.declarations; value = lib.mkOptionDefault option.default; };
      merged = lib.mergeDefinitions loc type (default ++ defs);
      value =
        if option.readOnly or false && length (default ++ defs) > 1 then
          throw "The option `${showOption loc}' is read-only, but it's set multiple times. Definition values:${showDefs defs}"
        else merged.mergedValue;
    in
    option // {
      inherit type;
      value = addErrorContext "while evaluating the option `${showOption loc}':" ((option.apply or (x: x)) value);
      inherit (merged) isDefined highestPrio;
      definitions = map (def: def.value) merged.defsFinal;
      definitionsWithLocations = merged.defsFinal;
      files = map (def: def.file) merged.defsFinal;
      __toString = _: showOption loc;
    };
in
rec {
  evalModules = { modules, prefix ? [ ], specialArgs ? { }, args ? { }, check ? true, class ? null }@given:
    let
      internal = {
        _file = "lib/modules.nix";
        key = "lib/modules.nix";
        options._module = {
          args = lib.mkOption { type = types.lazyAttrsOf types.raw; internal = true; };
          check = lib.mkOption { type = types.bool; default = check; internal = true; };
          freeformType = lib.mkOption { type = types.nullOr types.optionType; default = null; internal = true; };
          specialArgs = lib.mkOption { readOnly = true; internal = true; default = specialArgs; };
        };
        config._module.args = args;
      };
      collected = lib.reverseList (collect ({ inherit config options lib; } // specialArgs) (modules ++ [ internal ]));
      tree = mergeTree prefix
        (map (m: { inherit (m) file options; }) collected)
        (map (m: { inherit (m) file; value = m.config; }) collected);
      inherit (tree) options;
      declared = lib.mapAttrsRecursiveCond (v: !isOption v) (_: option: option.value) options;
      free = declared._module.freeformType;
      relative = def: { inherit (def) file; value = lib.setAttrByPath (lib.drop (length prefix) def.loc) def.value; };
      config =
        if free == null then declared
        else lib.recursiveUpdate (if tree.unmatched == [ ] then { } else free.merge prefix (map relative tree.unmatched)) declared;
      unknown = head tree.unmatched;
      checked = x:
        if declared._module.check && free == null && tree.unmatched != [ ] then
          throw "The option `${showOption unknown.loc}' does not exist. Definition values:${showDefs [ unknown ]}"
        else x;
    in
    {
      options = checked options;
      config = checked (removeAttrs config [ "_module" ]);
      _module = checked config._module;
      inherit class;
      type = types.submoduleWith { inherit modules specialArgs; };
      extendModules = more: evalModules (given // {
        modules = modules ++ more.modules or [ ];
        specialArgs = specialArgs // more.specialArgs or { };
        prefix = more.prefix or prefix;
      });
    };

  mergeDefinitions = loc: type: defs: rec {
    discharged = concatMap
      (def: map (value: { inherit (def) file; inherit value; })
        (addErrorContext "while evaluating definitions from `${toString def.file}':" (discharge def.value)))
      defs;
    priorityOf = def: if typeOf def.value == "override" then def.value.priority else defaultOverridePriority;
    highestPrio = lib.foldl' (lowest: def: lib.min lowest (priorityOf def)) 9999 discharged;
    strip = def: def // { value = if typeOf def.value == "override" then def.value.content else def.value; };
    winners = map strip (filter (def: priorityOf def == highestPrio) discharged);
    orderOf = def: if typeOf def.value == "order" then def.value.priority else defaultOrderPriority;
    defsFinal =
      if !any (def: typeOf def.value == "order") winners then winners
      else map (def: def // { value = if typeOf def.value == "order" then def.value.content else def.value; })
        (builtins.sort (a: b: orderOf a < orderOf b) winners);
    isDefined = defsFinal != [ ];
    invalid = filter (def: !type.check def.value) defsFinal;
    mergedValue =
      if !isDefined then throw "The option `${showOption loc}' was accessed but has no value defined. Try setting the option."
      else if invalid != [ ] then
        throw "A definition for option `${showOption loc}' is not of type `${type.description}'. Definition values:${showDefs invalid}"
      else type.merge loc defsFinal;
    optionalValue = if isDefined then { value = mergedValue; } else { };
  };

  mkIf = condition: content: property "if" { inherit condition content; };
  mkMerge = contents: property "merge" { inherit contents; };
  mkAssert = condition: message: mkIf (if condition then true else throw "\nFailed assertion: ${message}");
  mkOverride = priority: content: property "override" { inherit priority content; };
  mkOptionDefault = mkOverride 1500;
  mkDefault = mkOverride 1000;
  mkImageMediaOverride = mkOverride 60;
  mkForce = mkOverride 50;
  mkVMOverride = mkOverride 10;
  mkOrder = priority: content: property "order" { inherit priority content; };
  mkBefore = mkOrder 500;
  mkAfter = mkOrder 1500;
  defaultOverridePriority = 100;
  defaultPriority = 100;
  defaultOrderPriority = 1000;
  mkFixStrictness = x: x;
  mkAliasDefinitions = mkAliasAndWrapDefinitions (x: x);
  mkAliasAndWrapDefinitions = wrap: option: mkIf (option.isDefined or false) (wrap (mkMerge option.definitions));

  setDefaultModuleLocation = file: module: { _file = file; imports = [ module ]; };
  mkRenamedOptionModule = from: to: doRename { inherit from to; };
  mkAliasOptionModule = from: to: doRename { inherit from to; };
  doRename = { from, to, ... }: { config, options, ... }:
    let old = lib.getAttrFromPath from options; in
    {
      options = lib.setAttrByPath from (lib.mkOption {
        visible = false;
        description = "Alias of {option}`${showOption to}`.";
        type = types.anything;
        apply = _: lib.getAttrFromPath to config;
      });
      config = lib.setAttrByPath to (mkIf old.isDefined (mkMerge (map (mkOverride old.highestPrio) old.definitions)));
    };
  mkRemovedOptionModule = path: instead: { options, ... }:
    let old = lib.getAttrFromPath path options; in
    {
      options = lib.setAttrByPath path (lib.mkOption {
        visible = false;
        apply = _: throw "The option `${showOption path}' can no longer be used since it's been removed. ${instead}";
      });
      config.assertions = [{
        assertion = !old.isDefined;
        message = "The option definition `${showOption path}' in ${lib.showFiles old.files} no longer has any effect; please remove it.\n${instead}";
      }];
    };

}
