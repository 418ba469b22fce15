# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, ... }:
let
  cfg = config.security.sudo;
  inherit (lib) mkOption types;
in
{
  options.security.sudo = {
    enable = mkOption { type = types.bool; default = true; description = "Whether sudo may be used."; };
    wheelNeedsPassword = mkOption { type = types.bool; default = true; description = "Whether users of the group wheel must give a password."; };
    extraConfig = mkOption { type = types.lines; default = ""; description = "More lines of sudoers."; };
  };

  config.environment.etc = lib.mkIf cfg.enable {
    "sudoers.d/nixos" = {
      mode = "0440";
      text = ''
        Defaults secure_path="${config.environment.searchPath}"
        root ALL=(ALL:ALL) SETENV: ALL
        %wheel ALL=(ALL:ALL) ${lib.optionalString (!cfg.wheelNeedsPassword) "NOPASSWD: "}SETENV: ALL
        ${cfg.extraConfig}
      '';
    };
  };
}
