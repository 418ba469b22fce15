# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The machines as a network; given.nix is written for each run.
let
  given = import ./given.nix;
  key = number: {
    name = "key${toString number}";
    value.keyFile = "${given.secrets}/key${toString number}";
  };
  keys = builtins.listToAttrs (builtins.genList key given.keys);
in
builtins.mapAttrs (_name: address: {
  imports = [ ./machine.nix ];
  deployment.targetHost = address;
  deployment.keys = if given.secrets == "" then { } else keys;
}) given.machines
