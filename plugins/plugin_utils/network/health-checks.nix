# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Adds to the machine's closure what the commands of deployment.healthChecks refer to.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  referring = lib.filter builtins.hasContext config.deployment.healthChecks.commands;
in
{
  system.extraDependencies = lib.mkIf (referring != [ ]) [
    (pkgs.writeText "health-checks" (lib.concatMapStrings (command: command + "\n") referring))
  ];
}
