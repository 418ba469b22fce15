# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The path of a pinned source: of a pin of npins or niv, by the Nix file that the tool itself has written beside the
# pins, or of a locked input of a flake.
{ inputs }:
let
  given = builtins.fromJSON (builtins.readFile inputs);
  found = import (/. + given.file);
  # niv's file is a function, and npins' file of some versions too.
  pins = if builtins.isFunction found then found { } else found;
  source = if given ? locked then builtins.fetchTree given.locked else pins.${given.name};
in
"${source.outPath}"
