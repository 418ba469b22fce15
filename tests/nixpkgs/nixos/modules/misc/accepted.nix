# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Options that ordinary configurations set and that have no meaning on these machines: their types are checked,
# and no more.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  accept = type: default: mkOption { inherit type default; description = "Accepted, without effect on these machines."; };
  enable = accept types.bool false;
  strings = accept (types.listOf types.str) [ ];
  ports = accept (types.listOf types.port) [ ];
  ranges = accept (types.listOf (types.attrsOf types.port)) [ ];
in
{
  options = {
    fileSystems = accept
      (types.attrsOf (types.submodule {
        options = {
          device = accept (types.nullOr types.str) null;
          label = accept (types.nullOr types.str) null;
          fsType = accept types.str "auto";
          options = accept (types.listOf types.str) [ "defaults" ];
          neededForBoot = enable;
          autoFormat = enable;
        };
      }))
      { };
    swapDevices = accept (types.listOf (types.attrsOf types.anything)) [ ];
    hardware = {
      cpu.intel.updateMicrocode = enable;
      cpu.amd.updateMicrocode = enable;
      enableRedistributableFirmware = enable;
      enableAllFirmware = enable;
    };
    boot = {
      initrd.availableKernelModules = strings;
      initrd.kernelModules = strings;
      kernelModules = strings;
      extraModulePackages = accept (types.listOf types.package) [ ];
      supportedFilesystems = strings;
      kernel.sysctl = accept (types.attrsOf types.anything) { };
      tmp.cleanOnBoot = enable;
      cleanTmpDir = enable;
      growPartition = enable;
    };
    networking = {
      useDHCP = accept types.bool true;
      useNetworkd = enable;
      dhcpcd.enable = accept types.bool true;
      networkmanager.enable = enable;
      enableIPv6 = accept types.bool true;
      nameservers = strings;
      search = strings;
      domain = accept (types.nullOr types.str) null;
      hostId = accept (types.nullOr types.str) null;
      firewall = {
        enable = accept types.bool true;
        allowPing = accept types.bool true;
        allowedTCPPorts = ports;
        allowedUDPPorts = ports;
        allowedTCPPortRanges = ranges;
        allowedUDPPortRanges = ranges;
        trustedInterfaces = strings;
        logRefusedConnections = enable;
        extraCommands = accept types.lines "";
        interfaces = accept (types.attrsOf types.attrs) { };
      };
    };
    i18n.defaultLocale = accept types.str "en_US.UTF-8";
    console = accept types.attrs { };
    documentation.enable = accept types.bool true;
    documentation.man.enable = accept types.bool true;
    documentation.nixos.enable = accept types.bool true;
    programs = {
      bash.enableCompletion = accept types.bool true;
      fish.enable = enable;
      vim.defaultEditor = enable;
      zsh.enable = enable;
    };
    services = {
      timesyncd.enable = enable;
      qemuGuest.enable = enable;
      logrotate.enable = enable;
      journald.extraConfig = accept types.lines "";
      resolved.enable = enable;
    };
    system.autoUpgrade.enable = enable;
    powerManagement.enable = enable;
    zramSwap.enable = enable;
  };
}
