# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.system;
  failed = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);

  toplevel = pkgs.runCommand "nixos-system-${cfg.name}-${cfg.nixos.label}"
    {
      kernelParams = toString config.boot.kernelParams;
      inherit (config.system.build) activate dryActivate etc installBootLoader preSwitchChecks;
      kernel = lib.optionalString (!config.boot.isContainer) config.system.build.kernel;
      initialRamdisk = lib.optionalString (!config.boot.isContainer) config.system.build.initialRamdisk;
      inherit (config.systemd) package;
      inherit (cfg.nixos) label;
      inherit (cfg) path;
      inherit (pkgs) system runtimeShell busybox;
      interfaceVersion = config.systemd.package.interfaceVersion;
      init = ./init.sh;
      switch = lib.optionalString (cfg.switch.enable || cfg.switch.enableNg) ./switch-to-configuration.sh;
      variant = if cfg.switch.enableNg then "ng" else "perl";
      configurationRevision = lib.optionalString (cfg.configurationRevision != null) cfg.configurationRevision;
      extraDependencies = map toString cfg.extraDependencies;
      passthru = { inherit config; };
    }
    (builtins.readFile ./toplevel.sh + cfg.extraSystemBuilderCmds + cfg.systemBuilderCommands);
in
{
  options.system = {
    switch.enableNg = mkOption { type = types.bool; default = false; description = "Whether to switch as switch-to-configuration-ng does."; };
    name = mkOption { type = types.str; default = if config.networking.hostName == "" then "unnamed" else config.networking.hostName; description = "The system's name."; };
    build = mkOption {
      type = types.lazyAttrsOf types.unspecified;
      default = { };
      description = "What can be built of the system.";
    };
    extraDependencies = mkOption {
      type = types.listOf types.pathInStore;
      default = [ ];
      description = "Store paths that are in the system's closure beside all others.";
    };
    extraSystemBuilderCmds = mkOption { type = types.lines; default = ""; internal = true; };
    systemBuilderCommands = mkOption { type = types.lines; default = ""; internal = true; };
  };

  config.system.build.toplevel =
    if failed != [ ] then throw "\nFailed assertions:\n${lib.concatMapStringsSep "\n" (message: "- ${message}") failed}"
    else lib.showWarnings config.warnings toplevel;
}
