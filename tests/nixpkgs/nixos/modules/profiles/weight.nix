# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# As many units, files of /etc and store paths as a small real system has, for tests that import it.
{ lib, ... }:
let
  numbered = prefix: count: value: lib.listToAttrs (lib.genList (number: lib.nameValuePair "${prefix}-${toString number}" (value number)) count);
  # Paths that need no builder.
  path = number: builtins.toFile "package-${toString number}-1.${toString number}" "path ${toString number}\n";
in
{
  systemd.services = numbered "idle" 140 (number: {
    description = "Does nothing (${toString number})";
    serviceConfig = {
      Type = "oneshot";
      ExecStart = "/bin/true";
    };
  });
  environment.etc = numbered "weight/file" 60 (number: { source = path (1000 + number); });
  system.extraDependencies = lib.genList path 270;
}
