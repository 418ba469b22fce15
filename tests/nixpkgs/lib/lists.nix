# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ lib }:
let
  inherit (builtins) any elem elemAt filter foldl' genList head isList length sort;
in
rec {
  singleton = x: [ x ];
  foldr = op: nul: list: foldl' (acc: x: op x acc) nul (reverseList list);
  fold = foldr;
  foldl = foldl';
  imap0 = f: list: genList (n: f n (elemAt list n)) (length list);
  imap1 = f: list: genList (n: f (n + 1) (elemAt list n)) (length list);
  forEach = list: f: map f list;
  remove = x: filter (y: y != x);
  findFirst = wanted: default: list:
    let found = filter wanted list; in if found == [ ] then default else head found;
  findSingle = wanted: none: many: list:
    let found = filter wanted list; in
    if found == [ ] then none else if length found == 1 then head found else many;
  count = wanted: list: length (filter wanted list);
  optional = condition: x: if condition then [ x ] else [ ];
  optionals = condition: list: if condition then list else [ ];
  toList = x: if isList x then x else [ x ];
  flatten = x: if isList x then builtins.concatMap flatten x else [ x ];
  range = first: final: if first > final then [ ] else genList (n: first + n) (final - first + 1);
  replicate = n: x: genList (_: x) n;
  reverseList = list: let l = length list; in genList (n: elemAt list (l - n - 1)) l;
  last = list: elemAt list (length list - 1);
  init = list: sublist 0 (length list - 1) list;
  take = n: sublist 0 n;
  drop = n: list: sublist n (length list) list;
  sublist = start: n: list:
    let l = length list; in
    genList (i: elemAt list (start + i)) (lib.max 0 (if start + n > l then l - start else n));
  unique = foldl' (acc: x: if elem x acc then acc else acc ++ [ x ]) [ ];
  allUnique = list: length (unique list) == length list;
  intersectLists = a: filter (x: elem x a);
  subtractLists = a: filter (x: !elem x a);
  mutuallyExclusive = a: b: !any (x: elem x a) b;
  zipListsWith = f: a: b: genList (n: f (elemAt a n) (elemAt b n)) (lib.min (length a) (length b));
  zipLists = zipListsWith (fst: snd: { inherit fst snd; });
  sortOn = f: sort (a: b: f a < f b);
  naturalSort = sort (a: b: builtins.compareVersions a b < 0);
  crossLists = f: foldl' (fs: args: builtins.concatMap (g: map g args) fs) [ f ];
  groupBy = f: foldl' (acc: x: let key = f x; in acc // { ${key} = acc.${key} or [ ] ++ [ x ]; }) { };
  partition = builtins.partition;
}
