# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, pkgs, ... }:
let
  cfg = config.environment;
  inherit (lib) mkOption types;
  searchPath = lib.concatStringsSep ":" [
    "/run/wrappers/bin"
    "/root/.nix-profile/bin"
    "/nix/var/nix/profiles/default/bin"
    "/usr/local/sbin"
    "/usr/local/bin"
    "/usr/sbin"
    "/usr/bin"
    "/sbin"
    "/bin"
    "/run/current-system/sw/bin"
  ];
in
{
  options = {
    environment.systemPackages = mkOption {
      type = types.listOf types.package;
      default = [ ];
      description = "Packages in the system's path, `/run/current-system/sw`.";
    };
    environment.defaultPackages = mkOption {
      type = types.listOf types.package;
      default = [ ];
      description = "Packages in the system's path that can be left out.";
    };
    environment.pathsToLink = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Directories of the packages to link in the system's path.";
    };
    environment.variables = mkOption {
      type = types.attrsOf (types.either types.str (types.listOf types.str));
      default = { };
      apply = lib.mapAttrs (_: value: lib.concatStringsSep ":" (lib.toList value));
      description = "Environment variables of login shells.";
    };
    environment.sessionVariables = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Environment variables of every session.";
    };
    environment.shellAliases = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Aliases of login shells.";
    };
    environment.searchPath = mkOption {
      type = types.str;
      internal = true;
      readOnly = true;
      default = searchPath;
      description = "PATH of every session: the programs of the machine's own root, then the system's.";
    };
    time.timeZone = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "The machine's time zone.";
    };
    system.path = mkOption {
      internal = true;
      type = types.package;
      description = "The packages in the system's path.";
    };
  };

  config = {
    environment.systemPackages = lib.mkAfter [
      pkgs.systemd
      pkgs.nix
      pkgs.openssh
      pkgs.iproute2
      pkgs.sudo
      pkgs.procps
      pkgs.util-linux
      pkgs.shadow
      pkgs.busybox
    ];
    environment.pathsToLink = [ "/bin" "/sbin" "/share" "/lib" "/etc" ];
    environment.etc = {
      "profile.d/nixos.sh".text = lib.concatStrings (
        [ "export PATH=${searchPath}\n" ]
        ++ lib.mapAttrsToList (name: value: "export ${name}=${lib.escapeShellArg value}\n") (cfg.sessionVariables // cfg.variables)
        ++ lib.mapAttrsToList (name: value: "alias ${name}=${lib.escapeShellArg value}\n") cfg.shellAliases
      );
    } // lib.optionalAttrs (config.time.timeZone != null) {
      timezone.text = config.time.timeZone + "\n";
    };
    system.path = pkgs.buildEnv {
      name = "system-path";
      paths = cfg.systemPackages ++ cfg.defaultPackages;
      inherit (cfg) pathsToLink;
    };
  };
}
