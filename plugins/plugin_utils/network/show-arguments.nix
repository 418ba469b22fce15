# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Returns the arguments of the functions that are the files of a network, without the machines.
{ inputs }:

let
  given = builtins.fromJSON (builtins.readFile inputs);

  argumentsOf = value: if builtins.isFunction value then builtins.functionArgs value else { };

  # Which files are required seldom depends on an argument. A missing one is an error only if it is used.
  call =
    value:
    let
      formals = argumentsOf value;
      missing = name: throw "argument '${name}' is missing";
      needed = builtins.filter (name: !formals.${name}) (builtins.attrNames formals);
      given' = builtins.intersectAttrs formals given.arguments;
    in
    if !builtins.isFunction value then
      value
    else if formals == { } then
      value given.arguments
    else
      value (
        builtins.listToAttrs (
          map (name: {
            inherit name;
            value = missing name;
          }) needed
        )
        // given'
      );
  required =
    file:
    let
      files = (call (import file)).require or [ ];
      found = builtins.tryEval (builtins.deepSeq files files);
    in
    if found.success then found.value else [ ];

  key = file: { key = toString file; };
  closure = map (node: node.key) (
    builtins.genericClosure {
      startSet = map key given.files;
      operator = node: map key (required node.key);
    }
  );

  outputs =
    if builtins ? getFlake then
      builtins.getFlake given.flake
    else
      throw "this Nix is too old for flakes: Nix 2.4 or newer is needed";

  of = file: value: {
    inherit file;
    arguments = argumentsOf value;
  };
in
if given.flake == null then
  map (file: of file (import file)) closure
else
  [ (of given.flake (outputs.nixopsConfigurations.default or { })) ]
