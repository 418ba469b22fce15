# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The light machines as a network; given.nix is written for each run.
let
  given = import ./given.nix;
  machine = index: {
    name = "machine${toString index}";
    value = {
      imports = [ ./machine.nix ];
      deployment.targetHost = "machine${toString index}";
    };
  };
in
builtins.listToAttrs (builtins.genList machine given.machines)
