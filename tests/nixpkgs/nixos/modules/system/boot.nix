# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, pkgs, ... }:
let
  cfg = config.boot;
  inherit (lib) mkOption types;
  accept = type: default: mkOption { inherit type default; description = "Accepted: the boot menu is systemd-boot's, whatever is enabled."; };
  menu = pkgs.writeScript "install-systemd-boot.sh" (lib.replaceStrings
    [ "@shell@" "@path@" "@timeout@" "@distroName@" ]
    [ pkgs.runtimeShell "${pkgs.busybox}/bin" (toString cfg.loader.timeout) config.system.nixos.distroName ]
    (builtins.readFile ./install-boot-menu.sh));
in
{
  options = {
    boot = {
      isContainer = mkOption { type = types.bool; default = false; description = "Whether the machine is a container, which has no boot menu."; };
      kernelPackages = mkOption { type = types.raw; default = pkgs.linuxPackages; description = "The kernel and its packages."; };
      kernelParams = mkOption { type = types.listOf types.str; default = [ ]; description = "Parameters of the kernel."; };
      loader = {
        timeout = mkOption { type = types.nullOr types.int; default = 5; apply = toString; description = "Seconds that the boot menu is shown."; };
        external.enable = mkOption { type = types.bool; default = false; description = "Whether the boot menu is written by a program of the user's."; };
        external.installHook = mkOption { type = types.path; description = "The program that writes the boot menu; its argument is the default toplevel."; };
        systemd-boot.enable = accept types.bool false;
        systemd-boot.configurationLimit = accept (types.nullOr types.int) null;
        efi.canTouchEfiVariables = accept types.bool false;
        efi.efiSysMountPoint = accept types.str "/boot";
        grub.enable = accept types.bool true;
        grub.version = accept types.int 2;
        grub.device = accept types.str "";
        grub.devices = accept (types.listOf types.str) [ ];
        grub.efiSupport = accept types.bool false;
      };
    };
  };

  config = {
    system.build.installBootLoader = lib.mkDefault (
      if cfg.isContainer then pkgs.writeShellScript "no-boot-loader" "exit 0"
      else if cfg.loader.external.enable then cfg.loader.external.installHook
      else menu
    );
    system.build.kernel = cfg.kernelPackages.kernel;
    system.build.initialRamdisk = pkgs.runCommand "initrd-linux-${cfg.kernelPackages.kernel.version}" { } ''
      mkdir $out
      echo "initrd of Linux ${cfg.kernelPackages.kernel.version}" >$out/initrd
    '';
  };
}
