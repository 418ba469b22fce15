# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Returns the value of an option of a machine, and where it is declared and defined.
{ inputs }:

let
  given = builtins.fromJSON (builtins.readFile inputs);
  source = import ./load.nix given;
  plain = import ./plain.nix;

  machine =
    source.machines.${given.machine} or (throw "the network has no machine called '${given.machine}', only ${
      builtins.concatStringsSep ", " (builtins.attrNames source.machines)
    }");

  named = builtins.concatStringsSep "." given.option;

  select =
    set: path:
    if path == [ ] then
      set
    else if builtins.isAttrs set && set ? ${builtins.head path} then
      select set.${builtins.head path} (builtins.tail path)
    else
      throw "machine '${given.machine}' has no option '${named}'";

  isOption = candidate: builtins.isAttrs candidate && (candidate._type or null) == "option";

  # The option on the path, and the path that is left inside of its value.
  find =
    set: path:
    if isOption set then
      {
        option = set;
        inside = path;
      }
    else if path == [ ] || !(builtins.isAttrs set && set ? ${builtins.head path}) then
      null
    else
      find set.${builtins.head path} (builtins.tail path);

  found = find machine.options given.option;
  inherit (found) option inside;

  # The parts of a definition at a path, without what lib.mkIf and the like put around them. A function is not looked into.
  dig =
    value: path:
    let
      kind = value._type or null;
    in
    if builtins.isFunction value then
      [ value ]
    else if kind == "if" then
      if value.condition then dig value.content path else [ ]
    else if kind == "override" then
      dig value.content path
    else if kind == "merge" then
      builtins.concatMap (one: dig one path) value.contents
    else if path == [ ] then
      [ value ]
    else if builtins.isAttrs value && value ? ${builtins.head path} then
      dig value.${builtins.head path} (builtins.tail path)
    else
      [ ];

  files = map toString (option.files or [ ]);
  definitions = option.definitions or [ ];
  defined = builtins.concatLists (
    builtins.genList (
      number:
      map (value: {
        file = builtins.elemAt files number;
        value = plain value;
      }) (dig (builtins.elemAt definitions number) inside)
    ) (builtins.length files)
  );
in
{
  value =
    if found == null || option.isDefined then plain (select machine.config given.option) else null;
  type = if found == null || inside != [ ] then null else option.type.description or null;
  declarations = if found == null then [ ] else map toString option.declarations;
  definitions = if found == null then [ ] else defined;
}
