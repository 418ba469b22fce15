# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Loads the machines of network files or of a flake.
given:

let
  # With bounds, it is known what the files read.
  loader =
    if given.bounds != null then
      import ./scope.nix given.bounds
    else
      {
        inherit import;
        importFrom = _directory: import;
        getFlake =
          builtins.getFlake or (throw "this Nix is too old for flakes: Nix 2.4 or newer is needed");
      };
in
loader.import (if given.flake == null then ./network.nix else ./flake.nix) (
  given // { inherit loader; }
)
