# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Imports Nix files with builtins that report what they read. In restricted mode most builtins fail outside of the
# allowed directories, but a few answer as if nothing was there. Each report is a trace of one line:
# `nix.ops reads KIND "SUBJECT"`.
#
#   absent PATH     The path is missing, or not allowed; which of them, Nix does not say.
#   variable NAME   An environment variable.
#   volatile NAME   Something that can change at any time.
#   scope           This file is in use.
#
# `roots` are directories whose files are imported once, as by the builtin import. `search` is the search path, and
# `variables` are the environment's: restricted mode hides both.
{
  roots,
  search,
  variables,
}:

let
  plain = builtins;

  text = value: plain.unsafeDiscardStringContext (toString value);
  report =
    kind: subject: value:
    plain.trace "nix.ops reads ${kind} ${plain.toJSON (text subject)}" value;

  look = path: value: if plain.pathExists path then value else report "absent" path value;

  startsWith = prefix: string: plain.substring 0 (plain.stringLength prefix) string == prefix;
  isRevision = value: plain.isString value && plain.match "[0-9a-f]{40}|[0-9a-f]{64}" value != null;

  # A fetch with a hash or a revision always has the same result.
  isPinned =
    arguments:
    plain.isAttrs arguments
    && (
      (arguments.sha256 or "") != "" || (arguments.narHash or "") != "" || isRevision (arguments.rev or "")
    );
  fetch =
    name: arguments:
    (if isPinned arguments then (value: value) else report "volatile" name) (plain.${name} arguments);

  isAbsolute = path: startsWith "/" (text path);

  find =
    entries: name:
    let
      rest = prefix: plain.substring (plain.stringLength prefix) (-1) name;
      candidate =
        entry:
        if entry.prefix == "" then
          [ "${entry.path}/${name}" ]
        else if name == entry.prefix then
          [ "${entry.path}" ]
        else if startsWith "${entry.prefix}/" name then
          [ "${entry.path}${rest entry.prefix}" ]
        else
          [ ];
      first =
        candidates:
        let
          path = plain.head candidates;
        in
        if candidates == [ ] then
          [ ]
        else if !isAbsolute path then
          # A URL, for example.
          report "volatile" "search path" entries
        else if look path (plain.pathExists path) then
          [
            {
              inherit path;
              prefix = name;
            }
          ]
        else
          first (plain.tail candidates);
    in
    plain.findFile (first (plain.concatMap candidate entries)) name;

  overridden = importing: {
    import = importing;
    scopedImport = more: plain.scopedImport (scope importing // more);
    pathExists = path: look path (plain.pathExists path);
    readFile = path: look path (plain.readFile path);
    # Since Nix 2.19, directories above an allowed one can be read, but seem to hold nothing else.
    readDir =
      path:
      let
        isWhole = isBelowRoot path || startsWith "/nix/store/" (text path);
      in
      if isWhole then look path (plain.readDir path) else report "absent" path (plain.readDir path);
    readFileType = path: look path (plain.readFileType path);
    hashFile = type: path: look path (plain.hashFile type path);
    filterSource = function: path: look path (plain.filterSource function path);
    path = arguments: look arguments.path (plain.path arguments);
    findFile = find;
    nixPath = search;
    getEnv = name: report "variable" name (variables.${name} or "");
    currentTime = report "volatile" "currentTime" plain.currentTime;
    fetchurl = fetch "fetchurl";
    fetchTarball = fetch "fetchTarball";
    fetchGit = fetch "fetchGit";
    fetchMercurial = fetch "fetchMercurial";
    fetchTree = fetch "fetchTree";
    getFlake = fetch "getFlake";
    exec = fetch "exec";
    importNative = path: symbol: report "volatile" "importNative" (plain.importNative path symbol);
  };

  # Names that Nix does not define must stay undefined, or they would hide those of a `with`.
  scope =
    importing:
    let
      own = plain.intersectAttrs plain (overridden importing);
      wrapped = plain // own // { builtins = wrapped; };
      unprefixed = [
        "import"
        "scopedImport"
        "fetchTarball"
        "fetchGit"
        "fetchMercurial"
        "fetchTree"
      ];
      global = name: if plain.elem name unprefixed then name else "__${name}";
    in
    plain.listToAttrs (
      map (name: {
        name = global name;
        value = own.${name};
      }) (plain.attrNames own)
    )
    // {
      builtins = wrapped;
    };

  # The files below a directory, each imported when it is first used.
  below =
    importing: directory:
    plain.mapAttrs (
      name: type:
      let
        path = directory + "/${name}";
      in
      if type == "directory" then
        { entries = below importing path; }
      else if type == "regular" then
        { value = plain.scopedImport (scope importing) path; }
      else
        { }
    ) (plain.readDir directory);

  descend =
    node: names:
    if names == [ ] then
      node
    else
      descend (node.entries.${plain.head names} or { }) (plain.tail names);

  # An import function that parses and evaluates each file below these directories once.
  importFrom =
    directories:
    let
      trees = map (directory: {
        prefix = "${text directory}/";
        node.entries = below importing directory;
      }) directories;

      # An empty set if the file is not below them, or behind a symbolic link.
      fileOf =
        path:
        let
          whole = "${text path}/";
          within = plain.filter (tree: startsWith tree.prefix whole) trees;
          tree = plain.head within;
          inside = plain.substring (plain.stringLength tree.prefix) (-1) whole;
          names = plain.filter (part: plain.isString part && part != "") (plain.split "/" inside);
          node = descend tree.node names;
        in
        if !(plain.isPath path || plain.isString path) || within == [ ] then
          { }
        else
          node.entries."default.nix" or node;

      importing =
        path:
        let
          file = fileOf path;
        in
        if file ? value then file.value else look path (plain.scopedImport (scope importing) path);
    in
    importing;

  # A flake like that of the builtin getFlake, but with files that are imported in the scope.
  scoped =
    flake:
    if !(flake ? inputs && flake ? sourceInfo) then
      flake
    else
      let
        directory = flake.sourceInfo.outPath;
        inputs = plain.mapAttrs (_name: scoped) flake.inputs;
        outputs = (importFrom [ directory ] (directory + "/flake.nix")).outputs (
          inputs // { self = result; }
        );
        result =
          outputs
          // flake.sourceInfo
          // plain.intersectAttrs { _type = null; } flake
          // {
            inherit inputs outputs;
            inherit (flake) sourceInfo;
          };
      in
      result;

  main = importFrom roots;
  isBelowRoot = directory: plain.any (root: startsWith "${root}/" "${text directory}/") roots;

  # From 2.19 to 2.23, a copy of a directory above an allowed one lacks all else, and nothing tells of it.
  isBlind =
    plain.compareVersions plain.nixVersion "2.19" >= 0
    && plain.compareVersions plain.nixVersion "2.24" < 0;
in
if isBlind then
  throw "Nix ${plain.nixVersion} does not report what it reads"
else
{
  # Without this report, the others were not heard either.
  import = report "scope" "" main;
  importFrom = directory: if isBelowRoot directory then main else importFrom (roots ++ [ directory ]);
  getFlake = reference: scoped (plain.getFlake reference);
}
