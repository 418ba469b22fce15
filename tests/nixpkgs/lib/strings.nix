# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ lib }:
let
  inherit (builtins) concatStringsSep filter genList isString map match replaceStrings stringLength substring;
in
rec {
  concatStrings = concatStringsSep "";
  concatMapStrings = f: list: concatStrings (map f list);
  concatImapStrings = f: list: concatStrings (lib.imap1 f list);
  concatMapStringsSep = sep: f: list: concatStringsSep sep (map f list);
  concatImapStringsSep = sep: f: list: concatStringsSep sep (lib.imap1 f list);
  concatLines = concatMapStrings (line: line + "\n");
  intersperse = sep: list: lib.tail (lib.concatMap (x: [ sep x ]) list);
  makeSearchPath = dir: paths: concatStringsSep ":" (map (p: "${p}/${dir}") (filter (p: p != null) paths));
  makeSearchPathOutput = output: dir: pkgs: makeSearchPath dir (map (lib.getOutput output) pkgs);
  makeBinPath = makeSearchPathOutput "bin" "bin";
  makeLibraryPath = makeSearchPathOutput "lib" "lib";
  optionalString = condition: string: if condition then string else "";
  hasPrefix = prefix: string: substring 0 (stringLength prefix) string == prefix;
  hasSuffix = suffix: string:
    let n = stringLength string; m = stringLength suffix; in n >= m && substring (n - m) m string == suffix;
  hasInfix = infix: string: match ".*${escapeRegex infix}.*" "${string}" != null;
  removePrefix = prefix: string:
    if hasPrefix prefix string then substring (stringLength prefix) (-1) string else string;
  removeSuffix = suffix: string:
    if hasSuffix suffix string then substring 0 (stringLength string - stringLength suffix) string else string;
  stringToCharacters = string: genList (n: substring n 1 string) (stringLength string);
  stringAsChars = f: string: concatMapStrings f (stringToCharacters string);
  escape = chars: replaceStrings chars (map (c: "\\${c}") chars);
  escapeRegex = escape (stringToCharacters "\\[{()^$?*+|.");
  escapeShellArg = arg:
    let string = toString arg; in
    if match "[[:alnum:],._+:@%/-]+" string == null then "'${replaceStrings [ "'" ] [ "'\\''" ] string}'" else string;
  escapeShellArgs = concatMapStringsSep " " escapeShellArg;
  escapeNixString = string: escape [ "$" ] (builtins.toJSON string);
  escapeXML = replaceStrings [ "\"" "'" "<" ">" "&" ] [ "&quot;" "&apos;" "&lt;" "&gt;" "&amp;" ];
  lowerChars = stringToCharacters "abcdefghijklmnopqrstuvwxyz";
  upperChars = stringToCharacters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  toLower = replaceStrings upperChars lowerChars;
  toUpper = replaceStrings lowerChars upperChars;
  splitString = sep: string:
    filter isString (builtins.split (escapeRegex (toString sep)) (toString string));
  trim = string: builtins.head (match "[[:space:]]*(.*[^[:space:]]|)[[:space:]]*" string);
  versionOlder = a: b: builtins.compareVersions b a == 1;
  versionAtLeast = a: b: !versionOlder a b;
  getName = x: if isString x then (builtins.parseDrvName x).name else x.pname or (builtins.parseDrvName x.name).name;
  getVersion = x: if isString x then (builtins.parseDrvName x).version else x.version or (builtins.parseDrvName x.name).version;
  nameFromURL = url: sep: builtins.head (splitString sep (lib.last (splitString "/" url)));
  fixedWidthString = width: filler: string:
    if stringLength string >= width then string else fixedWidthString width filler (filler + string);
  fixedWidthNumber = width: n: fixedWidthString width "0" (toString n);
  toInt = string:
    let value = builtins.fromJSON string; in
    if builtins.isInt value then value else throw "Could not convert ${string} to int.";
  isStorePath = x:
    lib.isStringLike x && (let path = toString x; in builtins.substring 0 1 path == "/" && dirOf path == builtins.storeDir);
  isStringLike = x: isString x || builtins.isPath x || x ? outPath || x ? __toString;
  isConvertibleWithToString = x:
    isStringLike x || builtins.isNull x || builtins.isInt x || builtins.isFloat x || builtins.isBool x;
  isCoercibleToString = isConvertibleWithToString;
  sanitizeDerivationName = string:
    let clean = stringAsChars (c: if match "[[:alnum:]+._?=-]" c == null then "-" else c) (builtins.unsafeDiscardStringContext string); in
    if clean == "" then "unknown" else if hasPrefix "." clean then "-${clean}" else clean;
  readPathsFromFile = root: file: map (line: root + "/${line}") (filter (l: l != "" && !hasPrefix "#" l) (splitString "\n" (builtins.readFile file)));
  fileContents = file: removeSuffix "\n" (builtins.readFile file);
}
