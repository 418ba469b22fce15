# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, options, pkgs, ... }:
let
  cfg = config.system.nixos;
  inherit (lib) mkOption types;
  fixed = value: mkOption { type = types.str; readOnly = true; default = value; internal = true; };
in
{
  options.system = {
    nixos = {
      version = mkOption { type = types.str; default = "${cfg.release}${cfg.versionSuffix}"; internal = true; };
      label = mkOption { type = types.strMatching "[a-zA-Z0-9:_.-]*"; default = cfg.version; description = "Label in the boot menu."; };
      tags = mkOption { type = types.listOf types.str; default = [ ]; description = "Tags of the label."; };
      release = fixed lib.release;
      versionSuffix = mkOption { type = types.str; default = lib.versionSuffix; internal = true; };
      revision = mkOption { type = types.nullOr types.str; default = null; internal = true; };
      codeName = fixed lib.codeName;
      distroId = mkOption { type = types.str; default = "nixos"; internal = true; };
      distroName = mkOption { type = types.str; default = "NixOS"; internal = true; };
    };
    stateVersion = mkOption {
      type = types.str;
      default = cfg.release;
      description = "The release whose defaults the machine's state follows.";
    };
    configurationRevision = mkOption { type = types.nullOr types.str; default = null; description = "The revision of the configuration."; };
  };

  config = {
    warnings = lib.optional (options.system.stateVersion.highestPrio == 1500)
      "system.stateVersion is not set, defaulting to ${config.system.stateVersion}. Read why this matters on https://nixos.org/manual/nixos/stable/options.html#opt-system.stateVersion.";
    environment.systemPackages = [ (pkgs.writeShellScriptBin "nixos-version" "echo '${cfg.label} (${cfg.codeName})'") ];
    environment.etc.os-release.text = ''
      NAME=NixOS
      ID=nixos
      VERSION="${cfg.release} (${cfg.codeName})"
      VERSION_CODENAME=${lib.toLower cfg.codeName}
      VERSION_ID="${cfg.release}"
      BUILD_ID="${cfg.version}"
      PRETTY_NAME="NixOS ${cfg.release} (${cfg.codeName})"
      HOME_URL="https://nixos.org/"
    '';
  };
}
