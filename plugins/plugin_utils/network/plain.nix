# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Makes a value of a configuration plain data. What JSON does not have becomes text.
let
  text = builtins.unsafeDiscardStringContext;

  # Of a set of options, those that have no value must not hide the others.
  tried =
    value:
    let
      made = plain value;
      found = builtins.tryEval (builtins.deepSeq made made);
    in
    if found.success then found.value else "<error>";

  plain =
    value:
    if builtins.isFunction value then
      "<function>"
    else if builtins.isList value then
      map plain value
    else if builtins.isPath value then
      text (toString value)
    else if builtins.isString value then
      text value
    else if !builtins.isAttrs value then
      value
    else if value ? outPath then
      text (toString value.outPath)
    else
      builtins.mapAttrs (_: tried) value;
in
plain
