# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  snippet = types.submodule {
    options = {
      text = mkOption { type = types.lines; description = "The snippet."; };
      deps = mkOption { type = types.listOf types.str; default = [ ]; description = "Snippets that come before."; };
      supportsDryActivation = mkOption { type = types.bool; default = false; description = "Whether the snippet is run by a dry activation too."; };
    };
  };
  snippets = config.system.activationScripts;
  place = done: name: if lib.elem name done then done else lib.foldl' place done snippets.${name}.deps ++ [ name ];
  ordered = lib.foldl' place [ ] (lib.attrNames snippets);
  # A snippet that fails ends there, and the next one is run all the same.
  block = name: ''
    #### Activation script snippet ${name}:
    (
    set -e
    ${snippets.${name}.text}
    )
    _localstatus=$?
    if [ "$_localstatus" -gt 0 ]; then
      printf "Activation script snippet '%s' failed (%s)\n" "${name}" "$_localstatus"
      _status=1
    fi
  '';
  script = names: ''
    #!${pkgs.runtimeShell}
    systemConfig='@out@'
    export PATH=${lib.makeBinPath [ pkgs.busybox pkgs.shadow pkgs.util-linux ]}:/usr/sbin:/usr/bin:/sbin:/bin
    _status=0
    umask 0022

    ${lib.concatMapStrings block names}
  '';
in
{
  options.system = {
    activationScripts = mkOption {
      type = types.attrsOf (types.coercedTo types.str (text: { inherit text; }) snippet);
      default = { };
      description = "Shell snippets run by every activation, at boot too.";
    };
    preSwitchChecks = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Shell snippets that must succeed for a switch to begin.";
    };
  };

  config = {
    system.activationScripts = {
      var = ''
        mkdir -p /var/lib/nixos /run/nixos /run/wrappers/bin /nix/var/nix/gcroots /nix/var/nix/daemon-socket
        if ! [ -s /etc/machine-id ]; then systemd-machine-id-setup >/dev/null; fi
      '';
      users.deps = [ "var" ];
      groups.deps = [ "var" ];
    };
    system.build.activate = pkgs.writeScript "activate" (script ordered + ''
      # Make this configuration the current one.
      ln -sfn "$(readlink -f "$systemConfig")" /run/current-system
      # Keep the current configuration from being collected.
      ln -sfn /run/current-system /nix/var/nix/gcroots/current-system

      exit "$_status"
    '');
    system.build.dryActivate = pkgs.writeScript "dry-activate" (
      script (lib.filter (name: snippets.${name}.supportsDryActivation) ordered) + "exit \"$_status\"\n");
    system.build.preSwitchChecks = pkgs.writeShellScript "pre-switch-checks" (lib.concatStrings (lib.mapAttrsToList
      (name: text: ''
        (
        set -e
        ${text}
        ) || { echo "Pre-switch check '${name}' failed" >&2; exit 1; }
      '')
      config.system.preSwitchChecks));
  };
}
