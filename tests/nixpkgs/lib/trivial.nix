# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ lib }:
let
  release = "24.05";
  esc = builtins.fromJSON "\"\\u001b\"";
in
{
  id = x: x;
  const = x: _: x;
  flip = f: a: b: f b a;
  pipe = builtins.foldl' (x: f: f x);
  concat = x: y: x ++ y;
  or = x: y: x || y;
  and = x: y: x && y;
  mergeAttrs = x: y: x // y;
  min = x: y: if x < y then x else y;
  max = x: y: if x > y then x else y;
  mod = base: n: base - n * (base / n);
  compare = a: b: if a < b then -1 else if a > b then 1 else 0;
  mapNullable = f: a: if a == null then null else f a;
  defaultTo = default: value: if value == null then default else value;
  boolToString = b: if b then "true" else "false";

  inherit release;
  trivial.release = release;
  version = "${release}.20240531.miniature";
  versionSuffix = ".20240531.miniature";
  codeName = "Uakari";
  nixpkgsVersion = "${release}.20240531.miniature";
  oldestSupportedRelease = 2311;
  isInOldestRelease = r: 2311 >= r;
  revisionWithDefault = default: default;
  inNixShell = builtins.getEnv "IN_NIX_SHELL" != "";
  inPureEvalMode = !(builtins ? currentSystem);

  importJSON = path: builtins.fromJSON (builtins.readFile path);
  importTOML = path: builtins.fromTOML (builtins.readFile path);

  warn = message: builtins.trace "${esc}[1;31mwarning: ${message}${esc}[0m";
  warnIf = condition: message: if condition then lib.warn message else x: x;
  warnIfNot = condition: lib.warnIf (!condition);
  info = message: builtins.trace "INFO: ${message}";
  showWarnings = warnings: x: builtins.foldl' (value: message: lib.warn message value) x warnings;
  throwIf = condition: message: if condition then throw message else x: x;
  throwIfNot = condition: lib.throwIf (!condition);

  setFunctionArgs = f: args: { __functor = _: f; __functionArgs = args; };
  functionArgs = f:
    if f ? __functor then f.__functionArgs or (lib.functionArgs (f.__functor f)) else builtins.functionArgs f;
  isFunction = f: builtins.isFunction f || (f ? __functor && lib.isFunction (f.__functor f));
  toFunction = v: if lib.isFunction v then v else _: v;
}
