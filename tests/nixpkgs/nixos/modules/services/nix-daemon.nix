# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, pkgs, ... }:
let
  cfg = config.nix;
  inherit (lib) mkOption mkRenamedOptionModule types;
  setting = old: new: mkRenamedOptionModule [ "nix" old ] [ "nix" "settings" new ];
  shown = value:
    if builtins.isBool value then lib.boolToString value else if builtins.isList value then toString value else "${toString value}";
  accept = type: default: mkOption { inherit type default; description = "Accepted, without effect on these machines."; };
in
{
  imports = [
    (setting "trustedUsers" "trusted-users")
    (setting "allowedUsers" "allowed-users")
    (setting "maxJobs" "max-jobs")
    (setting "buildCores" "cores")
    (setting "useSandbox" "sandbox")
    (setting "autoOptimiseStore" "auto-optimise-store")
    (setting "binaryCaches" "substituters")
    (setting "binaryCachePublicKeys" "trusted-public-keys")
  ];

  options.nix = {
    enable = mkOption { type = types.bool; default = true; description = "Whether Nix is set up."; };
    package = mkOption { type = types.package; default = pkgs.nix; description = "The Nix to use: the machine's own, whatever is given."; };
    settings = mkOption {
      type = types.submodule {
        freeformType = types.attrsOf (types.oneOf [ types.bool types.int types.str (types.listOf types.str) ]);
        options.trusted-users = mkOption { type = types.listOf types.str; default = [ "root" ]; description = "Users that may do anything with the store."; };
      };
      default = { };
      description = "Settings of `nix.conf`.";
    };
    extraOptions = mkOption { type = types.lines; default = ""; description = "More lines of `nix.conf`."; };
    nixPath = accept (types.listOf types.str) [ ];
    channel.enable = accept types.bool true;
    registry = accept (types.attrsOf types.anything) { };
    gc.automatic = accept types.bool false;
    gc.dates = accept types.str "03:15";
    gc.options = accept types.str "";
    optimise.automatic = accept types.bool false;
  };

  config = lib.mkIf cfg.enable {
    # The machine has neither build users, nor a sandbox, nor a way to a binary cache.
    nix.settings = {
      build-users-group = lib.mkDefault "";
      sandbox = lib.mkDefault false;
      substituters = lib.mkDefault [ ];
    };
    environment.etc."nix/nix.conf".text =
      lib.concatStrings (lib.mapAttrsToList (name: value: "${name} = ${shown value}\n") cfg.settings) + cfg.extraOptions;
    systemd.sockets.nix-daemon = {
      description = "Nix Daemon Socket";
      wantedBy = [ "sockets.target" ];
      before = [ "multi-user.target" ];
      listenStreams = [ "/nix/var/nix/daemon-socket/socket" ];
    };
    systemd.services.nix-daemon = {
      description = "Nix Daemon";
      restartTriggers = [ config.environment.etc."nix/nix.conf".source ];
      stopIfChanged = false;
      requires = [ "nix-daemon.socket" ];
      path = [ pkgs.nix pkgs.openssh ];
      serviceConfig = {
        ExecStart = "/usr/bin/nix-daemon --daemon";
        KillMode = "process";
      };
    };
  };
}
